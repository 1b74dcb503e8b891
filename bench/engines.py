# SPDX-License-Identifier: Apache-2.0
"""What a user types: ``docker run`` with runc and with runv, and ``hyperctl run`` with and without a machine that waits. The daemons are the tests' own."""

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.runtimes import SLOW
from bench.timing import BenchError, Figure, Subject, in_turns
from tests.engines.docker import Docker
from tests.engines.harness import IMAGE, connected, remove_cgroup
from tests.hyperd.machines import harness as hyperd
from tests.vm.harness import become_subreaper, own_templates, reap

_READY_S = 60.0 * SLOW


def measure(count: int, tick: Callable[[], None]) -> list[Figure]:
    """Runs ``true`` in a container of each."""
    become_subreaper()
    with own_templates():
        return [*_docker(count, tick), *_hyperctl(count, tick)]


def _docker(count: int, tick: Callable[[], None]) -> list[Figure]:
    folder = Path(tempfile.mkdtemp(prefix="rvb", dir="/tmp"))  # short, since sockets are made below
    with connected() as (inside, _):
        docker = Docker(folder, inside)
        try:
            docker.start()
            floor = "docker run true, runc"
            subjects = [
                Subject(f"docker run true, {name}", _docker_run(docker, name), floor if name == "runv" else "") for name in ("runc", "runv")
            ]
            return in_turns(subjects, count, tick)
        finally:
            docker.stop()
            remove_cgroup(docker.cgroup_parent)
            reap()
            shutil.rmtree(folder, ignore_errors=True)


def _docker_run(docker: Docker, runtime: str) -> Callable[[], None]:
    def run() -> None:
        done = docker.run("--runtime", runtime, IMAGE, "true")
        if done.code:
            raise BenchError(f"docker run ended with {done.code}: {done.err}")

    return run


def _hyperctl(count: int, tick: Callable[[], None]) -> list[Figure]:
    folder = Path(tempfile.mkdtemp(prefix="rvb", dir="/tmp"))
    try:
        with hyperd.running(folder, ready_machines=1) as daemon:
            cold = "hyperctl run true, no machine waiting"
            subjects = [
                # Of another size than the usual, so that the one that waits does not fit.
                Subject(cold, lambda: _pod(daemon, "--memory", "256"), before=lambda: _one_waits(daemon)),
                Subject("hyperctl run true, a machine waiting", lambda: _pod(daemon), cold, before=lambda: _one_waits(daemon)),
            ]
            return in_turns(subjects, count, tick)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
