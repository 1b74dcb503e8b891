"""runv-standin shows out-of-memory kills of the guest on the host."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.host_c.process import wait_until
from tests.host_c.standin import StandIn, running_standin
from tests.memory_cgroup import OomWatch, limit_of, memory_cgroup, oom_kills

# What QEMU is to the real one: a process in the same cgroup, with memory of its own, which goes on taking more.
NEIGHBOUR = """
import time
held = [bytearray(32 << 20)]
print("ready", flush=True)
while True:
    held.append(bytearray(16384))
    time.sleep(0.01)
"""


@pytest.fixture
def group() -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("cgroups need root")
    with memory_cgroup(f"rvt-standin-{os.getpid()}") as folder:
        yield folder


@pytest.fixture
def watch(group: Path) -> Iterator[OomWatch]:
    watch = OomWatch(group)
    yield watch
    watch.close()


@contextmanager
def standin_in(programs: Path, group: Path) -> Iterator[tuple[StandIn, int]]:
    """With the number of its first question for kills."""
    with running_standin(programs, memory=str(group)) as standin:
        (group / "cgroup.procs").write_text(str(standin.pid))
        yield standin, standin.agent.expect("oom", seen=0)


def test_a_kill_is_shown(programs: Path, group: Path, watch: OomWatch) -> None:
    limit = limit_of(group)
    with standin_in(programs, group) as (standin, question):
        assert not watch.heard(0.1)
        standin.agent.reply(question, kills=2, ended=False)
        assert watch.heard(10)
        question = standin.agent.expect("oom", seen=2)
        wait_until(lambda: limit_of(group) == limit)
        watch.heard(0.2)  # the kernel may tell of it twice
        # Not again within a second, and then as before.
        standin.agent.reply(question, kills=3, ended=False)
        question = standin.agent.expect("oom", seen=3)
        assert not watch.heard(0.3)
        time.sleep(1)
        standin.agent.reply(question, kills=4, ended=False)
        assert watch.heard(10)
        standin.agent.expect("oom", seen=4)
        standin.agent.end(standin.wait_id, exit=3)
        assert standin.ended() == 3


def test_shown_before_the_end(programs: Path, group: Path, watch: OomWatch) -> None:
    with standin_in(programs, group) as (standin, question):
        standin.agent.reply(question, kills=1, ended=True)
        standin.agent.end(standin.wait_id, signal=9)
        assert standin.ended() == -9
        assert watch.heard(0)


def test_an_end_without_a_kill(programs: Path, group: Path, watch: OomWatch) -> None:
    with standin_in(programs, group) as (standin, question):
        standin.agent.reply(question, kills=0, ended=True)
        standin.agent.end(standin.wait_id, exit=0)
        assert standin.ended() == 0
        assert not watch.heard(0.1)
        assert oom_kills(group) == 0


def test_a_guest_that_cannot_tell(programs: Path, group: Path) -> None:
    with standin_in(programs, group) as (standin, question):
        standin.agent.send_raw(b'{"id":%d,"error":{"kind":"unsupported","message":"no such operation"}}' % question)
        standin.agent.end(standin.wait_id, exit=5)
        assert standin.ended() == 5


def test_nobody_else_is_killed(programs: Path, group: Path, watch: OomWatch, tmp_path: Path) -> None:
    neighbour = subprocess.Popen([sys.executable, "-c", NEIGHBOUR], stdout=subprocess.PIPE)
    try:
        (group / "cgroup.procs").write_text(str(neighbour.pid))
        assert neighbour.stdout is not None and neighbour.stdout.readline() == b"ready\n"
        with standin_in(programs, group) as (standin, question):
            for kills in range(1, 4):
                standin.agent.reply(question, kills=kills, ended=False)
                assert watch.heard(10)
                question = standin.agent.expect("oom", seen=kills)
                # It is over when the stand-in answers to a signal again: the fake agent is asked to pass it on.
                standin.process.send_signal(signal.SIGUSR1)
                standin.agent.refuse(standin.agent.expect("signal", signal=int(signal.SIGUSR1)), "state", "")
                time.sleep(1.1)  # before that nothing would be shown
            assert neighbour.poll() is None
            standin.agent.end(standin.wait_id, exit=0)
            assert standin.ended() == 0
    finally:
        neighbour.kill()
        neighbour.wait()
        neighbour.stdout.close()  # type: ignore[union-attr]


def test_a_folder_that_is_gone(programs: Path, tmp_path: Path) -> None:
    with running_standin(programs, memory=str(tmp_path / "gone")) as standin:
        standin.agent.reply(standin.agent.expect("oom", seen=0), kills=1, ended=True)
        standin.agent.end(standin.wait_id, exit=0)
        assert standin.ended() == 0


def test_a_neighbour_with_more_pages_than_the_cgroup_counts(programs: Path, group: Path, watch: OomWatch) -> None:
    # As a clone of a template has them: others have brought them in, and they count for who is the biggest all the same.
    with tempfile.TemporaryFile(dir="/dev/shm") as file:
        file.write(bytes(256 << 20))
        file.flush()
        code = (
            "import mmap, time\nm = mmap.mmap(0, 256 << 20)\n"
            "[m[i] for i in range(0, 256 << 20, 4096)]\nprint('ready', flush=True)\ntime.sleep(1000)"
        )
        neighbour = subprocess.Popen([sys.executable, "-c", code], stdin=file, stdout=subprocess.PIPE)
        try:
            assert neighbour.stdout is not None and neighbour.stdout.readline() == b"ready\n"
            (group / "cgroup.procs").write_text(str(neighbour.pid))
            with standin_in(programs, group) as (standin, question):
                standin.agent.reply(question, kills=1, ended=True)
                standin.agent.end(standin.wait_id, signal=9)
                assert standin.ended() == -9
                assert watch.heard(0)
            assert neighbour.poll() is None
        finally:
            neighbour.kill()
            neighbour.wait()
            neighbour.stdout.close()  # type: ignore[union-attr]


def test_killed_while_it_shows_one(programs: Path, group: Path) -> None:
    """The limit is not left lowered: SIGKILL comes while it is, as `kill -9` and `delete --force` may."""
    limit = limit_of(group)
    for _ in range(10):
        with standin_in(programs, group) as (standin, question):
            standin.agent.reply(question, kills=1, ended=False)
            deadline = time.monotonic() + 10
            while (lowered := limit_of(group) != limit) is False and time.monotonic() < deadline:
                pass
            os.kill(standin.pid, signal.SIGKILL)
            # It may have been raised between the two.
            caught = lowered and limit_of(group) != limit
            wait_until(lambda: limit_of(group) == limit)
        wait_until(lambda: not (group / "cgroup.procs").read_text())
        if caught:
            return
    raise AssertionError("the limit was never seen lowered")
