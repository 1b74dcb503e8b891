"""Which CPUs are used. Here they are the host's: nothing is asked for that it does not do already."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .client import AgentError
from .harness import Guest

ONLINE = Path("/sys/devices/system/cpu/online")


def test_all_that_there_are(guest: Guest) -> None:
    before = ONLINE.read_text()
    if before != Path("/sys/devices/system/cpu/present").read_text():
        pytest.skip("some of the host's CPUs are offline")
    count = os.cpu_count()
    assert guest.control.call("cpus", count=count) == {"count": count}
    assert ONLINE.read_text() == before


@pytest.mark.parametrize("count", [0, -1, 4097, "2", None])
def test_bad_counts(guest: Guest, count: object) -> None:
    with pytest.raises(AgentError) as refused:
        guest.control.call("cpus", count=count)
    assert refused.value.kind == "invalid"
