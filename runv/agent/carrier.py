"""Connections to the agent's ports. Above ``Carrier.connect`` nobody knows whether vsock or the serial bridge carries them."""

import errno
import socket
import time
from collections.abc import Callable

from runv.errors import AgentLostError, reason
from runv.files import connect_unix

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

    def connect(self, port: int, deadline: float, alive: Callable[[], bool] = lambda: True) -> socket.socket:
        """A connection to ``port``, made before ``deadline`` (``time.monotonic``). vsock does not tell a machine that is not
        up yet from one that has ended: ``alive`` does.

        :raise AgentLostError: the machine is gone, or does not answer
        """
        if self.kind == "vsock":
            return self._connect_vsock(port, deadline, alive)
        return self._connect_bridge(port, deadline)

    def _connect_vsock(self, port: int, deadline: float, alive: Callable[[], bool]) -> socket.socket:
        began = time.monotonic()
        while True:
            link = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
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

    def _connect_bridge(self, port: int, deadline: float) -> socket.socket:
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            link.settimeout(max(0.001, deadline - time.monotonic()))
            connect_unix(link, self.path)
            link.sendall(b"CONNECT %d\n" % port)
            _read_answer(link)
        except TimeoutError as error:
            link.close()
            raise AgentLostError("the guest's agent did not answer in time") from error
        except OSError as error:
            link.close()
            raise AgentLostError(f"cannot connect to the guest's agent: {reason(error)}") from error
        except AgentLostError:
            link.close()
            raise
        return link


def vsock_patience_s(waited_s: float) -> float:
    """How long to wait for an answer to one connection request, ``waited_s`` after the first one."""
    return min(max(_VSOCK_CONNECT_MIN_S, waited_s * _VSOCK_CONNECT_SHARE), _VSOCK_CONNECT_MAX_S)


def _read_answer(link: socket.socket) -> None:
    # Byte by byte: what follows the newline belongs to the connection.
    answer = b""
    while not answer.endswith(b"\n"):
        byte = link.recv(1)
        if not byte or len(answer) > _ANSWER_MAX:
            raise AgentLostError("cannot connect to the guest's agent: the machine has ended, or refused")
        answer += byte
