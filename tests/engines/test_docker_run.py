"""`docker run` with runv: streams, exit codes, what a user sees first."""

from __future__ import annotations

import pytest

from .docker import Docker
from .harness import IMAGE

pytestmark = pytest.mark.engines


def test_hello(docker: Docker) -> None:
    done = docker.run("--runtime", "runv", IMAGE, "echo", "helloworld").ok()
    assert done.out == "helloworld\n"
    assert done.err == ""
