"""One daemon for the tests of this folder, which remove the pods that they make."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vm.harness import own_templates

from .harness import Daemon, running


@pytest.fixture(scope="package")
def shared() -> Iterator[Daemon]:
    with own_templates():
        # Short, since sockets are made below.
        folder = Path(tempfile.mkdtemp(prefix="hd", dir="/tmp"))
        try:
            with running(folder) as daemon:
                yield daemon
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def daemon(shared: Daemon) -> Iterator[Daemon]:
    yield shared
    if not shared._answers():
        shared.start()
    shared.remove_all()
