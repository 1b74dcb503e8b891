"""Engines for a whole session; after each test nothing of it may be left on the host, and after the session nothing at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from tests.vm.harness import Host, become_subreaper, kill_children, own_templates, reap

from .containerd import Containerd
from .docker import Docker
from .harness import Before, Netns, connected, remove_cgroup
from .podman import Podman

_FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Iterator[None]:  # pytest's type of a wrapper is wider
    report: pytest.TestReport = yield  # type: ignore[assignment]
    if call.when == "call" and call.excinfo is not None:
        item.stash[_FAILED] = True
        arguments = getattr(item, "funcargs", {})
        for engine in (arguments[name] for name in ("docker", "containerd") if name in arguments):
            report.sections.extend(engine.logs_of_daemons())
    return report  # type: ignore[return-value]  # noqa: B901 - that is how a wrapper answers


@pytest.fixture(scope="session", autouse=True)
def subreaper() -> None:
    become_subreaper()


@pytest.fixture(scope="session", autouse=True)
def templates_of_our_own() -> Iterator[None]:
    with own_templates():
        yield


@pytest.fixture(scope="session")
def namespaces() -> Iterator[tuple[Netns, Netns]]:
    """The engines' network namespace, and the outside world's."""
    with connected() as pair:
        yield pair


@pytest.fixture(scope="session")
def outside(namespaces: tuple[Netns, Netns]) -> Netns:
    return namespaces[1]


@contextlib.contextmanager
def _engine_folder() -> Iterator[Path]:
    """Short, since sockets are made below; named after us, since others may test beside us."""
    folder = Path(tempfile.mkdtemp(prefix=f"rve{os.getpid()}-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


_Engine = TypeVar("_Engine", Docker, Podman, Containerd)


@contextlib.contextmanager
def _running(engine: _Engine) -> Iterator[_Engine]:
    """The engine for the session, and nothing left of it afterwards."""
    before = Host.now()
    try:
        engine.start()
        yield engine
    finally:
        engine.stop()
        remove_cgroup(engine.cgroup_parent)
        reap()
        after = Host.now()
        kill_children(before)
    left = [f"process {pid}: {line}" for pid, line in after.children.items() if pid not in before.children]
    left += [f"mount {path}" for path in after.mounts - before.mounts if path.startswith(str(engine.folder))]
    assert not left, f"left on the host by {type(engine).__name__}: {left}"


@contextlib.contextmanager
def _used(engine: _Engine, request: pytest.FixtureRequest, *, ignored: str) -> Iterator[_Engine]:
    """The engine for one test, without containers before and after."""
    before = Before.now(engine.namespace, engine.cgroup_parent, engine.folder, engine.daemons)
    yield engine
    engine.remove_everything()
    left = before.settle(ignored=ignored)
    state = engine.runtime_state()
    if left or state:
        before.clear()
    reap()
    if not request.node.stash.get(_FAILED, False):
        assert not left and not state, f"left on the host: {left + state}"


@pytest.fixture(scope="session")
def docker_daemon(subreaper: None, templates_of_our_own: None, namespaces: tuple[Netns, Netns]) -> Iterator[Docker]:
    with _engine_folder() as folder, _running(Docker(folder, namespaces[0])) as engine:
        yield engine


@pytest.fixture
def docker(request: pytest.FixtureRequest, docker_daemon: Docker) -> Iterator[Docker]:
    with _used(docker_daemon, request, ignored=f"mount {docker_daemon.host_network}") as engine:
        yield engine


@pytest.fixture(scope="session")
def podman_session(subreaper: None, templates_of_our_own: None, namespaces: tuple[Netns, Netns]) -> Iterator[Podman]:
    with _engine_folder() as folder, _running(Podman(folder, namespaces[0])) as engine:
        yield engine


@pytest.fixture
def podman(request: pytest.FixtureRequest, podman_session: Podman) -> Iterator[Podman]:
    with _used(podman_session, request, ignored=f"mount {podman_session.folder}/root/overlay") as engine:
        yield engine


@pytest.fixture(scope="session")
def containerd_daemon(
    subreaper: None, templates_of_our_own: None, namespaces: tuple[Netns, Netns]
) -> Iterator[Containerd]:
    with _engine_folder() as folder, _running(Containerd(folder, namespaces[0])) as engine:
        yield engine


@pytest.fixture
def containerd(request: pytest.FixtureRequest, containerd_daemon: Containerd) -> Iterator[Containerd]:
    with _used(containerd_daemon, request, ignored="network link cni-pods of the engine") as engine:
        yield engine
