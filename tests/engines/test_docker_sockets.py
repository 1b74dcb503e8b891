"""Sockets of the host in Docker's containers."""

from __future__ import annotations

import pytest

from tests.vm.client import build_client

from .docker import Docker
from .harness import IMAGE

pytestmark = pytest.mark.engines

_VERSION = r"printf 'GET /version HTTP/1.0\r\n\r\n' | /client stream {}"


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"{build_client(tmp_path_factory.mktemp('client'))}:/client:ro"


def test_dockers_own_socket(docker: Docker, client: str) -> None:
    name = docker.sleeping("-v", f"{docker.socket}:/run/docker.sock", "-v", client)
    asked = docker.exec(name, "sh", "-c", _VERSION.format("/run/docker.sock"))
    assert '"ApiVersion"' in asked.ok().out


def test_a_socket_in_a_volume(docker: Docker, client: str) -> None:
    folder = docker.socket.parent
    done = docker.run(
        "-v", f"{folder}:/engine:ro", "-v", client, IMAGE, "sh", "-c", _VERSION.format("/engine/docker.sock")
    )
    assert '"ApiVersion"' in done.ok().out
