"""Out-of-memory kills in the guest, as engines see them on the host."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.memory_cgroup import OomWatch, limit_of

from .harness import SLOW, Bundle, Created, Runtime

pytestmark = pytest.mark.vm

WITHIN_S = 30 * SLOW
EATS = ("sh", "-c", "exec tail /dev/zero")


@contextmanager
def watched(container: Created) -> Iterator[tuple[OomWatch, Path]]:
    groups = json.loads((container.runtime.root / container.id / "state.json").read_text())["groups"]
    names = ("memory.oom_control", "memory.events")
    folder = next(Path(group) for group in groups if any(Path(group, name).exists() for name in names))
    watch = OomWatch(folder)
    try:
        yield watch, folder
    finally:
        watch.close()


@pytest.fixture
def small(bundle: Bundle) -> Bundle:
    bundle.linux["resources"] = {"memory": {"limit": 32 << 20, "swap": 32 << 20}}
    return bundle.save()


def test_of_the_first_process(runv: Runtime, small: Bundle) -> None:
    container = runv.create(small.args(*EATS))
    with watched(container) as (watch, folder):
        limit = limit_of(folder)
        assert not watch.heard(0)
        container.start()
        assert container.wait() == -9
        # An engine that is told of the end has been told of this before.
        assert watch.heard(0)
        assert limit_of(folder) == limit
    container.delete()


def test_of_another_process(runv: Runtime, small: Bundle) -> None:
    container = runv.start(small.args("sleep", "1000"))
    with watched(container) as (watch, folder):
        limit = limit_of(folder)
        for _ in range(3):
            assert container.exec(*EATS).code == 137
            assert watch.heard(WITHIN_S)
            time.sleep(1.1)  # what follows sooner is not shown
            watch.heard(0)  # whoever else asked for memory at that moment is told as well: one kill may be heard twice
        assert container.exec("echo", "alive").ok().out == "alive\n"
        assert limit_of(folder) == limit
        container.kill("TERM").ok()
        container.kill("KILL").ok()
        assert container.wait() == -9
        assert not watch.heard(0)
    container.delete()


def test_of_one_in_a_pod(runv: Runtime, small: Bundle, make_bundle: Callable[[], Bundle]) -> None:
    first = runv.start(make_bundle().args("sleep", "1000"))
    for namespace in small.linux["namespaces"]:
        if namespace["type"] == "network":
            namespace["path"] = f"/proc/{first.pid}/ns/net"
    second = runv.create(small.args(*EATS))
    with watched(first) as (of_first, _), watched(second) as (of_second, _):
        second.start()
        assert second.wait() == -9
        assert of_second.heard(0)
        assert not of_first.heard(0)
    assert first.exec("echo", "alive").ok().out == "alive\n"
    second.delete()
    first.delete()
