from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..guest_build import Kind, guest_build
from .harness import Guest, wait_all_gone


@pytest.fixture(scope="session", params=["plain", "san"])
def build(request: pytest.FixtureRequest) -> Path:
    kind: Kind = request.param
    return guest_build(kind)


@pytest.fixture(scope="session", autouse=True)
def leftovers() -> Iterator[None]:
    yield
    wait_all_gone()


@pytest.fixture
def guest(build: Path, tmp_path: Path) -> Iterator[Guest]:
    """A fresh guest, claimed; and the proof that the test left nothing in it: no descriptor, process or cgroup."""
    if os.geteuid() != 0:
        pytest.skip("namespaces and mounts need root")
    with Guest(build / "init", build / "runv-bridge", tmp_path) as guest:
        assert guest.control.hello["claimed"] is True
        before = guest.count_fds()
        yield guest
        if guest.alive:
            guest.assert_clean(before)
