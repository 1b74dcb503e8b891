"""What a container's first process and its later ones have in common. Light: ``exec`` needs nothing of what makes a machine."""

from typing import Any, NamedTuple

from runv.sandbox import standin


class Options(NamedTuple):
    """The flags of ``create`` and ``run`` that matter here. Paths are absolute or empty. ``starts``: the start follows at once."""

    bundle: str
    pid_file: str = ""
    console_socket: str = ""
    foreground: bool = False
    systemd_cgroup: bool = False
    starts: bool = False


def guest_process(process: dict[str, Any]) -> dict[str, Any]:
    """A process as the guest is to see it. The host's security modules have no profiles there: the machine is the confinement."""
    return {key: value for key, value in process.items() if key not in ("apparmorProfile", "selinuxLabel")}


def open_terminal(process: Any, options: Options) -> standin.Terminal:
    """The terminal a process wants, made when there is a console socket to send it to."""
    if not process.terminal:
        return standin.Terminal("none")
    if options.foreground:
        return standin.Terminal("foreground")
    size = process.console_size
    return standin.open_console(options.console_socket, (size.height, size.width) if size else None)
