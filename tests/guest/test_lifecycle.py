"""create, start, wait, exec, signal, delete."""

from __future__ import annotations

import contextlib
import signal
import time

import pytest

from .client import AgentError
from .harness import Guest, oci_spec, process_spec, wait_until


def failure(guest: Guest, *args: str, **members: object) -> AgentError:
    """Why a container cannot be created; and it must leave nothing behind."""
    with pytest.raises(AgentError) as caught:
        guest.control.call("create", container="c", oci=oci_spec(*args, **members))  # type: ignore[arg-type]
    assert guest.control.call("sandbox")["containers"] == []
    assert guest.cgroups() == set()
    return caught.value


def test_hello_world(guest: Guest) -> None:
    done = guest.run(oci_spec("sh", "-c", "echo hi; echo oh >&2"))
    assert (done.result, done.stdout, done.stderr) == ({"exit": 0}, b"hi\n", b"oh\n")


def test_states(guest: Guest) -> None:
    created = guest.control.call("create", container="c", oci=oci_spec("sh", "-c", "exit 3"))
    assert guest.control.call("state", container="c") == {"status": "created", "pid": created["pid"]}
    waiting = guest.control.send("wait", container="c")
    guest.control.call("start", container="c")
    assert guest.control.result(waiting) == {"exit": 3}
    assert guest.control.call("state", container="c") == {"status": "stopped", "pid": 0}
    assert guest.control.call("wait", container="c") == {"exit": 3}
    assert guest.control.call("delete", container="c") == {}
    with pytest.raises(AgentError) as caught:
        guest.control.call("state", container="c")
    assert caught.value.kind == "not-found"


def test_exit_codes(guest: Guest) -> None:
    with guest.running("sleep", "100"):
        for code in (0, 1, 2, 42, 127, 128, 254, 255):
            assert guest.exec("c", "sh", "-c", f"exit {code}").result == {"exit": code}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1, signal.SIGSEGV])
def test_death_by_signal(guest: Guest, number: int) -> None:
    with guest.running("sleep", "100"):
        guest.control.call("exec", container="c", process="x", spec=process_spec("sleep", "100"))
        guest.control.call("start", container="c", process="x")
        waiting = guest.control.send("wait", container="c", process="x", owner=True)
        guest.control.call("signal", container="c", process="x", signal=number)
        assert guest.control.result(waiting) == {"signal": number}


def test_signal_reaches_a_handler(guest: Guest) -> None:
    script = "trap 'echo got it; exit 5' TERM; echo ready; while :; do sleep 0.1; done"
    guest.control.call("create", container="c", oci=oci_spec("sh", "-c", script))
    out = guest.stream("c", "init", "stdout")
    guest.control.call("start", container="c")
    assert out.recv(100) == b"ready\n"
    guest.control.call("signal", container="c", signal=signal.SIGTERM)
    assert guest.control.call("wait", container="c") == {"exit": 5}
    assert out.recv(100) == b"got it\n"
    out.close()
    guest.control.call("delete", container="c")


def test_signal_all(guest: Guest) -> None:
    with guest.running("sh", "-c", "sleep 100 & sleep 100 & trap : USR1; while :; do wait; done"):

        def sleeping() -> int:
            processes = guest.control.call("processes", container="c")["processes"]
            return sum(process["comm"] == "sleep" for process in processes)

        wait_until(lambda: sleeping() == 2, "both children")
        guest.control.call("signal", container="c", signal=signal.SIGUSR1, all=True)
        wait_until(lambda: sleeping() == 0, "the end of both children")
        assert guest.control.call("state", container="c")["status"] == "running"
        guest.control.call("signal", container="c", signal=signal.SIGKILL, all=True)
        assert guest.control.call("wait", container="c") == {"signal": signal.SIGKILL}


def test_signal_to_the_dead(guest: Guest) -> None:
    guest.control.call("create", container="c", oci=oci_spec("true"))
    guest.control.call("start", container="c")
    guest.control.call("wait", container="c")
    with pytest.raises(AgentError, match="process already finished") as caught:
        guest.control.call("signal", container="c", signal=15)
    assert caught.value.kind == "state"
    with pytest.raises(AgentError) as caught:
        guest.control.call("start", container="c")
    assert caught.value.kind == "state"
    guest.control.call("delete", container="c")


def test_start_twice(guest: Guest) -> None:
    with guest.running("sleep", "100"), pytest.raises(AgentError) as caught:
        guest.control.call("start", container="c")
    assert caught.value.kind == "state"


def test_same_id_twice(guest: Guest) -> None:
    with guest.running("sleep", "100"):
        with pytest.raises(AgentError) as caught:
            guest.control.call("create", container="c", oci=oci_spec("true"))
        assert caught.value.kind == "exists"
        guest.control.call("exec", container="c", process="x", spec=process_spec("true"))
        with pytest.raises(AgentError) as caught:
            guest.control.call("exec", container="c", process="x", spec=process_spec("true"))
        assert caught.value.kind == "exists"


def test_delete_while_created(guest: Guest) -> None:
    guest.control.call("create", container="c", oci=oci_spec("sleep", "100"))
    waiting = guest.control.send("wait", container="c")
    guest.control.call("delete", container="c")
    assert guest.control.result(waiting) == {"signal": signal.SIGKILL}


def test_delete_kills_everything(guest: Guest) -> None:
    with guest.running("sh", "-c", "(setsid sleep 100 &) ; (setsid sleep 100 &); exec sleep 100"):
        guest.control.call("exec", container="c", process="x", spec=process_spec("sleep", "100"))
        guest.control.call("start", container="c", process="x")
    assert guest.children() == []


def test_many_containers_at_once(guest: Guest) -> None:
    requests = [guest.control.send("create", container=f"c{i}", oci=oci_spec("sleep", "100")) for i in range(20)]
    pids = {guest.control.result(request)["pid"] for request in requests}
    assert len(pids) == 20
    for i in range(20):
        guest.control.call("start", container=f"c{i}")
    requests = [guest.control.send("delete", container=f"c{i}") for i in range(20)]
    for request in requests:
        guest.control.result(request)


def test_orphans_are_reaped(guest: Guest) -> None:
    namespaces = [{"type": "mount"}]
    with guest.running(
        "sh", "-c", "for i in 1 2 3 4 5; do (sleep 0.05 &) ; done; sleep 100", namespaces=namespaces, hostname=""
    ):
        wait_until(lambda: len(guest.children()) == 1, "the orphans to be reaped")


class TestStartupErrors:
    """Engines look for these words."""

    def test_not_in_path(self, guest: Guest) -> None:
        error = failure(guest, "nonesuch")
        assert error.message == 'exec: "nonesuch": executable file not found in $PATH'
        assert (error.kind, error.errno) == ("failed", 2)

    @pytest.mark.parametrize("replaced", [True, False])
    def test_a_program_that_changes_before_the_start(self, guest: Guest, replaced: bool) -> None:
        tool, other = guest.rootfs / "tool", guest.rootfs / "other"
        for path, text in ((tool, "old"), (other, "newer")):
            path.write_text(f"#!/bin/sh\necho {text}\n")
            path.chmod(0o755)
        guest.control.call("create", container="c", oci=oci_spec("/tool"))
        tool.unlink()
        if replaced:
            other.rename(tool)
            assert guest.finish("c", "init").text == "newer\n"
        else:
            with pytest.raises(AgentError, match="exec /tool: no such file or directory"):
                guest.control.call("start", container="c")
        guest.control.call("delete", container="c")

    def test_path_is_searched_to_its_end(self, guest: Guest) -> None:
        """Past folders that are not there, are none or have something else of that name; an empty one is the working directory."""
        for index, mode in enumerate((0o644, 0o755, 0o755)):
            (guest.rootfs / f"{index}").mkdir()
            (guest.rootfs / f"{index}/tool").write_text(f"#!/bin/sh\necho {index}\n")
            (guest.rootfs / f"{index}/tool").chmod(mode)
        (guest.rootfs / "dir/tool").mkdir(parents=True)
        absent = ":".join(f"/absent/{index}" for index in range(20))
        for path, cwd, found in ((f"{absent}:/etc/passwd:/dir:/0:/1:/2", "/", "1"), ("/dir::/1", "/2", "2"), (":/1", "/dir", "1")):
            assert guest.run(oci_spec("tool", env=[f"PATH={path}"], cwd=cwd)).text == f"{found}\n"

    @pytest.mark.parametrize(
        ("program", "reason"),
        [
            ("/bin/nonesuch", "no such file or directory"),
            ("/etc/not-executable", "permission denied"),
            ("/etc", "permission denied"),
            ("/etc/passwd/x", "not a directory"),
            ("./etc/nonesuch", "no such file or directory"),
        ],
    )
    def test_path(self, guest: Guest, program: str, reason: str) -> None:
        error = failure(guest, program)
        assert (error.kind, error.message) == ("failed", f'exec: "{program}": {reason}')

    def test_not_allowed_for_the_user(self, guest: Guest) -> None:
        (guest.rootfs / "private").mkdir(mode=0o700)
        error = failure(guest, "/private/x", user={"uid": 1000, "gid": 1000}, capabilities={})
        assert error.message == 'exec: "/private/x": permission denied'

    def test_format_is_found_out_at_start(self, guest: Guest) -> None:
        (guest.rootfs / "bad").write_bytes(b"\0\1\2 not a program")
        (guest.rootfs / "bad").chmod(0o755)
        guest.control.call("create", container="c", oci=oci_spec("/bad"))
        with pytest.raises(AgentError) as caught:
            guest.control.call("start", container="c")
        assert caught.value.message == "exec /bad: exec format error"
        assert guest.control.call("state", container="c")["status"] == "stopped"
        guest.control.call("delete", container="c")

    def test_missing_rootfs(self, guest: Guest) -> None:
        oci = oci_spec("true")
        oci["root"]["path"] = "/nowhere"
        with pytest.raises(AgentError) as caught:
            guest.control.call("create", container="c", oci=oci)
        assert caught.value.message == "cannot open rootfs /nowhere: no such file or directory"

    def test_unknown_file_system(self, guest: Guest) -> None:
        error = failure(guest, "true", mounts=[{"destination": "/x", "type": "nonesuchfs", "source": "x"}])
        assert error.message == "cannot mount nonesuchfs at /x: the guest's kernel has no such file system"

    def test_missing_bind_source(self, guest: Guest) -> None:
        error = failure(guest, "true", mounts=[{"destination": "/x", "source": "/nowhere", "options": ["bind"]}])
        assert error.message == "cannot mount /nowhere at /x: no such file or directory"

    def test_bad_rlimit(self, guest: Guest) -> None:
        error = failure(guest, "true", rlimits=[{"type": "RLIMIT_FUN", "soft": 1, "hard": 1}])
        assert (error.kind, error.message) == ("invalid", "process.rlimits[0].type is not a known limit")

    def test_no_args(self, guest: Guest) -> None:
        error = failure(guest)
        assert (error.kind, error.message) == ("invalid", "args.oci.process.args must not be empty")

    def test_missing_controller(self, guest: Guest) -> None:
        error = failure(guest, "true", linux={"resources": {"unified": {"nonesuch.max": "1"}}})
        assert error.kind == "unsupported"
        assert "nonesuch.max" in error.message

    def test_seccomp_notify(self, guest: Guest) -> None:
        error = failure(guest, "true", linux={"seccomp": {"defaultAction": "SCMP_ACT_NOTIFY"}})
        assert error.kind == "unsupported"

    def test_apparmor(self, guest: Guest) -> None:
        assert failure(guest, "true", apparmorProfile="docker-default").kind == "unsupported"
        assert guest.run(oci_spec("true", apparmorProfile="unconfined")).result == {"exit": 0}


class TestExec:
    def test_output_and_environment(self, guest: Guest) -> None:
        with guest.running("sleep", "100"):
            done = guest.exec("c", "sh", "-c", "echo $HOME $X; hostname; cat /proc/1/comm", env=["PATH=/bin", "X=y"])
            assert done.text == "/root y\nbox\nsleep\n"

    def test_of_a_created_container(self, guest: Guest) -> None:
        guest.control.call("create", container="c", oci=oci_spec("sleep", "100"))
        assert guest.exec("c", "echo", "early").text == "early\n"
        guest.control.call("delete", container="c")

    def test_same_cgroup(self, guest: Guest) -> None:
        with guest.running("sleep", "100"):
            assert guest.exec("c", "grep", "^0::", "/proc/self/cgroup").text == "0::/\n"

    def test_unknown_program_leaves_nothing(self, guest: Guest) -> None:
        with guest.running("sleep", "100"):
            with pytest.raises(AgentError, match=r"executable file not found in \$PATH"):
                guest.control.call("exec", container="c", process="x", spec=process_spec("nonesuch"))
            assert guest.exec("c", "true").result == {"exit": 0}

    def test_of_a_stopped_container(self, guest: Guest) -> None:
        guest.control.call("create", container="c", oci=oci_spec("true"))
        guest.control.call("start", container="c")
        guest.control.call("wait", container="c")
        with pytest.raises(AgentError) as caught:
            guest.control.call("exec", container="c", process="x", spec=process_spec("true"))
        assert caught.value.kind == "state"
        guest.control.call("delete", container="c")

    def test_dies_with_the_container(self, guest: Guest) -> None:
        with guest.running("sleep", "100"):
            guest.control.call("exec", container="c", process="x", spec=process_spec("sleep", "100"))
            guest.control.call("start", container="c", process="x")
            waiting = guest.control.send("wait", container="c", process="x", owner=True)
            guest.control.call("signal", container="c", signal=9)
            assert guest.control.result(waiting) == {"signal": 9}


class TestOwner:
    def test_process_is_forgotten_when_told(self, guest: Guest) -> None:
        with guest.running("sleep", "100"):
            guest.exec("c", "true", process="x")
            with pytest.raises(AgentError) as caught:
                guest.control.call("wait", container="c", process="x")
            assert caught.value.kind == "not-found"

    def test_only_one(self, guest: Guest) -> None:
        with guest.running("sleep", "100"):
            other = guest.connect()
            other.send("wait", container="c", owner=True)
            other.call("sandbox")
            with pytest.raises(AgentError) as caught:
                guest.control.call("wait", container="c", owner=True)
            assert caught.value.kind == "exists"
            other.close()
            assert guest.control.call("wait", container="c") == {"signal": 9}

    def test_end_of_the_connection_kills_a_process(self, guest: Guest) -> None:
        with guest.running("sleep", "100"):
            guest.control.call("exec", container="c", process="x", spec=process_spec("sleep", "100"))
            guest.control.call("start", container="c", process="x")
            other = guest.connect()
            other.send("wait", container="c", process="x", owner=True)
            waiting = guest.control.send("wait", container="c", process="x")
            other.call("sandbox")
            other.close()
            assert guest.control.result(waiting) == {"signal": 9}
            assert guest.control.call("state", container="c")["status"] == "running"

    def test_end_of_the_connection_kills_a_container(self, guest: Guest) -> None:
        with guest.running("sh", "-c", "sleep 100 & sleep 100"):
            other = guest.connect()
            other.send("wait", container="c", owner=True)
            other.call("sandbox")
            other.close()
            assert guest.control.call("wait", container="c") == {"signal": 9}

    def test_end_of_the_connection_after_the_process(self, guest: Guest) -> None:
        with guest.running("sleep", "100"):
            other = guest.connect()
            guest.control.call("exec", container="c", process="x", spec=process_spec("true"))
            guest.control.call("start", container="c", process="x")
            other.call("wait", container="c", process="x", owner=True)
            other.close()
            time.sleep(0.05)
            assert guest.control.call("state", container="c")["status"] == "running"

    def test_created_process_is_owned_too(self, guest: Guest) -> None:
        guest.control.call("create", container="c", oci=oci_spec("sleep", "100"))
        other = guest.connect()
        other.send("wait", container="c", owner=True)
        other.call("sandbox")
        other.close()
        assert guest.control.call("wait", container="c") == {"signal": 9}
        guest.control.call("delete", container="c")


def test_processes(guest: Guest) -> None:
    with guest.running("sh", "-c", "sleep 77; true", user={"uid": 1000, "gid": 1000}) as pid:

        def listed() -> dict[str, dict[str, object]]:
            return {p["comm"]: p for p in guest.control.call("processes", container="c")["processes"]}

        wait_until(lambda: "sleep" in listed(), "the child")
        processes = listed()
        assert set(processes) == {"sh", "sleep"}
        assert processes["sh"]["pid"] == pid
        assert processes["sleep"]["ppid"] == pid
        assert processes["sleep"]["args"] == "sleep 77"
        assert processes["sleep"]["uid"] == 1000
        assert isinstance(processes["sleep"]["start_ticks"], int)


def test_sandbox(guest: Guest) -> None:
    with guest.running("sleep", "100"):
        answer = guest.control.call("sandbox")
    assert answer["containers"] == ["c"]
    assert answer["memory"]["total_kib"] > answer["memory"]["available_kib"] > 0
    assert answer["uptime_ms"] > 0


def test_delete_while_creating(guest: Guest) -> None:
    """A creation that hangs must not make a container immortal: a delete may come at any moment of it."""
    for _ in range(20):
        creating = guest.control.send("create", container="c", oci=oci_spec("sleep", "100"))
        deleting = guest.control.send("delete", container="c")
        with contextlib.suppress(AgentError):
            guest.control.result(creating)
        guest.control.result(deleting)
