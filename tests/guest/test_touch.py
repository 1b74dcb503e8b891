"""Touching what the host has changed: what the guest refuses. What comes of it is in tests/vm/test_share_notify.py: it takes a share's server that plays along."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from .client import PORT_STREAM, AgentError, Json, connect, encode, read_frame
from .harness import Guest, wait_until


def ask(guest: Guest, request: Json, secret: str = "") -> socket.socket:
    assert guest.control
    link = connect(guest.socket_path, PORT_STREAM)
    try:
        link.sendall(encode({"touch": {"secret": secret or guest.secret}}))
        for _ in range(2):
            answer = read_frame(link)
            if "error" in answer:
                raise AgentError(answer["error"])
            if answer == {"touch": {}}:
                link.sendall(encode(request))
    except BaseException:
        link.close()
        raise
    return link


def test_a_server_that_would_set_the_time(guest: Guest) -> None:
    """It is tried on the share's own folder, which has its time again afterwards."""
    folder = Path(f"/proc/{guest.pid}/root/run")
    before = folder.stat().st_mtime_ns
    with pytest.raises(AgentError, match=r"unsupported: the server of share .* cannot touch files"):
        ask(guest, {"share": "/run", "trees": ["/run"]})
    assert folder.stat().st_mtime_ns == before
    wait_until(lambda: guest.children() == [], "the end of the toucher")


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({}, "invalid: share is missing"),
        ({"share": 1}, "invalid: share must be a string"),
        ({"share": "/nowhere"}, "failed: cannot open share /nowhere: no such file or directory"),
    ],
)
def test_what_is_refused(guest: Guest, request_: Json, message: str) -> None:
    with pytest.raises(AgentError, match=message):
        ask(guest, request_)


def test_the_secret_is_asked_for(guest: Guest) -> None:
    with pytest.raises(AgentError, match="denied"):
        ask(guest, {"share": "/run", "trees": []}, secret="0" * 64)
