"""What a container's first process and its later ones have in common. Light: ``exec`` needs nothing of what makes a machine."""

from runv.sandbox.residents import standin

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from typing import Any

    from runv.spec.process import Process


class Options:
    """The flags of ``create`` and ``run`` that matter here. Paths are absolute or empty. ``starts``: the start follows at once."""

    __slots__ = ("bundle", "console_socket", "foreground", "pid_file", "starts", "systemd_cgroup")

    def __init__(
        self,
        bundle: str,
        *,
        pid_file: str = "",
        console_socket: str = "",
        foreground: bool = False,
        systemd_cgroup: bool = False,
        starts: bool = False,
    ) -> None:
        self.bundle = bundle
        self.pid_file = pid_file
        self.console_socket = console_socket
        self.foreground = foreground
        self.systemd_cgroup = systemd_cgroup
        self.starts = starts


def guest_process(process: "dict[str, Any]") -> "dict[str, Any]":
    """A process as the guest is to see it. The host's security modules have no profiles there: the machine is the confinement."""
    return {key: value for key, value in process.items() if key not in ("apparmorProfile", "selinuxLabel")}


def open_terminal(process: "Process | None", options: Options) -> standin.Terminal:
    """The terminal a process wants, made when there is a console socket to send it to."""
    if process is None or not process.terminal:
        return standin.Terminal("none")
    if options.foreground:
        return standin.Terminal("foreground")
    size = process.console_size
    return standin.open_console(options.console_socket, (size.height, size.width) if size else None)
