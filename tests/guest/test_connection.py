"""Hello, requests and replies: the protocol below the operations."""

from __future__ import annotations

import platform
import time
from pathlib import Path

import pytest

from .client import PORT_CONTROL, PORT_STREAM, AgentError, Control, Refused, connect, encode, open_stream, read_frame
from .harness import Guest, oci_spec

OTHER_SECRET = "0" * 64


def test_first_hello_claims(guest: Guest) -> None:
    assert guest.control.hello == {
        "version": 1,
        "features": ["serial"],
        "kernel": platform.release(),
        "claimed": True,
    }
    second = guest.connect()
    assert second.hello["claimed"] is False
    second.close()


def test_other_secret_is_denied(guest: Guest) -> None:
    with pytest.raises(AgentError) as caught:
        Control.open(guest.socket_path, OTHER_SECRET)
    assert caught.value.kind == "denied"
    with pytest.raises(AgentError) as caught:
        open_stream(guest.socket_path, OTHER_SECRET, "c", "init", "stdout")
    assert caught.value.kind == "denied"


@pytest.mark.parametrize("secret", ["", "short", "g" * 64, "0" * 65])
def test_malformed_secret_is_invalid(guest: Guest, secret: str) -> None:
    with pytest.raises(AgentError) as caught:
        Control.open(guest.socket_path, secret)
    assert caught.value.kind == "invalid"
    assert "hello.secret" in caught.value.message


def test_unknown_version_is_unsupported(guest: Guest) -> None:
    with pytest.raises(AgentError) as caught:
        Control.open(guest.socket_path, guest.secret, version=2)
    assert caught.value.kind == "unsupported"


def test_denied_connection_is_closed(guest: Guest) -> None:
    with connect(guest.socket_path, PORT_CONTROL) as sock:
        sock.sendall(encode({"hello": {"version": 1, "secret": OTHER_SECRET}}))
        assert read_frame(sock)["error"]["kind"] == "denied"
        assert sock.recv(1) == b""


def test_unknown_port_is_refused(guest: Guest) -> None:
    with pytest.raises(Refused):
        connect(guest.socket_path, 1026)


def test_silent_connection_is_closed(guest: Guest, build: Path) -> None:
    """The first frame is due within 10 s, on either port, and a beginning of one does not count."""
    if build.name == "guest-plain":
        pytest.skip("it takes seconds")
    start = time.monotonic()
    with connect(guest.socket_path, PORT_CONTROL) as control, connect(guest.socket_path, PORT_STREAM) as stream:
        stream.sendall(b"\0\0")
        assert control.recv(1) == b""
        assert stream.recv(1) == b""
    assert 9 < time.monotonic() - start < 15


def test_unknown_operation(guest: Guest) -> None:
    with pytest.raises(AgentError) as caught:
        guest.control.call("dance")
    assert caught.value.kind == "unsupported"
    assert "dance" in caught.value.message


@pytest.mark.parametrize(
    ("op", "args", "message"),
    [
        ("create", {}, "args.container is missing"),
        ("create", {"container": 7}, "args.container must be a string"),
        ("create", {"container": "..", "oci": {}}, "args.container is not a valid id"),
        ("create", {"container": "a/b", "oci": {}}, "args.container is not a valid id"),
        ("create", {"container": "a" * 129, "oci": {}}, "args.container is not a valid id"),
        ("create", {"container": "c"}, "args.oci is missing"),
        ("create", {"container": "c", "oci": []}, "args.oci must be an object"),
        ("create", {"container": "c", "oci": {}}, "args.oci.process is missing"),
        (
            "create",
            {"container": "c", "oci": {"process": {}, "linux": {"namespaces": [{"type": "pid"}, {"type": "x"}]}}},
            "args.oci.linux.namespaces[1].type is not a known namespace",
        ),
    ],
)
def test_invalid_arguments_are_named(guest: Guest, op: str, args: dict[str, object], message: str) -> None:
    with pytest.raises(AgentError) as caught:
        guest.control.call(op, **args)
    assert (caught.value.kind, caught.value.message) == ("invalid", message)


@pytest.mark.parametrize("op", ["start", "wait", "signal", "resize", "processes", "state", "delete"])
def test_unknown_container(guest: Guest, op: str) -> None:
    with pytest.raises(AgentError) as caught:
        guest.control.call(op, container="nobody", process="init", signal=9, rows=1, columns=1)
    assert caught.value.kind == "not-found"


def test_too_many_unanswered_requests(guest: Guest) -> None:
    other = guest.connect()
    with guest.running("sleep", "100"):
        waiting = [other.send("wait", container="c") for _ in range(64)]
        with pytest.raises(AgentError) as caught:
            other.call("sandbox")
        assert caught.value.kind == "busy"
        guest.control.call("signal", container="c", signal=9)
        assert [other.result(request) for request in waiting] == [{"signal": 9}] * 64
        assert other.call("sandbox")["containers"] == ["c"]
    other.close()


def test_connection_may_end_with_requests_unanswered(guest: Guest) -> None:
    with guest.running("sleep", "100"):
        for _ in range(20):
            other = guest.connect()
            other.send("wait", container="c")
            other.close()
        assert guest.control.call("state", container="c")["status"] == "running"


def test_replies_come_in_any_order(guest: Guest) -> None:
    with guest.running("sleep", "100"):
        waiting = guest.control.send("wait", container="c")
        assert guest.control.call("state", container="c")["status"] == "running"
        guest.control.call("signal", container="c", signal=9)
        assert guest.control.result(waiting) == {"signal": 9}


def test_request_in_pieces(guest: Guest) -> None:
    frame = encode({"id": 9, "op": "sandbox", "args": {}})
    for i in range(len(frame)):
        guest.control.sock.sendall(frame[i : i + 1])
    assert guest.control.result(9)["containers"] == []


def test_large_integers(guest: Guest) -> None:
    """OCI writes "unlimited" as 2^64-1, which does not fit a signed number."""
    limits = [{"type": "RLIMIT_FSIZE", "soft": 2**64 - 1, "hard": 2**64 - 1}]
    assert guest.run(oci_spec("sh", "-c", "ulimit -f", rlimits=limits)).text == "unlimited\n"


def test_many_connections(guest: Guest) -> None:
    others = [guest.connect() for _ in range(200)]
    for other in others:
        assert other.call("sandbox")["containers"] == []
        other.close()


def test_shutdown(guest: Guest) -> None:
    guest.control.call("create", container="c", oci=oci_spec("sleep", "100"))
    guest.control.call("start", container="c")
    assert guest.control.call("shutdown") == {}
    guest.wait_end()
