"""A client of docs/agent-protocol.md, small and blocking. It shares nothing with runv's own but that document."""

from __future__ import annotations

import json
import socket
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Json = dict[str, Any]

PORT_CONTROL = 1024
PORT_STREAM = 1025
TIMEOUT_S = 20.0


class AgentError(Exception):
    """An error the agent answered with."""

    def __init__(self, error: Json) -> None:
        super().__init__(f"{error['kind']}: {error['message']}")
        self.kind: str = error["kind"]
        self.message: str = error["message"]
        self.errno: int | None = error.get("errno")


class Refused(Exception):
    """The connection was closed instead of being opened."""


def encode(message: Json) -> bytes:
    payload = json.dumps(message).encode()
    return struct.pack(">I", len(payload)) + payload


def connect(bridge: Path, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(TIMEOUT_S)
    try:
        sock.connect(str(bridge))
        sock.sendall(f"CONNECT {port}\n".encode())
        line = b""
        while not line.endswith(b"\n"):
            byte = sock.recv(1)
            if not byte:
                raise Refused(port)
            line += byte
    except BaseException:
        sock.close()
        raise
    assert line.startswith(b"OK "), line
    return sock


def read_exactly(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        chunk = sock.recv(size - len(data))
        if not chunk:
            raise EOFError(f"connection closed after {len(data)} of {size} bytes")
        data += chunk
    return bytes(data)


def read_frame(sock: socket.socket) -> Json:
    (length,) = struct.unpack(">I", read_exactly(sock, 4))
    message: Json = json.loads(read_exactly(sock, length))
    return message


@dataclass
class Control:
    """A control connection. Requests may overlap: send() now, result() later, in any order."""

    sock: socket.socket
    hello: Json = field(default_factory=dict)
    _next_id: int = 0
    _replies: dict[int, Json] = field(default_factory=dict)

    @classmethod
    def open(cls, bridge: Path, secret: str, version: int = 1) -> Control:
        control = cls(connect(bridge, PORT_CONTROL))
        control.sock.sendall(encode({"hello": {"version": version, "secret": secret}}))
        answer = read_frame(control.sock)
        if "error" in answer:
            control.sock.close()
            raise AgentError(answer["error"])
        control.hello = answer["hello"]
        return control

    def send(self, op: str, **args: Any) -> int:
        self._next_id += 1
        self.sock.sendall(encode({"id": self._next_id, "op": op, "args": args}))
        return self._next_id

    def result(self, request: int) -> Json:
        while request not in self._replies:
            message = read_frame(self.sock)
            self._replies[message["id"]] = message
        reply = self._replies.pop(request)
        if "error" in reply:
            raise AgentError(reply["error"])
        result: Json = reply["result"]
        return result

    def call(self, op: str, **args: Any) -> Json:
        return self.result(self.send(op, **args))

    def has_reply(self, request: int, within_s: float) -> bool:
        """Whether the answer comes in time."""
        self.sock.settimeout(within_s)
        try:
            while request not in self._replies:
                message = read_frame(self.sock)
                self._replies[message["id"]] = message
        except TimeoutError:
            return False
        finally:
            self.sock.settimeout(TIMEOUT_S)
        return True

    def close(self) -> None:
        self.sock.close()


def open_stream(bridge: Path, secret: str, container: str, process: str, name: str) -> socket.socket:
    sock = connect(bridge, PORT_STREAM)
    sock.sendall(encode({"stream": {"secret": secret, "container": container, "process": process, "name": name}}))
    answer = read_frame(sock)
    if "error" in answer:
        sock.close()
        raise AgentError(answer["error"])
    assert answer == {"stream": {}}
    return sock


def read_all(sock: socket.socket) -> bytes:
    data = bytearray()
    while chunk := sock.recv(65536):
        data += chunk
    return bytes(data)
