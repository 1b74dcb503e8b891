"""Calls the Container Runtime Interface for a test: one JSON object a line in, one out. Run with Debian's Python, which has gRPC.

cri_client.py SOCKET CRI.PROTO
{"method": "Version", "request": {}}  ->  {"response": {...}} or {"error": "NOT_FOUND", "message": "..."}
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

_DEADLINE_S = 120.0
_SERVICE = "/runtime.v1.RuntimeService"


class Client:
    """``Method`` takes a ``MethodRequest`` and gives a ``MethodResponse``."""

    def __init__(self, socket: str, proto: Path) -> None:
        self._pool = descriptor_pool.DescriptorPool()
        for file in _compile(proto).file:
            self._pool.Add(file)
        self._factory = message_factory.MessageFactory(self._pool)
        self._channel = grpc.insecure_channel(f"unix://{socket}")

    def _message(self, name: str) -> Any:
        return self._factory.GetPrototype(self._pool.FindMessageTypeByName(f"runtime.v1.{name}"))

    def call(self, method: str, request: dict[str, Any]) -> dict[str, Any]:
        asked = json_format.ParseDict(request, self._message(f"{method}Request")())
        answer = self._message(f"{method}Response")
        remote = self._channel.unary_unary(
            f"{_SERVICE}/{method}",
            request_serializer=type(asked).SerializeToString,
            response_deserializer=answer.FromString,
        )
        try:
            found = remote(asked, timeout=_DEADLINE_S)
        except grpc.RpcError as error:
            return {"error": error.code().name, "message": error.details()}
        return {"response": json_format.MessageToDict(found, preserving_proto_field_name=True)}


def _compile(proto: Path) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "set")
        subprocess.run(["protoc", f"--proto_path={proto.parent}", f"--descriptor_set_out={output}", proto], check=True)
        return descriptor_pb2.FileDescriptorSet.FromString(output.read_bytes())


def main() -> None:
    client = Client(sys.argv[1], Path(sys.argv[2]))
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(client.call(asked["method"], asked["request"])), flush=True)


if __name__ == "__main__":
    main()
