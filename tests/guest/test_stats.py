"""The files of a container's cgroup."""

from __future__ import annotations

import pytest

from .client import AgentError
from .harness import Guest


def test_files_as_they_are(guest: Guest) -> None:
    with guest.running("sleep", "100"):
        files = guest.control.call("stats", container="c")["files"]
        # On a host whose controllers are v1's there is no more than this.
        assert "usage_usec " in files["cpu.stat"]
        assert all(isinstance(text, str) for text in files.values())


def test_of_nobody(guest: Guest) -> None:
    with pytest.raises(AgentError) as caught:
        guest.control.call("stats", container="c")
    assert caught.value.kind == "not-found"
