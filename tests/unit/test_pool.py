"""Which machine that waits is taken, and by whom. The processes are stand-ins for QEMU."""

import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runv.errors import ConfigError, HostError, StateError
from runv.files import locked_folder
from runv.log import Log
from runv.processes import identify
from runv.sandbox.layout import SandboxFolder
from runv.sandbox.waiting import pool
from runv.sandbox.waiting.serve import limit, serve
from runv.settings import load
from runv.state import make_root

Add = Callable[..., int]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "pool"
    pool.make_folder(str(made))
    return made


@pytest.fixture
def root(tmp_path: Path) -> str:
    make_root(str(tmp_path / "root"))
    return str(tmp_path / "root")


@pytest.fixture
def add(folder: Path) -> Iterator[Add]:
    """Puts a machine into the pool; the pid of what stands for its QEMU."""
    started: list[subprocess.Popen[bytes]] = []

    def put(name: str, shape: str = "usual", *, alive: bool = True, place: str = "ready") -> int:
        process = subprocess.Popen(["sleep", "1000"])
        started.append(process)
        machine = folder / place / name
        machine.mkdir()
        (machine / "shape").write_text(shape)
        (machine / "qemu.pid").write_text(str(identify(process.pid)))
        if not alive:
            process.kill()
            process.wait()
        return process.pid

    yield put
    for process in started:
        process.kill()
        process.wait()


def sandbox(root: str, name: str) -> SandboxFolder:
    return SandboxFolder(root, name)


def test_one_that_fits_is_taken(folder: Path, root: str, add: Add) -> None:
    add("aa", "large")
    pid = add("bb")
    mine = sandbox(root, "mine")
    assert pool.take(str(folder), mine, lambda: "usual")
    found = mine.process("qemu.pid")
    assert found is not None
    assert found.pid == pid
    assert pool.waiting(str(folder)) == ["aa"]
    assert not pool.take(str(folder), sandbox(root, "other"), lambda: "usual")
    assert not os.path.exists(sandbox(root, "other").folder)


def test_nobody_is_asked_for_a_shape_where_nothing_waits(folder: Path, root: str, tmp_path: Path) -> None:
    def describe() -> str:
        raise AssertionError("asked")

    assert not pool.take(str(folder), sandbox(root, "mine"), describe)
    assert not pool.take(str(tmp_path / "absent"), sandbox(root, "mine"), describe)


def test_a_dead_one_is_removed(folder: Path, root: str, add: Add) -> None:
    add("aa", alive=False)
    pid = add("bb")
    mine = sandbox(root, "mine")
    assert pool.take(str(folder), mine, lambda: "usual")
    found = mine.process("qemu.pid")
    assert found is not None
    assert found.pid == pid
    assert pool.waiting(str(folder)) == []


def test_of_many_takers_each_gets_its_own(folder: Path, root: str, add: Add) -> None:
    pids = {add(f"m{number}") for number in range(4)}
    takers = [sandbox(root, f"s{number}") for number in range(12)]
    with ThreadPoolExecutor(len(takers)) as threads:
        took = list(threads.map(lambda mine: pool.take(str(folder), mine, lambda: "usual"), takers))
    assert sum(took) == len(pids)
    assert {found.pid for mine in takers if (found := mine.process("qemu.pid")) is not None} == pids


def test_a_folder_that_others_can_write_to_is_not_used(folder: Path, root: str, add: Add) -> None:
    add("aa")
    folder.chmod(0o777)
    assert not pool.take(str(folder), sandbox(root, "mine"), lambda: "usual")
    with pytest.raises(HostError, match="not permitted"):
        pool.make_folder(str(folder))


def test_clear_leaves_what_a_server_is_making(folder: Path, add: Add) -> None:
    add("aa")
    add("half", place="@sandboxes")
    with locked_folder(str(folder)):
        assert pool.is_served(str(folder))
        assert pool.clear(str(folder)) == 1
    assert not pool.is_served(str(folder))
    assert pool.clear(str(folder)) == 1
    assert os.listdir(folder / "@sandboxes") == []


@pytest.mark.parametrize(
    ("size", "bound", "memory", "most"), [("3", "1024", "256", 3), ("8", "1024", "256", 4), ("8", "100", "256", 0)]
)
def test_memory_bounds_how_many_wait(size: str, bound: str, memory: str, most: int) -> None:
    environ = {"RUNV_POOL_SIZE": size, "RUNV_POOL_MEMORY_MIB": bound, "RUNV_MEMORY_MIB": memory}
    assert limit(load(environ)) == most


def test_serving_is_refused(folder: Path) -> None:
    programs = {name: "/bin/true" for name in ("RUNV_QEMU", "RUNV_KERNEL", "RUNV_INITRD", "RUNV_STANDIN", "RUNV_RELAY", "RUNV_BRIDGE", "RUNV_FILTER", "RUNV_WATCH", "RUNV_QEMU_SHIM")}
    with pytest.raises(ConfigError, match="no folder"):
        serve(load({**programs, "RUNV_POOL_FOLDER": ""}), Log())
    with locked_folder(str(folder)), pytest.raises(StateError, match="another server"):
        serve(load({**programs, "RUNV_POOL_FOLDER": str(folder)}), Log())
    with pytest.raises(ConfigError, match="pool_memory_mib"):
        serve(load({**programs, "RUNV_POOL_FOLDER": str(folder), "RUNV_POOL_MEMORY_MIB": "100"}), Log())
