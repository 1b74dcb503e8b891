"""The command's entry: the table of commands, each imported when it is called, and the one place that prints an error and exits."""

import io
import os
import sys
from typing import Any, NamedTuple

import click

from hyperctl.app import App, Command, write_examples
from hyperctl.errors import FAILED, USAGE, CtlError, Exit
from runv import VERSION

EXAMPLES = """
hyperctl run -t busybox echo helloworld      the first one
hyperctl run -d --name web --publish 8080:80 nginx
hyperctl run -p pod.yaml                     a pod of several containers, or a Kubernetes manifest
hyperctl exec -t web sh                      a shell in it
hyperctl logs -f web
hyperctl rm -f web
"""


class Entry(NamedTuple):
    """``where``: module of hyperctl.commands and the name in it."""

    name: str
    where: str
    summary: str


GROUPS: tuple[tuple[str, tuple[Entry, ...]], ...] = (
    ("Pods and containers", (
        Entry("run", "run:run", "make and start a pod, and attach to it"),
        Entry("create", "run:create", "make a pod, or a container in one, without starting it"),
        Entry("start", "pods:start", "start pods or containers that exist"),
        Entry("stop", "pods:stop", "end pods or containers, kindly first"),
        Entry("restart", "pods:restart", "stop pods and start them again"),
        Entry("kill", "pods:kill", "send a signal"),
        Entry("pause", "pods:pause", "halt everything in a pod"),
        Entry("unpause", "pods:unpause", "let it go on"),
        Entry("rm", "pods:rm", "remove pods or containers"),
        Entry("wait", "pods:wait", "wait for the end, and print the exit code"),
        Entry("update", "pods:update", "change the size, the limits or the labels of pods that run"),
        Entry("rename", "pods:rename", "give a container another name"),
        Entry("exec", "process:exec_", "run one more process in a container, or in its machine"),
        Entry("attach", "process:attach", "attach to the process of a container"),
        Entry("cp", "copy:cp", "copy files between a container and here"),
        Entry("ports", "ports:ports", "list and change the published ports of a pod"),
        Entry("port-forward", "ports:port_forward", "reach a port of a pod from here"),
    )),
    ("What they do", (
        Entry("list", "show:list_", "list pods, containers or machines"),
        Entry("logs", "logs:logs", "what a container has written"),
        Entry("stats", "show:stats", "what pods use"),
        Entry("top", "show:top", "the processes of a pod"),
        Entry("events", "logs:events", "what happens, as it happens"),
        Entry("inspect", "show:inspect", "everything about something"),
        Entry("diff", "show:diff", "what a container has changed in its root"),
    )),
    ("Images", (
        Entry("images", "images:images", "list images"),
        Entry("pull", "images:pull", "get an image from a registry"),
        Entry("push", "images:push", "send an image to a registry"),
        Entry("rmi", "images:rmi", "remove images"),
        Entry("tag", "images:tag", "give an image one more name"),
        Entry("history", "images:history", "how an image was made"),
        Entry("commit", "images:commit", "make an image of what a container changed"),
        Entry("load", "images:load", "get images from an archive"),
        Entry("save", "images:save", "put images into an archive"),
        Entry("login", "login:login", "log in to a registry"),
        Entry("logout", "login:logout", "forget a registry's password"),
    )),
    ("Volumes, networks, the daemon", (
        Entry("volume", "volumes:volume", "named volumes"),
        Entry("network", "networks:network", "networks"),
        Entry("prune", "system:prune", "remove what nothing uses"),
        Entry("info", "system:info", "about the daemon and its host"),
        Entry("version", "system:version", "versions of hyperctl and hyperd"),
        Entry("completion", "system:completion", "print the completion of a shell"),
        Entry("help", "system:help_", "help about a command"),
    )),
)  # fmt: skip
COMMANDS = {entry.name: entry for _, entries in GROUPS for entry in entries}
# What users of other tools type.
ALIASES = {"ps": "list", "ls": "list", "resume": "unpause", "delete": "rm", "volumes": "volume", "networks": "network", "port": "ports"}


class Program(click.Group):
    """Imports a command when it is asked for, and never for the list of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        entry = COMMANDS.get(ALIASES.get(name, name))
        if entry is None:
            return None
        from importlib import import_module

        module, _, attribute = entry.where.partition(":")
        found: click.Command = getattr(import_module(f"hyperctl.commands.{module}"), attribute)
        return found

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in ALIASES and name not in COMMANDS and not name.startswith("-"):
            raise click.UsageError(f"there is no command {name!r}{_suggestion(name)}", ctx)
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[click.shell_completion.CompletionItem]:
        from click.shell_completion import CompletionItem

        if incomplete.startswith("-"):
            return click.Command.shell_complete(self, ctx, incomplete)
        return [CompletionItem(e.name, help=e.summary) for e in COMMANDS.values() if e.name.startswith(incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, entries in GROUPS:
            with formatter.section(title):
                formatter.write_dl([(entry.name, entry.summary) for entry in entries])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_examples(formatter, EXAMPLES)


@click.group("hyperctl", cls=Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("-H", "--host", metavar="HOST", help="The daemon: unix:///path/of/socket or tcp://name:port.")
@click.option("--tlscacert", metavar="FILE", help="The authority that the daemon's certificate must be of.")
@click.option("--tlscert", metavar="FILE", help="The certificate that the daemon is shown.")
@click.option("--tlskey", metavar="FILE", help="The key of --tlscert.")
@click.option("--debug", is_flag=True, help="Show where an internal error comes from.")
@click.version_option(VERSION, message="hyperctl version %(version)s")
@click.pass_context
def cli(ctx: click.Context, /, **given: Any) -> None:
    """Pods, each with a kernel of its own, and their images, volumes and networks: the client of hyperd."""
    ctx.obj = App(given, dict(os.environ))


def main() -> None:
    """Runs the command line and exits."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what the locale has no letter for is no reason to fail
    status = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except OSError:
        status = status or FAILED
    # Nothing is left to finalise, and threads that wait for a peer or a key are not to hold it up.
    os._exit(status)


def run(argv: list[str]) -> int:
    """The status of a command line, its errors printed."""
    try:
        done = cli.main(argv, prog_name="hyperctl", standalone_mode=False)
    except click.UsageError as error:
        error.show()
        return _usage_status(error)
    except click.ClickException as error:
        _complain(error.format_message())
        return FAILED
    except CtlError as error:
        _complain(error.message, error.hint)
        return FAILED if error.exit_code is None else error.exit_code
    except Exit as ended:
        return ended.status
    except (KeyboardInterrupt, click.Abort):
        return 130
    except BrokenPipeError:
        _quiet_stdout()
        return FAILED
    except UnicodeEncodeError as error:
        _complain(f"{os.fsencode(str(error.object))[:100]!r}: it is not UTF-8")
        return FAILED
    except OSError as error:
        _complain(f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error))
        return FAILED
    except Exception as error:  # a mistake of ours: one line all the same; --debug has the rest
        _complain(f"internal error: {type(error).__name__}: {error}")
        if "--debug" in argv:
            raise
        return FAILED
    return done if isinstance(done, int) else 0


def _complain(message: str, hint: str = "") -> None:
    from hyperctl.output import clean

    try:
        sys.stdout.flush()
    except OSError:
        _quiet_stdout()
    print(f"hyperctl: {clean(message)}" + (f"\n  {clean(hint)}" if hint else ""), file=sys.stderr)


def _quiet_stdout() -> None:
    """Nobody reads it any more, and that is no reason to complain at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _usage_status(error: click.UsageError) -> int:
    found = error.ctx.command if error.ctx else None
    return found.failure if isinstance(found, Command) and found.failure != FAILED else USAGE


def _suggestion(name: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, [*COMMANDS, *ALIASES], 1)
    return f"; did you mean {near[0]}?" if near else "; `hyperctl --help` lists them"
