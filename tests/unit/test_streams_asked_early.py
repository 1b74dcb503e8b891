"""Streams that are asked for behind the request that makes their process: `Agent.ask_streams`."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from runv.agent.carrier import Carrier
from runv.agent.client import Agent
from runv.errors import AgentError

NAMES = ("stdin", "stdout", "stderr")
OPENED: dict[str, Any] = {"stream": {}}


def error(kind: str) -> dict[str, Any]:
    return {"error": {"kind": kind, "message": "no"}}


class Bridge:
    """Answers each connection's first frame with the next of ``answers``, and keeps what asked for it."""

    def __init__(self, path: Path, answers: list[dict[str, Any]]) -> None:
        self.seen: list[dict[str, Any]] = []
        self.links: list[socket.socket] = []
        self._answers = answers
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(16)
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        for answer in self._answers:
            link, _ = self._listener.accept()
            self.links.append(link)
            with link.makefile("rb") as reader:
                reader.readline()
                self.seen.append(json.loads(reader.read(int.from_bytes(reader.read(4), "big"))))
            text = json.dumps(answer).encode()
            with contextlib.suppress(BrokenPipeError):  # the other side may have closed it by now
                link.sendall(b"OK 1\n" + len(text).to_bytes(4, "big") + text)

    def has_lost(self, index: int) -> bool:
        """Whether the other side of a connection has closed it. Only when all were answered."""
        self.thread.join(10)
        try:
            return self.links[index].recv(1) == b""
        except ConnectionResetError:  # with the answer unread
            return True

    def close(self) -> None:
        for link in [self._listener, *self.links]:
            link.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agent.sock"


def agent_of(path: Path) -> Agent:
    return Agent(Carrier("serial", path=str(path)), "0" * 64, time.monotonic() + 10)


def test_what_was_asked_for_is_not_asked_again(path: Path) -> None:
    bridge = Bridge(path, [{"hello": {}}, OPENED, OPENED, OPENED])
    with agent_of(path) as agent:
        agent.ask_streams("c", "init", NAMES)
        links = agent.streams("c", "init", NAMES)
        assert [frame["stream"]["name"] for frame in bridge.seen[1:]] == list(NAMES)
        bridge.links[2].sendall(b"said")
        assert links[1].recv(16) == b"said"
    for link in links:
        link.close()
    bridge.close()


def test_a_process_that_is_not_known_yet_is_asked_for_again(path: Path) -> None:
    """The request that makes it is large, and arrives after the small ones on other connections."""
    bridge = Bridge(path, [{"hello": {}}, OPENED, error("not-found"), OPENED, OPENED, OPENED, OPENED])
    with agent_of(path) as agent:
        agent.ask_streams("c", "init", NAMES)
        links = agent.streams("c", "init", NAMES)
        assert len(links) == 3 and len(bridge.seen) == 7
        assert all(bridge.has_lost(index) for index in (1, 2, 3))
    for link in links:
        link.close()
    bridge.close()


@pytest.mark.parametrize("kind", ["exists", "denied"])
def test_other_refusals_are_told(path: Path, kind: str) -> None:
    bridge = Bridge(path, [{"hello": {}}, OPENED, error(kind), OPENED])
    with agent_of(path) as agent:
        agent.ask_streams("c", "init", NAMES)
        with pytest.raises(AgentError, match="no"):
            agent.streams("c", "init", NAMES)
        assert all(bridge.has_lost(index) for index in (1, 2, 3))
    bridge.close()


def test_what_nobody_took_ends_with_the_connection(path: Path) -> None:
    bridge = Bridge(path, [{"hello": {}}, OPENED, OPENED, OPENED])
    agent = agent_of(path)
    agent.ask_streams("c", "init", NAMES)
    agent.close()
    assert all(bridge.has_lost(index) for index in (1, 2, 3))
    bridge.close()
