"""pause and resume."""

from __future__ import annotations

import io
import signal
import tarfile
import time
from pathlib import Path

import pytest

from .client import AgentError
from .harness import Guest, oci_spec, process_spec, wait_until

COUNTS = "i=0; while :; do i=$((i+1)); echo $i >/tmp/count; sleep 0.02; done"


def counted(guest: Guest) -> str:
    path: Path = guest.rootfs / "tmp/count"
    return path.read_text() if path.exists() else ""


def state(guest: Guest) -> str:
    return str(guest.control.call("state", container="c")["status"])


def test_all_processes_stand_still_when_pause_is_answered(guest: Guest) -> None:
    with guest.running("sh", "-c", f"({COUNTS}) & {COUNTS.replace('count', 'other')}"):
        wait_until(lambda: counted(guest) != "", "the first count")
        assert guest.control.call("pause", container="c") == {}
        before = counted(guest), (guest.rootfs / "tmp/other").read_text()
        time.sleep(0.2)
        assert (counted(guest), (guest.rootfs / "tmp/other").read_text()) == before
        assert state(guest) == "paused"
        assert guest.control.call("resume", container="c") == {}
        assert state(guest) == "running"
        wait_until(lambda: counted(guest) not in (before[0], ""), "the next count")


def test_a_created_container_can_be_paused(guest: Guest) -> None:
    guest.control.call("create", container="c", oci=oci_spec("true"))
    guest.control.call("pause", container="c")
    assert state(guest) == "paused"
    guest.control.call("resume", container="c")
    assert state(guest) == "created"
    assert guest.finish("c", "init").result == {"exit": 0}
    guest.control.call("delete", container="c")


@pytest.mark.parametrize("operation", ["pause", "resume"])
def test_twice_is_refused(guest: Guest, operation: str) -> None:
    with guest.running("sleep", "100"):
        if operation == "pause":
            guest.control.call("pause", container="c")
        with pytest.raises(AgentError) as caught:
            guest.control.call(operation, container="c")
        assert caught.value.kind == "state"


@pytest.mark.parametrize("operation", ["pause", "resume"])
def test_what_has_ended_is_refused(guest: Guest, operation: str) -> None:
    guest.control.call("create", container="c", oci=oci_spec("true"))
    guest.finish("c", "init")
    for container, kind in (("c", "state"), ("nobody", "not-found")):
        with pytest.raises(AgentError) as caught:
            guest.control.call(operation, container=container)
        assert caught.value.kind == kind
    guest.control.call("delete", container="c")


def test_a_signal_waits_and_a_kill_does_not(guest: Guest) -> None:
    with guest.running("sh", "-c", "trap 'exit 5' TERM; echo 1 >/tmp/count; while :; do sleep 0.02; done"):
        wait_until(lambda: counted(guest) != "", "the trap")
        waiting = guest.control.send("wait", container="c")
        guest.control.call("pause", container="c")
        guest.control.call("signal", container="c", signal=signal.SIGTERM)
        assert not guest.control.has_reply(waiting, 0.2)
        guest.control.call("resume", container="c")
        assert guest.control.result(waiting) == {"exit": 5}
    with guest.running("sleep", "100"):
        guest.control.call("exec", container="c", process="x", spec=process_spec("sleep", "100"))
        guest.control.call("pause", container="c")
        guest.control.call("signal", container="c", signal=signal.SIGKILL)
        assert guest.control.call("wait", container="c") == {"signal": signal.SIGKILL}
        assert guest.control.call("wait", container="c", process="x") == {"signal": signal.SIGKILL}
        assert state(guest) == "stopped"


def test_kill_thaws_what_shares_the_pid_namespace_of_the_machine(guest: Guest) -> None:
    namespaces = [{"type": name} for name in ("mount", "ipc", "uts", "cgroup")]
    with guest.running("sh", "-c", f"({COUNTS}) & sleep 100", namespaces=namespaces):
        wait_until(lambda: counted(guest) != "", "the first count")
        guest.control.call("pause", container="c")
        before = counted(guest)
        guest.control.call("signal", container="c", signal=signal.SIGKILL)
        wait_until(lambda: counted(guest) not in (before, ""), "the next count")


def test_an_exec_waits_for_resume(guest: Guest) -> None:
    with guest.running("sleep", "100"):
        guest.control.call("pause", container="c")
        asked = guest.control.send("exec", container="c", process="x", spec=process_spec("echo", "hi"))
        assert not guest.control.has_reply(asked, 0.2)
        guest.control.call("resume", container="c")
        assert guest.control.result(asked)["pid"] > 0
        assert guest.finish("c", "x").stdout == b"hi\n"


def test_an_archive_does_not_wait(guest: Guest) -> None:
    """Files of a container that stands still can be read and written; it stands still all the while."""
    with guest.running("sh", "-c", COUNTS):
        wait_until(lambda: counted(guest) != "", "the first count")
        guest.control.call("pause", container="c")
        before = counted(guest)
        spec = process_spec("archive", archive={"do": "get", "path": "/etc"})
        guest.control.call("exec", container="c", process="x", spec=spec)
        done = guest.finish("c", "x")
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
            assert tar.getnames()[0] == "etc" and not done.stderr
        assert counted(guest) == before and state(guest) == "paused"


def test_delete_of_a_paused_container(guest: Guest) -> None:
    guest.control.call("create", container="c", oci=oci_spec("sleep", "100"))
    guest.control.call("start", container="c")
    guest.control.call("pause", container="c")
    assert guest.control.call("delete", container="c") == {}
