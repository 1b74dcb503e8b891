"""Machines that wait: taken by one each, made anew, and removed by whoever comes after their server."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from .harness import DEADLINE_S, Bundle, Created, Json, Runtime, parent_of, wait_until

pytestmark = pytest.mark.vm
_SIZE = 2


@pytest.fixture
def runv(runv: Runtime, folder: Path) -> Runtime:
    """With a pool of the test's own."""
    return replace(runv, env={"RUNV_POOL_FOLDER": str(folder / "pool"), "RUNV_POOL_SIZE": str(_SIZE)})


@contextlib.contextmanager
def serving(runv: Runtime) -> Iterator[subprocess.Popen[bytes]]:
    server = runv.popen("factory", "serve")
    try:
        yield server
    finally:
        if server.poll() is None:
            server.terminate()
        server.wait(DEADLINE_S)


def waiting(runv: Runtime) -> set[int]:
    """The QEMUs of the machines that wait."""
    rows: list[Json] = json.loads(runv.run("factory", "list", "--format", "json").ok().out)
    return {row["pid"] for row in rows if row["kind"] == "machine"}


def await_machines(runv: Runtime, folder: Path) -> set[int]:
    wait_until(lambda: len(list(folder.glob("pool/ready/*"))) == _SIZE, "machines that wait", DEADLINE_S)
    return waiting(runv)


def machine_of(container: Created) -> int:
    state = json.loads((container.runtime.root / container.id / "state.json").read_text())
    return int((container.runtime.root / "@sandboxes" / state["sandbox"] / "qemu.pid").read_text().split()[0])


def state_of(pid: int) -> str:
    return parent_of(pid)[1]


def test_pool(runv: Runtime, make_bundle: Callable[[], Bundle], folder: Path) -> None:
    bundles = [make_bundle().args("sleep", "1000") for _ in range(_SIZE)]
    for number, bundle in enumerate(bundles):
        bundle.config["hostname"] = f"host{number}"
        bundle.save()
    with serving(runv) as server:
        first = await_machines(runv, folder)
        assert all(state_of(pid) == "T" for pid in first)
        assert json.loads(runv.run("factory", "status", "--format", "json").out)["pool"]["served"]
        assert "another server" in runv.run("factory", "serve").err

        with ThreadPoolExecutor() as racers:
            made = list(racers.map(runv.create, bundles))
        assert {machine_of(container) for container in made} == first

        second = await_machines(runv, folder)
        assert not second & first
        server.kill()
    for container in made:
        container.start()
    said = [container.exec("sh", "-c", "hostname; head -c 16 /dev/urandom | od -x; cat /proc/sys/kernel/random/boot_id; ls /sys/class/net").ok().lines for container in made]
    assert [lines[0] for lines in said] == ["host0", "host1"]
    assert said[0][1] != said[1][1]
    assert said[0][-2] != said[1][-2]
    assert [lines[-1] for lines in said] == ["lo", "lo"]

    # Those that were taken are in their containers' cgroups; the dead one is passed over, and what is left goes with `destroy`.
    for container in made:
        mine = Path(f"/proc/{container.pid}/cgroup").read_text()
        assert Path(f"/proc/{machine_of(container)}/cgroup").read_text() == mine
    dead = min(second)
    os.kill(dead, signal.SIGKILL)
    wait_until(lambda: state_of(dead) == "Z", "its end")
    third = runv.create(bundles[0])
    assert machine_of(third) == max(second)
    # Not the templates of all tests.
    replace(runv, env={**runv.env, "RUNV_TEMPLATE_FOLDER": str(folder / "none")}).run("factory", "destroy").ok()
    assert waiting(runv) == set()
    for container in (*made, third):
        container.delete()
