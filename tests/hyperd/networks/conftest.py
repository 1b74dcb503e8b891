"""One host for each test, and a look at what is left of it."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .world import World, own_namespace


@pytest.fixture
def world() -> Iterator[World]:
    root = Path(tempfile.mkdtemp(prefix="hn"))
    with own_namespace():
        world = World(root)
        try:
            world.make()
            yield world
        finally:
            world.remove()
    mounts = Path("/proc/self/mountinfo").read_text()
    shutil.rmtree(root)
    assert str(root) not in mounts, "a namespace is still mounted"
