"""Work inside another network namespace, in a child that has joined it: we ourselves never leave our own."""

import os

from runv import linux
from runv.errors import HostError
from runv.quick import Any, dumps, loads, recv_fds, send_fds, socket

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from collections.abc import Callable

_MAX_FDS = 64

# What the work returns: anything JSON can carry, and descriptors.
Result = tuple[Any, list[int]]


def inside(namespace: str, action: str, work: "Callable[[], Result]") -> Result:
    """Runs ``work`` in the network namespace at ``namespace`` and returns what it returned; descriptors become ours.

    :param action: what it does, for the message when it fails
    :raise HostError: it failed
    """
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        _child(namespace, work, theirs)
    theirs.close()
    fds: list[int] = []
    try:
        data, fds = _receive(ours)
    finally:
        ours.close()
        os.waitpid(pid, 0)
    answer: dict[str, Any] = loads(data.decode()) if data else {"error": "its process was killed", "errno": 0}
    if "error" in answer:
        raise _failure(action, answer["error"], answer["errno"])
    return answer["result"], fds


def _failure(action: str, what: str, number: int) -> HostError:
    if not number:
        return HostError(action, OSError(what))
    return HostError(f"{action}: {what}", OSError(number, os.strerror(number)))


def _receive(ours: socket.socket) -> tuple[bytes, list[int]]:
    first, fds = recv_fds(ours, 1, _MAX_FDS)
    chunks = [first]
    while chunks[-1]:
        chunks.append(ours.recv(65536))
    return b"".join(chunks), fds


def _child(namespace: str, work: "Callable[[], Result]", theirs: socket.socket) -> None:
    """The child's side of ``inside``; never returns."""
    status = 1
    try:
        linux.join(namespace, linux.CLONE_NEWNET)
        result, fds = work()
        data = dumps({"result": result}).encode()
        # Descriptors come with the first byte: one message for them, however long the rest is.
        send_fds(theirs, data[:1], fds) if fds else theirs.sendall(data[:1])
        theirs.sendall(data[1:])
        status = 0
    except OSError as error:
        _report(theirs, str(error.filename or namespace), error.errno or 0)
    except Exception as error:  # whatever netlink's library raises: its errors are no OSError
        _report(theirs, str(error), 0)
    finally:
        os._exit(status)


def _report(theirs: socket.socket, what: str, number: int) -> None:
    theirs.sendall(dumps({"error": what, "errno": number}).encode(errors="surrogateescape"))
