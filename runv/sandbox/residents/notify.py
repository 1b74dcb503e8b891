"""systemd's notification socket, as runc has it: with ``NOTIFY_SOCKET`` in our environment the container gets one of its own, and what it says about being
ready is passed on by us, whom systemd knows. Everything else it says stays with us.

The container's is a socket in its folder, which exists while somebody waits for it in ``start`` or in a foreground ``run``.
"""

import contextlib
import os
import select
import socket
from typing import Any

from runv.errors import HostError
from runv.files import short_path
from runv.log import Log
from runv.processes import Identity
from runv.sandbox import lifecycle
from runv.sockets import Socket
from runv.state import Container
from runv.storage.plan import Carried, StoragePlan

VARIABLE = "NOTIFY_SOCKET"

_INSIDE = "/run/notify/notify.sock"
_FOLDER = "notify"
_MESSAGE_MAX = 4096
_POLL_S = 0.1
_BARRIER_S = 30.0


def wanted() -> bool:
    """Whether somebody waits for the container to say that it is ready."""
    return bool(os.environ.get(VARIABLE))


def with_socket(plan: StoragePlan, container: Container) -> StoragePlan:
    """The plan with the container's notification socket among what is carried."""
    ours = Socket(os.path.join(os.path.realpath(container.folder), _FOLDER, "notify.sock"), "dgram", 0o777, 0, 0)
    mount = {"destination": _INSIDE, "type": "bind", "options": ["bind", "nosuid", "noexec", "nodev"]}
    return plan._replace(mounts=[*plan.mounts, mount], carried=(*plan.carried, Carried(len(plan.mounts), ours)))


def with_variable(process: dict[str, Any]) -> dict[str, Any]:
    """The container's process, told where its socket is. Pure."""
    others = [entry for entry in process.get("env") or [] if not entry.startswith(f"{VARIABLE}=")]
    return {**process, "env": [*others, f"{VARIABLE}={_INSIDE}"]}


def prepare(container: Container) -> None:
    """Makes the folder of the socket: where it is, ``start`` waits."""
    os.mkdir(container.path(_FOLDER), 0o700)


def start(container: Container, log: Log, *, foreground: bool) -> None:
    """``lifecycle.start``, and the container's word that it is ready passed on: waited for here, or meanwhile where the caller waits for its end.

    :raise RunvError: it could not be started
    """
    if not os.path.isdir(container.path(_FOLDER)):
        lifecycle.start(container, log)
        return
    receiver = _receiver(container.path(_FOLDER, "notify.sock"))
    try:
        lifecycle.start(container, log)
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
