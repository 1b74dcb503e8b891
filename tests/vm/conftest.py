"""A state root, bundles and runtimes for each test; after it nothing may be left."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .harness import (
    SLOW,
    Bundle,
    Host,
    Runtime,
    become_subreaper,
    cgroup_folders,
    kill_children,
    leaks,
    own_templates,
    reap,
    runv_program,
)
from .network.nets import MAC, Net, ip

_EVIDENCE = ("console.log", "state.json", "sandbox.json")
_EVIDENCE_CHARS = 4000
_FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Iterator[None]:  # pytest's type of a wrapper is wider
    report: pytest.TestReport = yield  # type: ignore[assignment]
    if call.when == "call" and call.excinfo is not None:
        item.stash[_FAILED] = True
        folder = getattr(item, "funcargs", {}).get("folder")
        if folder is not None:
            report.sections.extend(_evidence(folder))
    return report  # type: ignore[return-value]  # noqa: B901 - that is how a wrapper answers


def _evidence(folder: Path) -> list[tuple[str, str]]:
    found = [path for path in folder.glob("runv/**/*") if path.name in _EVIDENCE]
    return [(str(path), path.read_text(errors="replace")[-_EVIDENCE_CHARS:]) for path in found]


@pytest.fixture(scope="session", autouse=True)
def subreaper() -> None:
    become_subreaper()


@pytest.fixture(scope="session", autouse=True)
def templates_of_our_own() -> Iterator[None]:
    with own_templates():
        yield


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short, since sockets are made below."""
    path = Path(tempfile.mkdtemp(prefix="rv"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def root(folder: Path) -> Path:
    path = folder / "runv"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest, root: Path, subreaper: None) -> Iterator[None]:
    """Compares the host before and after. The kernel needs a moment to free a machine."""
    before, groups = Host.now(), cgroup_folders()
    yield
    runtimes = [Runtime("runv", runv_program(), root)]
    if (runc := shutil.which("runc")) is not None:
        runtimes.append(Runtime("runc", runc, root.parent / "runc"))
    if request.node.stash.get(_FAILED, False):
        for runtime in runtimes:
            runtime.delete_all()
        kill_children(before)
        reap()
        return
    end = time.monotonic() + 3 * SLOW
    while left := leaks(before, root, groups):
        if time.monotonic() > end:
            break
        time.sleep(0.05)
    reap()
    if left:
        for runtime in runtimes:
            runtime.delete_all()
        kill_children(before)
        pytest.fail("left on the host: " + "; ".join(left))


@pytest.fixture
def runv(root: Path) -> Runtime:
    return Runtime("runv", runv_program(), root)


@pytest.fixture
def runc(folder: Path) -> Runtime:
    program = shutil.which("runc")
    if program is None:
        pytest.fail("runc is not installed")
    return Runtime("runc", program, folder / "runc")


@pytest.fixture
def make_bundle(folder: Path) -> Callable[[], Bundle]:
    def make() -> Bundle:
        return Bundle(Path(tempfile.mkdtemp(prefix="b", dir=folder)))

    return make


@pytest.fixture
def bundle(make_bundle: Callable[[], Bundle]) -> Bundle:
    return make_bundle()


@pytest.fixture
def empty(nothing_left: None) -> Iterator[Net]:
    """The pod's namespace has no link yet."""
    net = Net()
    try:
        net.make(net.pod)
        net.make(net.peer)
        yield net
    finally:
        net.remove()


@pytest.fixture
def net(empty: Net) -> Net:
    """The pod has eth0, with routes and a neighbour."""
    empty.veth("eth0", 0, far="far", mac=MAC, mtu=1400)
    pod = empty.pod
    ip("-n", pod, "route", "add", "default", "via", "10.77.0.1")
    ip("-n", pod, "-6", "route", "add", "default", "via", "fd00:77:0::1")
    ip("-n", pod, "route", "add", "192.0.2.0/24", "via", "10.77.0.1", "metric", "7")
    neighbour = ["10.77.0.9", "lladdr", "02:00:00:00:00:09", "dev", "eth0", "nud", "permanent"]
    ip("-n", pod, "neighbour", "add", *neighbour)
    return empty
