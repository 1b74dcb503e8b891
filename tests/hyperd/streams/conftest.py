"""A world for each test."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .world import World


@pytest.fixture
def world() -> Iterator[World]:
    root = Path(tempfile.mkdtemp(prefix="hs"))
    world = World(root)
    try:
        yield world
    finally:
        world.close()
        shutil.rmtree(root)
