"""The serial link to a guest that was saved while it spoke to another bridge: docs/agent-protocol.md, "The multiplexer of the serial carrier"."""

import select
import socket
import time
from collections.abc import Callable

from runv.errors import AgentLostError, reason

_HELLO = b"\x01\0\0\0runv\0\0\0\x01"
# What a frame can lack at the most, of its header and then of its payload, and a header.
_ZEROS = bytes(len(_HELLO) + 262144 + len(_HELLO))
_POLL_S = 0.5


def resynchronise(link_fd: int, deadline: float, alive: Callable[[], bool] = lambda: True) -> None:
    """Brings the link to where a bridge can begin. The guest may be in the midst of a frame, in either direction: zeros end the one that it reads, and
    are no header, upon which it says HELLO and waits for one.

    :param deadline: of ``time.monotonic``
    :raise AgentLostError: the machine has ended, or says nothing
    """
    link = socket.socket(fileno=link_fd)
    try:
        link.settimeout(max(0.001, deadline - time.monotonic()))
        zeros = memoryview(_ZEROS)
        seen = b""
        while zeros or not seen.endswith(_HELLO):
            if not alive():
                raise AgentLostError("the machine has ended")
            if time.monotonic() > deadline:
                raise AgentLostError("the guest's agent did not answer in time")
            # They are more than the socket holds, and a machine that has ended reads none.
            readable, writable, _ = select.select([link], [link] if zeros else [], [], _POLL_S)
            if writable:
                zeros = zeros[link.send(zeros) :]
            if readable:
                chunk = link.recv(1 << 16)
                if not chunk:
                    raise AgentLostError("the machine has ended")
                seen = seen[-len(_HELLO) :] + chunk
        link.settimeout(None)
    except OSError as error:
        raise AgentLostError(f"cannot reach the guest's agent: {reason(error)}") from error
    finally:
        link.detach()
