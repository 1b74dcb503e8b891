"""The commands: flags in, one call into ``runv.sandbox``, output. Heavy modules are imported by the command that needs them."""

import os
import sys

from runv.cli.parse import Parsed
from runv.errors import ConfigError, UsageError
from runv.files import read_text
from runv.log import Log
from runv.quick import loads
from runv.state import Container, check_id, default_root

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from collections.abc import Callable

    from runv.agent.client import Agent
    from runv.processes import Identity
    from runv.sandbox.process import Options


def run(parsed: Parsed, log: Log) -> int:
    """Runs one command and returns its exit status."""
    assert parsed.command is not None
    return _COMMANDS[parsed.command.name](parsed, log)


def _root(parsed: Parsed) -> str:
    root = os.path.abspath(str(parsed.globals["root"]) or default_root())
    if root == "/":
        raise UsageError("cannot use / as the state root")
    return root


def _container(parsed: Parsed) -> Container:
    check_id(parsed.arguments[0])
    return Container(_root(parsed), parsed.arguments[0])


def _absolute(path: str) -> str:
    return os.path.abspath(path) if path else ""


def _create_options(parsed: Parsed, *, foreground: bool, starts: bool = False) -> "Options":
    from runv.sandbox.process import Options

    _refuse_descriptors(parsed)
    return Options(
        bundle=os.path.abspath(parsed.text("bundle") or "."),
        pid_file=_absolute(parsed.text("pid-file")),
        console_socket=_absolute(parsed.text("console-socket")),
        foreground=foreground,
        systemd_cgroup=bool(parsed.globals["systemd-cgroup"]) or parsed.globals["cgroup-manager"] == "systemd",
        starts=starts,
    )


def _refuse_descriptors(parsed: Parsed) -> None:
    if parsed.flags["preserve-fds"]:
        raise ConfigError("cannot preserve file descriptors: they cannot enter a virtual machine")


def _create(parsed: Parsed, log: Log) -> int:
    from runv import settings
    from runv.sandbox.create import create

    create(_root(parsed), parsed.arguments[0], _create_options(parsed, foreground=False), settings.load(), log)
    return 0


def _start(parsed: Parsed, log: Log) -> int:
    _start_container(_container(parsed), log, foreground=False)
    return 0


def _start_container(container: Container, log: Log, starter: "Agent | None" = None, *, foreground: bool) -> None:
    """With the variable set somebody waits to hear that the container is ready: systemd, or Podman on its behalf."""
    from runv.sandbox import lifecycle

    if not os.environ.get("NOTIFY_SOCKET"):
        lifecycle.start(container, log, starter)
        return
    from runv.sandbox.residents import notify

    notify.start(container, log, starter, foreground=foreground)


def _run(parsed: Parsed, log: Log) -> int:
    from runv import settings
    from runv.sandbox import foreground
    from runv.sandbox.create import create

    options = _create_options(parsed, foreground=not parsed.on("detach"), starts=True)
    container = _container(parsed)
    with foreground.held_signals():
        process, starter = create(container.root, container.id, options, settings.load(), log)
        stays = options.foreground
        return _attend(container, process, parsed, log, lambda: _start_container(container, log, starter, foreground=stays), stays=stays)


def _attend(container: Container, process: "Identity", parsed: Parsed, log: Log, begin: "Callable[[], object]", *, stays: bool) -> int:
    """Has the program begin, and waits for its end if runv stays for it. The container goes with it, unless it is to be kept, and goes if this fails."""
    from runv.sandbox import foreground, lifecycle

    terminal = stays and _has_terminal(container)
    try:
        with foreground.raw_terminal(terminal):
            begin()
            if not stays:
                return 0
            status = foreground.wait(process, terminal=terminal)
    except BaseException:
        lifecycle.delete(container, log, force=True)
        raise
    if not parsed.on("keep"):
        lifecycle.delete(container, log, force=True)
    return status


def _has_terminal(container: Container) -> bool:
    return bool(loads(read_text(container.path("config.json")))["process"].get("terminal"))


def _kill(parsed: Parsed, log: Log) -> int:
    from runv.cli.signals import signal_number
    from runv.sandbox import lifecycle

    number = signal_number(parsed.arguments[1] if len(parsed.arguments) > 1 else "TERM")
    lifecycle.kill(_container(parsed), number, everyone=parsed.on("all"))
    return 0


def _delete(parsed: Parsed, log: Log) -> int:
    container = _container(parsed)
    if parsed.on("force") and not container.exists():
        return 0  # containerd deletes each container once more, to be sure: that is to cost nothing
    from runv.sandbox import lifecycle

    lifecycle.delete(container, log, force=parsed.on("force"))
    return 0


def _pause(parsed: Parsed, log: Log) -> int:
    from runv.sandbox.pause import pause

    pause(_container(parsed), machine=parsed.on("vm"))
    return 0


def _resume(parsed: Parsed, log: Log) -> int:
    from runv.sandbox.pause import resume

    resume(_container(parsed), machine=parsed.on("vm"))
    return 0


def _checkpoint(parsed: Parsed, log: Log) -> int:
    from runv.cli.checkpoint import image_path
    from runv.sandbox.saved.checkpoint import checkpoint

    checkpoint(_container(parsed), image_path(parsed), log, leave_running=parsed.on("leave-running"))
    return 0


def _restore(parsed: Parsed, log: Log) -> int:
    from runv import settings
    from runv.cli.checkpoint import options_of, request_of
    from runv.sandbox import foreground
    from runv.sandbox.saved.restore import restore

    container, request = _container(parsed), request_of(parsed)
    options = options_of(parsed)
    with foreground.held_signals():
        process = restore(container.root, container.id, options, request, settings.load(), log)
        return _attend(container, process, parsed, log, lambda: None, stays=options.foreground)


def _update(parsed: Parsed, log: Log) -> int:
    from runv.cli.update import resources_of, size_of

    if parsed.on("vm"):
        from runv.sandbox.machine.resize import resize

        resize(_container(parsed), size_of(parsed), log)
        return 0
    from runv.sandbox.update import update

    update(_container(parsed), resources_of(parsed), log)
    return 0


def _events(parsed: Parsed, log: Log) -> int:
    import gc
    import json

    from runv.cli.durations import seconds
    from runv.sandbox import events

    interval_s = seconds(parsed.text("interval") or "5s")
    if interval_s <= 0:
        raise UsageError("duration interval must be greater than 0")
    container = _container(parsed)
    gc.enable()  # it may go on for weeks
    for event in [events.once(container)] if parsed.on("stats") else events.stream(container, interval_s):
        print(json.dumps(event), flush=True)
    return 0


def _state(parsed: Parsed, log: Log) -> int:
    from runv.cli.show import state

    print(state(_container(parsed)), end="")
    return 0


def _list(parsed: Parsed, log: Log) -> int:
    from runv.cli.show import container_list

    sys.stdout.write(container_list(_root(parsed), _format(parsed), quiet=parsed.on("quiet")))
    return 0


def _format(parsed: Parsed) -> str:
    kind = parsed.text("format") or "table"
    if kind not in ("table", "json"):
        raise UsageError("invalid format option", hint="it is table or json")
    return kind


def _ps(parsed: Parsed, log: Log) -> int:
    from runv.cli.show import process_list

    sys.stdout.write(process_list(_container(parsed), _format(parsed)))
    return 0


def _exec(parsed: Parsed, log: Log) -> int:
    from runv import settings
    from runv.cli.exec import options_of, process_of
    from runv.sandbox import foreground
    from runv.sandbox.execute import execute
    from runv.spec.ignored import in_process

    _refuse_descriptors(parsed)
    container = _container(parsed)
    process, raw = process_of(container, parsed)
    options = options_of(parsed, process)
    with foreground.held_signals():
        terminal = options.foreground and process.terminal
        with foreground.raw_terminal(terminal):
            started = execute(
                container, process, raw, options, settings.load(), ignore_paused=parsed.on("ignore-paused")
            )
            for sentence in in_process(process, "process"):
                log.warning(sentence)
            if not options.foreground:
                return 0
            status = foreground.wait(started.identity, terminal=terminal)
    if os.path.exists(started.pid_file):
        os.unlink(started.pid_file)
    return status


def _archive(parsed: Parsed, log: Log) -> int:
    from runv import settings
    from runv.sandbox import archive

    action, name, *path = parsed.arguments
    check_id(name)
    return archive.run(Container(_root(parsed), name), archive.check(action, *path), settings.load())


def _spec(parsed: Parsed, log: Log) -> int:
    import json

    from runv.errors import HostError
    from runv.spec.default import default_config

    path = os.path.join(parsed.text("bundle") or ".", "config.json")
    try:
        with open(path, "x", encoding="utf-8") as file:
            json.dump(default_config(), file, indent="\t")
            file.write("\n")
    except FileExistsError:
        raise ConfigError(f"File {path.removeprefix('./')} exists. Remove it first") from None
    except OSError as error:
        raise HostError(f"write {path}", error) from error
    return 0


def _features(parsed: Parsed, log: Log) -> int:
    import json

    from runv.cli.features import features

    print(json.dumps(features(), indent=2))
    return 0


def _volume(parsed: Parsed, log: Log) -> int:
    from runv.cli.volume import run

    check_id(parsed.arguments[1])
    run(Container(_root(parsed), parsed.arguments[1]), parsed, _format(parsed))
    return 0


def _interface(parsed: Parsed, log: Log) -> int:
    check_id(parsed.arguments[1])
    if parsed.arguments[0] == "sync" and len(parsed.arguments) == 2:
        from runv.sandbox.links.follow import sync

        sync(Container(_root(parsed), parsed.arguments[1]))
        return 0
    from runv.cli.interface import run

    run(Container(_root(parsed), parsed.arguments[1]), parsed, _format(parsed))
    return 0


def _factory(parsed: Parsed, log: Log) -> int:
    import gc

    from runv import settings
    from runv.cli.factory import run

    gc.enable()  # a server goes on for weeks
    of = "".join(parsed.arguments[1:])
    return run(_root(parsed), parsed.arguments[0], of, parsed.number("nics"), _format(parsed), settings.load(), log)


def _completion(parsed: Parsed, log: Log) -> int:
    from runv.cli.completion import SHELLS, script

    if parsed.arguments[0] not in SHELLS:
        raise UsageError(
            f"no completion for {parsed.arguments[0]}",
            command="completion",
            hint=f"there is one for {', '.join(SHELLS)}",
        )
    sys.stdout.write(script(parsed.arguments[0]))
    return 0


def _config(parsed: Parsed, log: Log) -> int:
    from runv import settings
    from runv.cli.report import show_settings

    show_settings(settings.load(), _format(parsed))
    return 0


def _check(parsed: Parsed, log: Log) -> int:
    from runv import settings
    from runv.cli.report import show_check

    return show_check(settings.load(), _format(parsed))


_COMMANDS: "dict[str, Callable[[Parsed, Log], int]]" = {
    "create": _create,
    "start": _start,
    "run": _run,
    "state": _state,
    "kill": _kill,
    "delete": _delete,
    "exec": _exec,
    "archive": _archive,
    "pause": _pause,
    "resume": _resume,
    "checkpoint": _checkpoint,
    "restore": _restore,
    "update": _update,
    "events": _events,
    "list": _list,
    "ps": _ps,
    "spec": _spec,
    "features": _features,
    "factory": _factory,
    "completion": _completion,
    "interface": _interface,
    "volume": _volume,
    "config": _config,
    "check": _check,
}
