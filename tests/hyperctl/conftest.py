from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from hyperctl.main import run
from tests.hyperctl.fake import Fake

POD_ID, CONTAINER_ID = "0123456789abcdef", "fedcba9876543210"
WEB = {
    "id": POD_ID,
    "name": "web",
    "state": "running",
    "created": "2026-01-01T00:00:00Z",
    "labels": {"tier": "front"},
    "addresses": ["10.1.0.2/24"],
    "ports": [{"host_port": 8080, "container_port": 80}],
    "containers": [{"id": CONTAINER_ID, "name": "nginx", "image": "nginx", "state": "running"}],
}


class Done(NamedTuple):
    status: int
    out: str
    error: str


class Cli:
    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd

    def __call__(self, *argv: str) -> Done:
        status = run(list(argv))
        out, error = self._capfd.readouterr()
        return Done(status, out, error)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Without anything of the user who runs the tests."""
    for name in ("HYPER_HOST", "HYPER_CONFIG", "HYPER_DETACH_KEYS", "HYPER_TIMEOUT_S", "XDG_CONFIG_HOME", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def fake(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    with Fake(home) as running:
        monkeypatch.setenv("HYPER_HOST", f"unix://{running.socket}")
        running.answers["GET /pods/web"] = WEB
        yield running
        assert running.violations == []


@pytest.fixture
def cli(home: Path, capfd: pytest.CaptureFixture[str]) -> Cli:
    return Cli(capfd)
