"""The guest's agent as the stand-in sees it: a control connection whose hello is done, and stream connections."""

import json
import socket
import struct
from types import TracebackType
from typing import Any, Self

TIMEOUT = 20.0
LENGTH = struct.Struct(">I")


class FakeAgent:
    """One process. `theirs` is to be handed to the stand-in and closed here; `streams` are our ends."""

    def __init__(self, names: list[str]) -> None:
        self.control, control = socket.socketpair()
        self.theirs = [control]
        self.streams: dict[str, socket.socket] = {}
        for name in names:
            self.streams[name], stream = socket.socketpair()
            self.theirs.append(stream)
        for connection in (self.control, *self.streams.values()):
            connection.settimeout(TIMEOUT)
        self.requests: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection in (self.control, *self.theirs, *self.streams.values()):
            connection.close()

    def handed_over(self) -> None:
        for connection in self.theirs:
            connection.close()
        self.theirs.clear()

    def receive(self) -> dict[str, Any]:
        """The next request."""
        size = LENGTH.unpack(self._exactly(LENGTH.size))[0]
        request: dict[str, Any] = json.loads(self._exactly(size))
        assert set(request) == {"id", "op", "args"}
        assert request["id"] not in [earlier["id"] for earlier in self.requests]
        assert request["args"]["container"] == "c1"
        self.requests.append(request)
        return request

    def expect(self, op: str, **args: object) -> int:
        """The next request is this one; returns its id."""
        request = self.receive()
        assert request["op"] == op
        whose = {"container": "c1"} if op == "oom" else {"container": "c1", "process": "init"}
        assert request["args"] == {**whose, **args}
        number: int = request["id"]
        return number

    def send(self, message: object) -> None:
        self.send_raw(json.dumps(message).encode())

    def send_raw(self, payload: bytes) -> None:
        self.control.sendall(LENGTH.pack(len(payload)) + payload)

    def reply(self, number: int, **result: object) -> None:
        self.send({"id": number, "result": result})

    def refuse(self, number: int, kind: str, message: str) -> None:
        self.send({"id": number, "error": {"kind": kind, "message": message}})

    def end(self, wait: int, **status: object) -> None:
        """As the agent does it: streams first, then the status."""
        for stream in self.streams.values():
            stream.close()
        self.reply(wait, **status)

    def vanish(self) -> None:
        """The VM is gone."""
        for connection in (self.control, *self.streams.values()):
            connection.close()

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self.control.recv(size - len(data))
            if not part:
                raise EOFError("the stand-in has closed its control connection")
            data += part
        return data
