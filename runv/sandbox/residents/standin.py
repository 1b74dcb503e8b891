"""The host process that stands for a container process: its start, and handing it the process's connections."""

import os

from runv import cgroups
from runv.errors import HostError, RunvError
from runv.files import connect_unix
from runv.processes import Identity, spawn
from runv.quick import Socket, dumps, send_fds, socket

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from collections.abc import Callable

    from runv.agent.client import Agent

_CONFIG_TIMEOUT_S = 30.0
_PTY_NAME = b"/dev/ptmx"

# Of a process without a terminal
STREAMS = ("stdin", "stdout", "stderr")


class Terminal:
    """How the process's terminal reaches the user. ``kind``: ``none``, ``pty`` (``fd`` is our end, the slave) or ``foreground``."""

    __slots__ = ("fd", "kind")

    def __init__(self, kind: str, fd: int = -1) -> None:
        self.kind = kind
        self.fd = fd


class Standin:
    """A stand-in that waits for its process: who it is and the socket it is configured over."""

    __slots__ = ("config", "identity")

    def __init__(self, identity: Identity, config: socket.socket) -> None:
        self.identity = identity
        self.config = config


def start(
    program: str,
    label: str,
    *,
    pid_file: str,
    groups: list[str],
    network: str,
    foreground_terminal: bool,
    own_mounts: bool = False,
    meanwhile: "Callable[[], object]" = lambda: None,
) -> Standin:
    """Starts a stand-in with our own stdio. With mounts of its own it is in all its namespaces when this returns, else when ``attach`` does.

    :param own_mounts: whether it gets a mount namespace of its own (``runv.sandbox.view``), a copy of ours that follows it
    :param meanwhile: called while it enters all that
    :param network: path of the network namespace it joins; empty for a new one
    :raise HostError: it could not be started
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    argv = [program, "--config-fd", str(theirs.fileno()), "--label", label]
    keep = [theirs.fileno()]
    try:
        if network and not own_mounts:
            # The program joins it: what does so from here takes longer to import than all else that `exec` does.
            keep.append(_open_network(network))
            argv += ["--network-fd", str(keep[1])]
        identity = spawn(
            argv,
            env={},
            stdio=(0, 1, 2),
            keep=keep,
            pid_file=pid_file,
            # With the user's own terminal it must get the terminal's signals, so it stays in our session.
            session=not foreground_terminal,
            # Where the program joins the rest by itself the guest works while the kernel is waited for, and ctypes would be for this alone.
            entry=cgroups.Entry(groups, forks=own_mounts or not network),
            prepare=lambda: _prepare(network, own_mounts=own_mounts),
            meanwhile=meanwhile,
        )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
        for fd in keep[1:]:
            os.close(fd)
    return Standin(identity, ours)


def _open_network(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise HostError(f"open network namespace {path}", error) from error


def _prepare(network: str, *, own_mounts: bool) -> None:
    if network and not own_mounts:
        return
    from runv import linux

    if network:
        linux.join(network, linux.CLONE_NEWNET)
    else:
        linux.unshare(linux.CLONE_NEWNET)
    if own_mounts:
        linux.unshare(linux.CLONE_NEWNS)
        linux.mount("none", "/", None, linux.MS_REC | linux.MS_SLAVE)


def attach(
    standin: Standin,
    agent: "Agent",
    container: str,
    process: str,
    terminal: Terminal,
    *,
    memory_group: str = "",
    execs: str = "",
    sync: tuple[str, ...] = (),
) -> None:
    """Opens the process's streams and gives them, and ``agent``'s own connection, to the stand-in, which owns the process from then on.

    :param memory_group: the host's cgroup that is to have an out-of-memory event for each one in the container
    :param execs: a folder of pid files: it ends after these processes, or a few seconds later than it would
    :param sync: the command to run, in our own namespaces, when something changes in the network namespace that the stand-in is in
    :raise RunvError: a stream could not be opened, or the stand-in has ended
    """
    names = STREAMS if terminal.kind == "none" else ("tty",)
    streams: list[socket.socket] = []
    home: list[int] = []
    try:
        streams = agent.streams(container, process, names)
        config: dict[str, object] = {"container": container, "process": process, "terminal": terminal.kind}
        if memory_group:
            config["memory"] = memory_group
        if execs:
            config["execs"] = execs
        if sync:
            config["sync"] = sync
            for kind in ("mnt", "net"):
                home.append(os.open(f"/proc/self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC))  # noqa: PERF401 - closed below when one fails
        message = dumps(config).encode()
        fds = [agent.detach().fileno(), *(stream.fileno() for stream in streams), *([terminal.fd] if terminal.kind == "pty" else []), *home]
        _configure(standin.config, message, fds)
    finally:
        for stream in streams:
            stream.close()
        for fd in home:
            os.close(fd)
        agent.close()
        standin.config.close()


def _configure(config: socket.socket, message: bytes, fds: list[int]) -> None:
    config.settimeout(_CONFIG_TIMEOUT_S)
    try:
        send_fds(config, message, fds)
        answer = config.recv(4096)
    except OSError as error:
        raise HostError("configure the stand-in", error) from error
    if answer != b'{"ok":true}':
        raise RunvError(f"cannot configure the stand-in: {answer.decode(errors='replace') or 'it has ended'}")


def open_console(console_socket: str, size: tuple[int, int] | None) -> Terminal:
    """Makes a pty and sends its master over ``console_socket``, as runc does. ``size``: rows and columns.

    :raise HostError: nobody listens there
    """
    import tty

    master, slave = os.openpty()
    try:
        tty.setraw(slave)
        if size is not None:
            import termios

            termios.tcsetwinsize(slave, size)
        with Socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.settimeout(_CONFIG_TIMEOUT_S)
            connect_unix(link, console_socket)
            send_fds(link, _PTY_NAME, [master])
    except OSError as error:
        os.close(slave)
        raise HostError(f"send the terminal to {console_socket}", error) from error
    finally:
        os.close(master)
    return Terminal("pty", slave)
