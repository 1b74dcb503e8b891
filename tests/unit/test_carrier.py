"""Connecting over vsock to a guest that is slow, lost or gone; vsock itself is tested in the lab."""

from __future__ import annotations

import errno
import time

import pytest

from runv.agent import carrier
from runv.agent.carrier import CONTROL_PORT, Carrier
from runv.errors import AgentLostError


class Guest:
    """A guest that takes ``answers_in_s`` to answer a request, and forgets one that was given up. Stands for ``Socket``."""

    def __init__(self, answers_in_s: float) -> None:
        self.answers_in_s = answers_in_s
        self.patience: list[float] = []
        self.open = 0

    def __call__(self, *_: object) -> Guest:
        self.open += 1
        return self

    def settimeout(self, seconds: float) -> None:
        self.patience.append(seconds)

    def connect(self, _: object) -> None:
        time.sleep(min(self.patience[-1], self.answers_in_s))
        if self.patience[-1] < self.answers_in_s:
            raise TimeoutError("timed out")

    def sendall(self, _: bytes) -> None:
        assert self.open == 1

    def close(self) -> None:
        self.open -= 1


def test_a_slow_answer_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    guest = Guest(answers_in_s=0.2)
    monkeypatch.setattr(carrier, "Socket", guest)
    Carrier("vsock", cid=3).connect(CONTROL_PORT, b"", time.monotonic() + 60)
    assert guest.patience == sorted(guest.patience)
    assert guest.patience[0] < 0.2 <= guest.patience[-1]
    assert guest.open == 1


def test_patience_has_bounds() -> None:
    waits = [carrier.vsock_patience_s(waited) for waited in (0.0, 0.1, 1.0, 4.0, 1000.0)]
    assert waits == [0.1, 0.1, 0.25, 1.0, 2.0]


def test_a_machine_that_has_ended_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    guest = Guest(answers_in_s=60)
    monkeypatch.setattr(carrier, "Socket", guest)
    with pytest.raises(AgentLostError, match="cannot connect to the guest's agent: "):
        Carrier("vsock", cid=3).connect(CONTROL_PORT, b"", time.monotonic() + 60, alive=lambda: False)
    assert (len(guest.patience), guest.open) == (1, 0)


def test_the_deadline_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.ECONNRESET, "reset")

    guest = Guest(answers_in_s=0)
    monkeypatch.setattr(carrier, "Socket", guest)
    monkeypatch.setattr(guest, "connect", refused)
    with pytest.raises(AgentLostError, match="connection reset by peer"):
        Carrier("vsock", cid=3).connect(CONTROL_PORT, b"", time.monotonic() + 0.1)
    assert len(guest.patience) > 1 and guest.open == 0
