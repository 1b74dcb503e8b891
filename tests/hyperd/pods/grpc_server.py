"""A gRPC server with health checking, by gRPC's own library. Run with Debian's Python; the port is on the first line of its output."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

# HealthCheckResponse as protobuf encodes it.
ANSWERS = {b"": b"\x08\x01", b"\x0a\x04down": b"\x08\x02", b"\x0a\x06quaint": b"\x12\x03new\x08\x01", b"\x0a\x05empty": b""}


def check(request: bytes, context: Any) -> bytes:
    """Serves the whole server, not "down", and never in time "slow"."""
    if request == b"\x0a\x04slow":
        time.sleep(1)
    if request not in ANSWERS:
        context.abort(grpc.StatusCode.NOT_FOUND, "unknown service: café")
    return ANSWERS[request]


def main() -> None:
    """Until its input ends."""
    server = grpc.server(ThreadPoolExecutor(4))
    if "--without-health" not in sys.argv:
        handlers = {"Check": grpc.unary_unary_rpc_method_handler(check)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("grpc.health.v1.Health", handlers),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    sys.stdin.read()


if __name__ == "__main__":
    main()
