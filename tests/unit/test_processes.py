"""Processes of ours: their start, who they are, and their end. And hooks, which are processes of the user's."""

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from runv.errors import HostError, RunvError
from runv.hooks import run_hooks
from runv.processes import Identity, identify, kill_all, kill_and_wait, read_identity, spawn, wait_gone, wait_reaped
from runv.spec.config import Hook


def start(tmp_path: Path, script: str, **more: Any) -> tuple[Identity, Path]:
    """A shell script whose output goes to a file."""
    out = tmp_path / "out"
    null = os.open("/dev/null", os.O_RDWR)
    fd = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        argv = ["/bin/sh", "-c", script]
        options: dict[str, Any] = {"env": {"A": "b"}, "stdio": (null, fd, fd), "pid_file": str(tmp_path / "pid")}
        return spawn(argv, **(options | more)), out
    finally:
        os.close(null)
        os.close(fd)


def finish(identity: Identity) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(identity.pid, 0)[1])


def test_a_child_is_written_down_and_clean(tmp_path: Path) -> None:
    identity, out = start(tmp_path, "echo $A $PWD; ls /proc/self/fd | wc -l; ps -o sid= -p $$ | tr -d ' '; exit 3")
    assert str(read_identity(str(tmp_path / "pid"))) == str(identity)
    assert finish(identity) == 3
    # ls itself opens the folder it lists.
    assert out.read_text().splitlines() == ["b /", "4", str(identity.pid)]


def test_kept_descriptors_keep_their_numbers(tmp_path: Path) -> None:
    read, write = os.pipe()
    identity, _ = start(tmp_path, f"echo hello >/proc/self/fd/{write}", keep=[write])
    os.close(write)
    assert finish(identity) == 0
    assert os.read(read, 100) == b"hello\n"
    os.close(read)


def test_pythons_ignored_signals_are_not_inherited(tmp_path: Path) -> None:
    identity, out = start(tmp_path, "grep -E 'SigIgn|SigBlk' /proc/self/status")
    finish(identity)
    blocked, ignored = (int(line.split()[1], 16) for line in out.read_text().splitlines())
    # What whoever started us ignores stays ignored, as it does under any program: make's two of libc, nohup's SIGHUP.
    inherited = ignored_by(os.getpid())
    of_python = 1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1
    assert inherited & of_python == of_python
    assert (blocked, ignored) == (0, inherited & ~of_python)


def ignored_by(pid: int) -> int:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigIgn"))
    return int(line.split()[1], 16)


@pytest.mark.parametrize(
    ("name", "message"),
    [("absent", "no such file or directory"), ("text", "permission denied"), (".", "permission denied")],
)
def test_a_program_that_cannot_run(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "text").touch(mode=0o644)
    program = os.path.join(tmp_path, name)
    with pytest.raises(HostError) as failure:
        spawn([program], env={}, stdio=(0, 1, 2), pid_file=str(tmp_path / "pid"))
    assert str(failure.value) == f"cannot start {name}: {program}: {message}"
    identity = read_identity(str(tmp_path / "pid"))
    assert identity is not None
    assert not identity.alive()


def test_what_prepare_raises_is_ours(tmp_path: Path) -> None:
    def prepare() -> None:
        raise OSError(28, "", "/somewhere")

    with pytest.raises(HostError, match=r"^cannot start sh: /somewhere: no space left on device$"):
        start(tmp_path, "true", prepare=prepare)
    assert not (tmp_path / "pid").exists()


def test_a_pid_alone_is_nobody() -> None:
    me = identify(os.getpid())
    assert me.alive()
    assert not Identity(me.pid, me.start + 1).alive()
    assert not Identity(me.pid, 0).alive()
    assert identify(2**22 + 1).start == 0


def test_the_wrong_process_is_not_killed(tmp_path: Path) -> None:
    identity, _ = start(tmp_path, "sleep 100")
    assert kill_and_wait(Identity(identity.pid, identity.start - 1), 1)
    assert identity.alive()
    assert kill_and_wait(identity, 5)
    assert not identity.alive()
    assert kill_and_wait(identity, 5)


def test_all_are_killed(tmp_path: Path) -> None:
    first, _ = start(tmp_path, "sleep 100")
    second, _ = start(tmp_path, "sleep 100")
    gone = identify(2**22 + 1)
    assert kill_all([None, first, gone, second], 5) is None
    assert not first.alive() and not second.alive()
    for reaped in (first, second):
        with pytest.raises(ChildProcessError):
            os.waitpid(reaped.pid, os.WNOHANG)


def test_waiting_for_an_end(tmp_path: Path) -> None:
    identity, _ = start(tmp_path, "sleep 100")
    assert not wait_gone(identity, 0.02)
    os.kill(identity.pid, signal.SIGKILL)
    assert wait_gone(identity, 5)
    assert wait_gone(identity, 0)


def test_waiting_for_somebody_who_waits(tmp_path: Path) -> None:
    identity, _ = start(tmp_path, "exit 0")
    os.waitid(os.P_PID, identity.pid, os.WEXITED | os.WNOWAIT)
    assert not wait_reaped([identity], 0.05)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wait_reaped, [identity, Identity(identity.pid, identity.start + 1)], 20)
        assert finish(identity) == 0
        assert waiting.result()


@pytest.mark.parametrize("text", ["", "12", "a b", "12 "])
def test_half_a_pid_file_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "pid").write_text(text)
    assert read_identity(str(tmp_path / "pid")) is None
    assert read_identity(str(tmp_path / "absent")) is None


def hook(script: str, timeout: int | None = None, env: list[str] | None = None) -> Hook:
    return Hook(path="/bin/sh", args=["hook", "-c", script], timeout=timeout, env=env)


def test_hooks_run_in_order_and_get_the_state(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_hooks(
        "prestart",
        [hook(f"cat >> {out}; echo >> {out}"), hook(f"echo $X $HOME >> {out}", env=["X=a=b"])],
        {"id": "one"},
    )
    first, second = out.read_text().splitlines()
    assert json.loads(first) == {"id": "one"}
    assert second == "a=b"


def test_a_hook_may_ignore_its_input() -> None:
    run_hooks("prestart", [hook("exec <&-; exit 0")], {"annotations": {"a": "x" * 200_000}})


def test_a_failing_hook_stops_the_rest(tmp_path: Path) -> None:
    with pytest.raises(RunvError) as failure:
        run_hooks("poststop", [hook("true"), hook("echo why; exit 7"), hook(f"touch {tmp_path}/ran")], {})
    assert str(failure.value) == "error running poststop hook #1: exit status 7, output: why"
    assert not (tmp_path / "ran").exists()


def test_a_hook_that_is_not_there() -> None:
    with pytest.raises(RunvError, match=r"^error running prestart hook #0: /absent: no such file or directory$"):
        run_hooks("prestart", [Hook(path="/absent")], {})


def test_a_hook_that_takes_too_long_is_killed() -> None:
    began = time.monotonic()
    with pytest.raises(RunvError, match=r"did not end within 1 s$"):
        run_hooks("prestart", [hook("exec sleep 60", timeout=1)], {})
    assert time.monotonic() - began < 10


def test_what_is_done_meanwhile(tmp_path: Path) -> None:
    """While a hook runs; a failure of it waits for the hook's end, which may have much to undo."""

    def meanwhile() -> None:
        (tmp_path / "go").touch()
        raise HostError("go on", OSError(28, ""))

    script = f"while [ ! -e {tmp_path}/go ]; do sleep 0.01; done; sleep 0.05; touch {tmp_path}/done"
    with pytest.raises(HostError):
        run_hooks("prestart", [hook(script, timeout=20)], {}, meanwhile)
    assert (tmp_path / "done").exists()


def test_a_hook_is_ended_with_what_it_has_started(tmp_path: Path) -> None:
    with pytest.raises(RunvError, match=r"did not end within 1 s$"):
        run_hooks("prestart", [hook(f"sleep 60 & echo $! >{tmp_path}/pid; exit 0", timeout=1)], {})
    child = int((tmp_path / "pid").read_text())
    assert wait_gone(identify(child), 5)
