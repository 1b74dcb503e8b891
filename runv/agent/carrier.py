"""Connections to the agent's ports. Above ``Carrier.connect`` nobody knows whether vsock or the serial bridge carries them."""

import errno
import time

from runv.errors import AgentLostError, reason
from runv.files import connect_unix
from runv.quick import Socket, socket

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from collections.abc import Callable

CONTROL_PORT = 1024
STREAM_PORT = 1025

_ANSWER_MAX = 32
_RETRY_S = 0.02
# vsock's own connect time-out is 2 s, and the first connection to a fresh guest may be lost: so ours is short at first, and we try again.
# Where host or guest is busy an answer takes longer than that, each time: so it grows with what was waited already.
_VSOCK_CONNECT_MIN_S = 0.1
_VSOCK_CONNECT_MAX_S = 2.0
_VSOCK_CONNECT_SHARE = 0.25
_NOT_YET = (errno.ECONNRESET, errno.ECONNREFUSED, errno.ENODEV, errno.EHOSTUNREACH)


class Carrier:
    """How a sandbox's agent is reached: ``kind`` is ``vsock`` (with ``cid``) or ``serial`` (with the bridge's socket ``path``)."""

    __slots__ = ("cid", "kind", "path")

    def __init__(self, kind: str, *, cid: int = 0, path: str = "") -> None:
        self.kind = kind
        self.cid = cid
        self.path = path

    def connect(self, port: int, first: bytes, deadline: float, alive: "Callable[[], bool]" = lambda: True) -> Socket:
        """A connection to ``port``, made before ``deadline`` (``time.monotonic``), on which ``first`` is under way; ``confirm`` must have
        returned before anything is read from it. vsock does not tell a machine that is not up yet from one that has ended: ``alive`` does.

        :raise AgentLostError: the machine is gone, or does not answer
        """
        if self.kind == "vsock":
            link = self._connect_vsock(port, deadline, alive)
        else:
            link = Socket(socket.AF_UNIX, socket.SOCK_STREAM)
            first = b"CONNECT %d\n%b" % (port, first)
        with _ClosingOnFailure(link):
            link.settimeout(max(0.001, deadline - time.monotonic()))
            if self.kind != "vsock":
                connect_unix(link, self.path)
            link.sendall(first)
        return link

    def confirm(self, link: socket.socket) -> None:
        """Waits until a connection is known to be one, for as long as the socket's own time-out is; else closes it.

        :raise AgentLostError: see ``connect``
        """
        if self.kind != "vsock":
            with _ClosingOnFailure(link):
                _read_answer(link)

    def _connect_vsock(self, port: int, deadline: float, alive: "Callable[[], bool]") -> Socket:
        began = time.monotonic()
        while True:
            link = Socket(socket.AF_VSOCK, socket.SOCK_STREAM)
            try:
                link.settimeout(vsock_patience_s(time.monotonic() - began))
                link.connect((self.cid, port))
                return link
            except OSError as error:
                link.close()
                again = isinstance(error, TimeoutError) or error.errno in _NOT_YET
                if not again or time.monotonic() > deadline or not alive():
                    raise AgentLostError(f"cannot connect to the guest's agent: {reason(error)}") from error
            time.sleep(_RETRY_S)


class _ClosingOnFailure:
    """Closes a socket when something goes wrong with it, and says that in our words."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is None:
            return
        self._link.close()
        if isinstance(error, TimeoutError):
            raise AgentLostError("the guest's agent did not answer in time") from error
        if isinstance(error, OSError):
            raise AgentLostError(f"cannot connect to the guest's agent: {reason(error)}") from error


def vsock_patience_s(waited_s: float) -> float:
    """How long to wait for an answer to one connection request, ``waited_s`` after the first one."""
    return min(max(_VSOCK_CONNECT_MIN_S, waited_s * _VSOCK_CONNECT_SHARE), _VSOCK_CONNECT_MAX_S)


def _read_answer(link: socket.socket) -> None:
    # What follows the newline belongs to the connection: so it is looked at first.
    while True:
        answer, newline, _ = link.recv(_ANSWER_MAX, socket.MSG_PEEK).partition(b"\n")
        if newline or not answer or len(answer) == _ANSWER_MAX:
            break
        # Half a line, which would be seen again at once: taken, it makes room for the other half.
        link.recv(len(answer))
    if not newline:
        raise AgentLostError("cannot connect to the guest's agent: the machine has ended, or refused")
    link.recv(len(answer) + 1)
