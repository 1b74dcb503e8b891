"""Engines for a whole session; after each test nothing of it may be left on the host, and after the session nothing at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vm.harness import Host, become_subreaper, kill_children, reap

from .docker import Docker
from .harness import Before, Netns, connected, remove_cgroup

_FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Iterator[None]:  # pytest's type of a wrapper is wider
    report: pytest.TestReport = yield  # type: ignore[assignment]
    if call.when == "call" and call.excinfo is not None:
        item.stash[_FAILED] = True
        engine = getattr(item, "funcargs", {}).get("docker")
        if engine is not None:
            report.sections.extend(engine.logs_of_daemons())
    return report  # type: ignore[return-value]  # noqa: B901 - that is how a wrapper answers


@pytest.fixture(scope="session", autouse=True)
def subreaper() -> None:
    become_subreaper()


@pytest.fixture(scope="session", autouse=True)
def templates_of_our_own() -> Iterator[None]:
    """The first sandbox of each shape boots, the others are its clones: as it is for users, but apart from theirs."""
    with tempfile.TemporaryDirectory(prefix="rvt", dir="/dev/shm") as path, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUNV_TEMPLATE_FOLDER", path)
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


@pytest.fixture(scope="session")
def docker_daemon(subreaper: None, templates_of_our_own: None, namespaces: tuple[Netns, Netns]) -> Iterator[Docker]:
    before = Host.now()
    with _engine_folder() as folder:
        engine = Docker(folder, namespaces[0])
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
    left += [f"mount {path}" for path in after.mounts - before.mounts if path.startswith(str(folder))]
    assert not left, f"left on the host by Docker: {left}"


@pytest.fixture
def docker(request: pytest.FixtureRequest, docker_daemon: Docker) -> Iterator[Docker]:
    """Docker, without containers before and after."""
    before = Before.now(
        docker_daemon.namespace, docker_daemon.cgroup_parent, docker_daemon.folder, docker_daemon.daemons
    )
    yield docker_daemon
    docker_daemon.remove_everything()
    left = before.settle(ignored=f"mount {docker_daemon.host_network}")
    state = docker_daemon.runtime_state()
    if left or state:
        before.clear()
    reap()
    if not request.node.stash.get(_FAILED, False):
        assert not left and not state, f"left on the host: {left + state}"
