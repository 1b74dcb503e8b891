"""Calls to the agent over a control connection, and the opening of streams: docs/agent-protocol.md, host side.

Blocking sockets with deadlines: a command makes a handful of calls, one after the other, and asyncio's import alone costs more than they do.
"""

import time

from runv.agent.carrier import CONTROL_PORT, STREAM_PORT, Carrier
from runv.errors import AgentError, AgentLostError, reason
from runv.quick import loads, packed, socket

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    Json = dict[str, Any]

VERSION = 1
FRAME_MAX = 4 << 20
CALL_TIMEOUT_S = 30.0

_HEADER = 4


class Agent:
    """A control connection. What is asked goes out behind the ``hello``, whose answer is read first with that of the first request, or by ``greet``:
    nobody waits for it alone."""

    def __init__(
        self, carrier: Carrier, secret: str, deadline: float, alive: "Callable[[], bool]" = lambda: True
    ) -> None:
        """Connects and says hello.

        :raise AgentLostError: the machine is gone
        """
        self.carrier = carrier
        self.secret = secret
        self._last_id = 0
        self._greets_until = deadline
        self._asked: list[socket.socket] = []
        hello = _framed({"hello": {"version": VERSION, "secret": secret}})
        self._link = carrier.connect(CONTROL_PORT, hello, deadline, alive)

    def greet(self) -> bool:
        """Waits until the guest has said hello, which it does once. Says whether ours was its first.

        :raise AgentLostError: no answer before the deadline of the connection
        :raise AgentError: denied, or another version
        """
        deadline, self._greets_until = self._greets_until, 0.0
        with _AsLost():
            self._link.settimeout(max(0.001, deadline - time.monotonic()))
            self.carrier.confirm(self._link)
            return bool(_receive(self._link, deadline)["hello"].get("claimed"))

    def __enter__(self) -> "Agent":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection; processes it owns are killed by the guest."""
        self._link.close()
        _close(self._asked)

    def call(self, operation: str, arguments: "Json", timeout_s: float = CALL_TIMEOUT_S) -> "Json":
        """One request and its answer.

        :raise AgentError: the agent refused
        :raise AgentLostError: the connection ended, or ``timeout_s`` passed
        """
        self.post(operation, arguments, timeout_s)
        return self.take(timeout_s)

    def post(self, operation: str, arguments: "Json", timeout_s: float = CALL_TIMEOUT_S) -> None:
        """Half a call: the request. Its answer must be taken before the next one.

        :raise AgentLostError: see ``call``
        """
        self._last_id += 1
        request = {"id": self._last_id, "op": operation, "args": arguments}
        with _AsLost():
            _send(self._link, request, time.monotonic() + timeout_s)

    def answered(self, timeout_s: float) -> bool:
        """Whether the answer to what was posted, or the end of the connection, comes within ``timeout_s``."""
        import select

        if self._greets_until:
            self.greet()
        return bool(select.select([self._link], [], [], timeout_s)[0])

    def take(self, timeout_s: float = CALL_TIMEOUT_S) -> "Json":
        """The other half: the answer.

        :raise AgentError, AgentLostError: see ``call`` and ``greet``
        """
        if self._greets_until:
            self.greet()
        with _AsLost():
            answer = _receive(self._link, time.monotonic() + timeout_s)
        result = answer.get("result")
        if answer.get("id") != self._last_id or not isinstance(result, dict):
            raise AgentLostError("the guest's agent broke the protocol")
        return result

    def ask_streams(self, container: str, process: str, names: "Sequence[str]") -> None:
        """Half of ``streams``, which must be called with the same later: it goes out now, behind the request that makes the process.

        :raise AgentLostError: see ``call``
        """
        deadline = time.monotonic() + CALL_TIMEOUT_S
        for name in names:
            self._asked.append(self._open({"stream": {"secret": self.secret, "container": container, "process": process, "name": name}}, deadline))

    def streams(self, container: str, process: str, names: "Sequence[str]") -> list[socket.socket]:
        """Opens standard streams of a process; each connection then carries the bytes of one.

        :raise AgentError, AgentLostError: one cannot be opened; none is then
        """
        was_asked = bool(self._asked)
        if not was_asked:
            self.ask_streams(container, process, names)
        links, self._asked = self._asked, []
        deadline = time.monotonic() + CALL_TIMEOUT_S
        try:
            for link in links:
                self._opened(link, deadline)
                link.settimeout(None)
        except BaseException as error:
            _close(links)
            # A request of many parts is overtaken by a small one on another connection.
            if was_asked and isinstance(error, AgentError) and error.kind == "not-found":
                return self.streams(container, process, names)
            raise
        return links

    def _open(self, first: "Json", deadline: float) -> socket.socket:
        return self.carrier.connect(STREAM_PORT, _framed(first), deadline)

    def _opened(self, link: socket.socket, deadline: float) -> None:
        self.carrier.confirm(link)
        with _AsLost():
            _receive(link, deadline)

    def relay(self, listeners: "list[Json]") -> "tuple[socket.socket, list[str]]":
        """Lets the guest listen for connections from inside; the connection then carries the multiplexer, which the guest opens channels on. Also
        gives the path of each listener that is a unix socket, and is empty for the others.

        :raise AgentError: the guest cannot listen there
        """
        deadline = time.monotonic() + CALL_TIMEOUT_S
        link = self._open({"relay": {"secret": self.secret}}, deadline)
        try:
            self._opened(link, deadline)
            paths = _exchange(link, {"listeners": listeners}, deadline)["listening"]["paths"]
        except BaseException:
            link.close()
            raise
        return link, [str(path) for path in paths]

    def touch(self, share: str, trees: list[str], *, hold: bool) -> socket.socket:
        """Lets the guest touch files that the host has changed; the connection then carries orders. ``share``: where the guest has it mounted;
        ``trees``: paths of folders and files in it; ``hold``: files in the folders are held open, too.

        :raise AgentError: the guest cannot; ``unsupported``: the share's server does not know how
        """
        deadline = time.monotonic() + CALL_TIMEOUT_S
        link = self._open({"touch": {"secret": self.secret}}, deadline)
        try:
            self._opened(link, deadline)
            _exchange(link, {"share": share, "trees": trees, "hold": hold}, deadline)
        except BaseException:
            link.close()
            raise
        return link

    def detach(self) -> socket.socket:
        """Hands the connection itself over, to give it to a stand-in.

        :raise AgentError, AgentLostError: see ``greet``
        """
        if self._greets_until:
            self.greet()
        self._link.settimeout(None)
        return self._link


def _close(links: list[socket.socket]) -> None:
    for link in links:
        link.close()


def _exchange(link: socket.socket, frame: "Json", deadline: float) -> "Json":
    """Sends a frame and reads the next one; an error in it is raised."""
    with _AsLost():
        _send(link, frame, deadline)
        return _receive(link, deadline)


class _AsLost:
    """What a socket raises, and what is no answer, becomes the one error that means both."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, TimeoutError):
            raise AgentLostError("the guest's agent did not answer in time") from error
        if isinstance(error, OSError):
            raise AgentLostError(f"the connection to the guest's agent ended: {reason(error)}") from error
        if isinstance(error, ValueError):
            raise AgentLostError("the guest's agent broke the protocol") from error


def _framed(frame: "Json") -> bytes:
    text = packed(frame).encode(errors="surrogateescape")
    if len(text) > FRAME_MAX:
        raise AgentError("invalid", f"the configuration is too large for the guest's agent: {len(text)} bytes")
    return len(text).to_bytes(_HEADER, "big") + text


def _send(link: socket.socket, frame: "Json", deadline: float) -> None:
    data = _framed(frame)
    link.settimeout(max(0.001, deadline - time.monotonic()))
    link.sendall(data)


def _receive(link: socket.socket, deadline: float) -> "Json":
    length = int.from_bytes(_read_exactly(link, _HEADER, deadline), "big")
    if not 0 < length <= FRAME_MAX:
        raise AgentLostError("the guest's agent broke the protocol")
    answer = loads(_read_exactly(link, length, deadline).decode())
    if not isinstance(answer, dict):
        raise AgentLostError("the guest's agent broke the protocol")
    if "error" in answer:
        raise _error(answer["error"])
    return answer


def _read_exactly(link: socket.socket, count: int, deadline: float) -> bytes:
    chunks = []
    while count:
        link.settimeout(max(0.001, deadline - time.monotonic()))
        chunk = link.recv(min(count, 1 << 16))
        if not chunk:
            raise AgentLostError("the connection to the guest's agent ended")
        chunks.append(chunk)
        count -= len(chunk)
    return b"".join(chunks)


def _error(error: "Json") -> AgentError:
    return AgentError(str(error.get("kind", "failed")), str(error.get("message", "")), int(error.get("errno", 0)))
