"""systemd's notification socket, as runc has it: with ``NOTIFY_SOCKET`` in our environment the container gets one of its own, and what it says about being
ready is passed on by us, whom systemd knows. Everything else it says stays with us.

The container's is a socket in its folder, which exists while somebody waits for it in ``start`` or in a foreground ``run``.
"""

import contextlib
import os
import select
import socket

from runv.errors import HostError
from runv.files import short_path
from runv.log import Log
from runv.processes import Identity
from runv.sandbox import lifecycle
from runv.sandbox.notified import FOLDER, SOCKET, VARIABLE
from runv.state import Container

TYPE_CHECKING = False  # for annotations alone
if TYPE_CHECKING:
    from runv.agent.client import Agent

_MESSAGE_MAX = 4096
_POLL_S = 0.1
_BARRIER_S = 30.0


def start(container: Container, log: Log, starter: "Agent | None", *, foreground: bool) -> None:
    """``lifecycle.start``, and the container's word that it is ready passed on: waited for here, or meanwhile where the caller waits for its end.

    :raise RunvError: it could not be started
    """
    if not os.path.isdir(container.path(FOLDER)):
        lifecycle.start(container, log, starter)
        return
    receiver = _receiver(container.path(FOLDER, SOCKET))
    try:
        lifecycle.start(container, log, starter)
    except BaseException:
        receiver.close()
        raise
    standin = container.standin()
    if standin is None:
        receiver.close()
    elif foreground:
        import threading

        threading.Thread(target=_pass_on, args=(receiver, standin, os.getpid(), log), daemon=True).start()
    else:
        _pass_on(receiver, standin, standin.pid, log)


def _receiver(path: str) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        with short_path(path) as address:
            receiver.bind(address)
    except OSError as error:
        receiver.close()
        raise HostError(f"listen on {path}", error) from error
    receiver.settimeout(_POLL_S)
    return receiver


def _pass_on(receiver: socket.socket, standin: Identity, main_pid: int, log: Log) -> None:
    """Waits for the container to be ready, or at its end, and tells the host."""
    with receiver:
        ready = _await_ready(receiver, standin)
    if not ready:
        return
    address = os.environ[VARIABLE]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
            link.connect("\0" + address[1:] if address.startswith("@") else address)
            link.send(ready + b"\n")
            link.send(b"MAINPID=%d\n" % main_pid)
            _barrier(link)
    except OSError as error:
        log.warning(f"cannot tell {address} that the container is ready: {error.strerror}")


def _await_ready(receiver: socket.socket, standin: Identity) -> bytes:
    """The line that says so; empty when the container has ended."""
    while True:
        try:
            message = receiver.recv(_MESSAGE_MAX)
        except TimeoutError:
            if not standin.alive():
                return b""
            continue
        for line in message.split(b"\n"):
            if line.startswith(b"READY="):
                return line


def _barrier(link: socket.socket) -> None:
    """Until systemd has read all this: it must not find that we have ended when it asks who we are (sd_notify_barrier(3))."""
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    try:
        socket.send_fds(link, [b"BARRIER=1"], [theirs])
    finally:
        os.close(theirs)
        poll = select.poll()
        poll.register(ours, 0)
        poll.poll(_BARRIER_S * 1000)
        os.close(ours)
