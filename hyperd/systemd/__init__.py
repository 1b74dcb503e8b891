"""systemd's two small protocols: sockets that it has opened, and telling it that we are ready."""

import os
import socket

_FIRST_FD = 3


def sockets() -> list[socket.socket]:
    """Those that systemd opened for this process (sd_listen_fds(3)); none without it. May be called once."""
    if os.environ.pop("LISTEN_PID", "") != str(os.getpid()):
        return []
    count = os.environ.pop("LISTEN_FDS", "0")
    os.environ.pop("LISTEN_FDNAMES", None)
    found = []
    for fd in range(_FIRST_FD, _FIRST_FD + (int(count) if count.isdecimal() else 0)):
        os.set_inheritable(fd, False)
        one = socket.socket(fileno=fd)
        one.setblocking(False)
        found.append(one)
    return found


def notify_socket() -> str:
    """Where systemd wants to be told; empty without it. It is taken out of the environment: runv would take it for its container's, and wait for that."""
    return os.environ.pop("NOTIFY_SOCKET", "")


def notify(path: str, state: str) -> None:
    """Tells systemd (sd_notify(3)) at ``path``: ``READY=1``, ``STOPPING=1``, ``STATUS=...``. Nothing where it is empty, or nobody listens."""
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as one:
        try:
            one.connect(address)
            one.sendall(state.encode())
        except OSError:
            pass  # who started us may have stopped listening: that is no reason to stop
