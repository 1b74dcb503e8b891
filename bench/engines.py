# SPDX-License-Identifier: Apache-2.0
"""What a user types: ``docker run`` with runc and with runv, and ``hyperctl run`` with and without a machine that waits. The daemons are the tests' own."""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.runtimes import SLOW
from bench.timing import BenchError, Figure, Subject, in_turns
from tests.engines.docker import Docker
from tests.engines.harness import IMAGE, connected, remove_cgroup
from tests.hyperd.machines import harness as hyperd
from tests.vm.harness import become_subreaper, own_templates, reap, runv_program

_READY_S = 60.0 * SLOW


def measure(count: int, tick: Callable[[], None]) -> Iterator[Figure]:
    """Runs ``true`` in a container of each."""
    with _subreaper(), own_templates():
        yield from _docker(count, tick)
        yield from _hyperctl(count, tick)


def _docker(count: int, tick: Callable[[], None]) -> list[Figure]:
    with _folder() as folder, connected() as (inside, _), _pool(folder) as pool:
        docker = Docker(folder, inside)
        try:
            docker.start()
            floor = "docker run true, runc"
            subjects = [
                Subject(floor, _docker_run(docker, "--runtime", "runc"), before=pool.full),
                # Of another size than those that wait.
                Subject("docker run true, runv", _docker_run(docker, "--memory", "240m"), floor, before=pool.full),
                Subject("docker run true, runv, a machine waiting", _docker_run(docker), floor, before=pool.full),
            ]
            return in_turns(subjects, count, tick)
        finally:
            docker.stop()
            remove_cgroup(docker.cgroup_parent)
            reap()


@contextlib.contextmanager
def _subreaper() -> Iterator[None]:
    """For this part only: nobody would take the status of what the others leave to the host."""
    become_subreaper()
    try:
        yield
    finally:
        reap()
        become_subreaper(False)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """Short, since sockets are made below."""
    folder = Path(tempfile.mkdtemp(prefix="rvb", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Pool:
    """`runv factory serve` with one machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def full(self) -> None:
        """Waits until nothing is being made."""
        end = time.monotonic() + _READY_S
        while len(list((self.folder / "ready").glob("*"))) < 1:
            if time.monotonic() > end:
                raise BenchError("no machine waits")
            time.sleep(0.1)


@contextlib.contextmanager
def _pool(folder: Path) -> Iterator[_Pool]:
    """A server; where its machines are is in the environment of what is started meanwhile."""
    before = {name: os.environ.get(name) for name in ("RUNV_POOL_FOLDER", "RUNV_POOL_SIZE")}
    os.environ.update(RUNV_POOL_FOLDER=str(folder / "pool"), RUNV_POOL_SIZE="1")
    server = subprocess.Popen([runv_program(), "--root", str(folder / "server"), "factory", "serve"])
    try:
        yield _Pool(folder / "pool")
    finally:
        server.terminate()
        server.wait(_READY_S)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _docker_run(docker: Docker, *flags: str) -> Callable[[], None]:
    def run() -> None:
        done = docker.run(*flags, IMAGE, "true")
        if done.code:
            raise BenchError(f"docker run ended with {done.code}: {done.err}")

    return run


def _hyperctl(count: int, tick: Callable[[], None]) -> list[Figure]:
    with _folder() as folder, hyperd.running(folder, ready_machines=1) as daemon:
        cold = "hyperctl run true, no machine waiting"
        subjects = [
            # Of another size than the usual, so that the one that waits does not fit.
            Subject(cold, lambda: _pod(daemon, "--memory", "256"), before=lambda: _one_waits(daemon)),
            Subject("hyperctl run true, a machine waiting", lambda: _pod(daemon), cold, before=lambda: _one_waits(daemon)),
        ]
        return in_turns(subjects, count, tick)


def _pod(daemon: hyperd.Daemon, *flags: str) -> None:
    done = daemon.ctl("run", *flags, "busybox", "true")
    if done.returncode:
        raise BenchError(f"hyperctl run ended with {done.returncode}: {done.stderr.decode()}")


def _one_waits(daemon: hyperd.Daemon) -> None:
    end = time.monotonic() + _READY_S
    while not daemon.expect(200, "GET", "/info")["ready_machines"]:
        if time.monotonic() > end:
            raise BenchError("no machine is made ready")
        time.sleep(0.1)
