"""The command's entry: parse, run, and the one place that prints an error and exits."""

import os
import sys

from runv import OCI_VERSION, VERSION
from runv.cli.parse import Parsed, parse
from runv.errors import RunvError, UsageError
from runv.log import Log

_EXEC_FAILED = 255
_MESSAGE_MAX = 2000
_PREFIX = {"create": "runv create failed: ", "run": "runv run failed: ", "exec": "exec failed: "}


def main() -> None:
    """Runs the command line and exits."""
    argv = sys.argv[1:]
    log = Log()
    command = ""
    try:
        parsed = parse(argv)
        log = _log(parsed)
        command = parsed.command.name if parsed.command else ""
        status = _dispatch(parsed, log)
    except UsageError as error:
        status = _usage(error, log)
    except RunvError as error:
        log.error(_PREFIX.get(command, "") + _sentence(error))
        status = _EXEC_FAILED if command == "exec" else error.exit_code
    except BrokenPipeError:
        status = 1
    except OSError as error:  # something the library did not expect to fail: still one clear line
        log.error(f"{_PREFIX.get(command, '')}cannot go on: {_os_sentence(error)}")
        status = _EXEC_FAILED if command == "exec" else 1
    except KeyboardInterrupt:
        status = 130
    except Exception as error:  # a mistake of ours: callers parse one line all the same; --debug has the rest
        log.error(f"{_PREFIX.get(command, '')}internal error: {type(error).__name__}: {error}")
        log.debug(_traceback())
        status = _EXEC_FAILED if command == "exec" else 1
    _exit(status)


def _exit(status: int) -> None:
    try:
        sys.stdout.flush()
    except OSError:
        status = status or 1
    # Nothing is left to finalise, and tearing the interpreter down takes as long as some commands.
    os._exit(status)


def _traceback() -> str:
    import traceback

    return traceback.format_exc()


def _sentence(error: RunvError) -> str:
    text = f"{error} ({error.hint})" if error.hint else str(error)
    if len(text) <= _MESSAGE_MAX:
        return text
    # What is too long is a value somebody gave us; who it is about stands before it, and the cause behind.
    return f"{text[: _MESSAGE_MAX // 2]} ... {text[-_MESSAGE_MAX // 2 :]}"


def _os_sentence(error: OSError) -> str:
    from runv.errors import reason

    return f"{error.filename}: {reason(error)}" if error.filename else reason(error)


def _log(parsed: Parsed) -> Log:
    kind = str(parsed.globals["log-format"]) or "text"
    if kind not in ("text", "json"):
        raise UsageError(f"unknown log-format {kind!r}", hint="it is text or json")
    path = str(parsed.globals["log"])
    return Log(os.path.abspath(path) if path else "", kind, debug=bool(parsed.globals["debug"]))


def _usage(error: UsageError, log: Log) -> int:
    if error.command:
        from runv.cli.help import print_help

        print("Incorrect Usage.\n")
        print_help(error.command)
    log.error("runv: " + _sentence(error))
    return error.exit_code


def _dispatch(parsed: Parsed, log: Log) -> int:
    if parsed.globals["version"]:
        print(f"runv version {VERSION}\nspec: {OCI_VERSION}")
        return 0
    if parsed.command is None or parsed.globals["help"] or parsed.flags["help"]:
        from runv.cli.help import print_help

        print_help(parsed.command.name if parsed.command else "")
        return 0
    from runv.cli import commands

    return commands.run(parsed, log)
