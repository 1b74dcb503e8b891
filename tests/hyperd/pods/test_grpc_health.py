"""Probes by gRPC's health checking protocol, against gRPC's own server and against what is none."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hyperd.errors import UnavailableError
from hyperd.pods import grpc_health

# The interpreter that has python3-grpcio; the tests' own environment does not.
PYTHON = "/usr/bin/python3"
WAIT_S = 20.0


@contextmanager
def server(*flags: str) -> Iterator[int]:
    """Its port."""
    with subprocess.Popen(
        [PYTHON, str(Path(__file__).with_name("grpc_server.py")), *flags], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with server() as one:
        yield one


def ask(port: int, service: str = "", timeout_s: float = WAIT_S) -> None:
    asyncio.run(grpc_health.check("127.0.0.1", port, service, timeout_s))


@pytest.mark.parametrize("service", ["", "quaint"])
def test_what_serves_is_well(port: int, service: str) -> None:
    ask(port, service)


@pytest.mark.parametrize(("service", "message"), [
    ("down", r"127.0.0.1:\d+ \(down\): NOT_SERVING"),
    ("empty", "UNKNOWN"),
    ("nonesuch", "NOT_FOUND: it does not know the service: unknown service: café"),
    ("a" * 300, "NOT_FOUND"),
])  # fmt: skip
def test_what_does_not_is_not(port: int, service: str, message: str) -> None:
    with pytest.raises(UnavailableError, match=message):
        ask(port, service)


def test_one_that_is_slow(port: int) -> None:
    with pytest.raises(UnavailableError, match="no answer after"):
        ask(port, "slow", 0.2)


def test_a_server_without_health_checking() -> None:
    with server("--without-health") as one, pytest.raises(UnavailableError, match="UNIMPLEMENTED"):
        ask(one)


@pytest.mark.parametrize(("answer", "message"), [
    (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak HTTP/2"),
    (b"", "it hung up"),
    (bytes(9) + b"\0\0\x04\x01\0\0\0\0\0" * 2, "."),
    (b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x02", "broke off with error 2"),
])  # fmt: skip
def test_what_is_no_grpc(answer: bytes, message: str) -> None:
    async def work() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(100)
            writer.write(answer)
            writer.close()

        listening = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with listening:
            with pytest.raises(UnavailableError, match=message):
                await grpc_health.check("127.0.0.1", listening.sockets[0].getsockname()[1], "", WAIT_S)

    asyncio.run(work())


def test_nobody_listens() -> None:
    with pytest.raises(UnavailableError, match=r"Connect call failed|Connection refused"):
        ask(1)


@pytest.mark.parametrize("body", [b"", b"\0\0\0\0\1\x08", b"\1\0\0\0\2\x08\1", b"\0\0\0\0\2\x0b\1", b"\0\0\0\0\x0c\x08" + b"\xff" * 11])
def test_answers_that_are_none(body: bytes) -> None:
    answer = grpc_health._Answer({":status": "200", "grpc-status": "0"}, body)
    assert grpc_health._problem(answer) == "an answer that is none"
