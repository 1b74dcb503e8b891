"""Bulk data, ends, signals, and where on the host the processes of a container sit."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import threading
from pathlib import Path
from typing import IO

import pytest

from .harness import DEADLINE_S, SLOW, Bundle, Runtime, new_id, qemu_of, wait_until

pytestmark = pytest.mark.vm

MIB = 1 << 20
BULK_MIB = 100
BULK_DEADLINE_S = 90 * SLOW


def _block(number: int) -> bytes:
    """A MiB that tells its place, so that order matters to the sum."""
    return number.to_bytes(8, "big") * (MIB // 8)


def _write(stream: IO[bytes]) -> str:
    digest = hashlib.sha256()
    with stream:
        for number in range(BULK_MIB):
            digest.update(_block(number))
            stream.write(_block(number))
    return digest.hexdigest()


def test_100_mib_through_stdin_and_stdout(runv: Runtime, bundle: Bundle) -> None:
    bundle.args("cat")
    process = runv.popen("run", "--bundle", str(bundle.path), new_id(), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    sent: list[str] = []
    stdin = process.stdin
    writer = threading.Thread(target=lambda: sent.append(_write(stdin)))
    writer.start()
    timer = threading.Timer(BULK_DEADLINE_S, process.kill)
    timer.start()
    digest = hashlib.sha256()
    count = 0
    while data := process.stdout.read(MIB):
        digest.update(data)
        count += len(data)
    process.stdout.close()
    code = process.wait(DEADLINE_S)
    timer.cancel()
    writer.join(DEADLINE_S)
    assert (code, count, [digest.hexdigest()]) == (0, BULK_MIB * MIB, sent)


def test_a_fast_end_after_much_output_loses_nothing(runv: Runtime, bundle: Bundle) -> None:
    bundle.script("yes 0123456 | head -c 5242880; exit 3")
    process = runv.popen("run", "--bundle", str(bundle.path), new_id(), stdout=subprocess.PIPE)
    out, _ = process.communicate(timeout=BULK_DEADLINE_S)
    assert (process.returncode, out) == (3, b"0123456\n" * 655360)


def test_a_reader_that_comes_late_gets_everything(runv: Runtime, bundle: Bundle) -> None:
    bundle.script("yes 0123456 | head -c 1048576; echo end >&2")
    ours, theirs = os.pipe()
    container = runv.start(bundle, stdout=theirs)
    os.close(theirs)
    with open(ours, "rb") as stream:
        assert stream.read() == b"0123456\n" * 131072
    assert container.wait() == 0
    container.stderr.seek(0)
    assert container.stderr.read() == b"end\n"
    container.delete()


def test_a_reader_that_goes_away_ends_the_writer(runv: Runtime, bundle: Bundle) -> None:
    bundle.script("yes; echo $? >&2")
    ours, theirs = os.pipe()
    container = runv.start(bundle, stdout=theirs)
    os.close(theirs)
    os.read(ours, 100)
    os.close(ours)
    assert container.wait() == 0
    container.stderr.seek(0)
    assert container.stderr.read() == b"141\n"
    container.delete()


def test_stdin_stays_open_until_the_caller_closes_it(runv: Runtime, bundle: Bundle) -> None:
    bundle.script("echo begun; cat; echo end")
    theirs, ours = os.pipe()
    container = runv.start(bundle, stdin=theirs)
    os.close(theirs)
    container.wait_output(b"begun\n")
    os.write(ours, b"one\n")
    container.wait_output(b"one\n")
    assert container.status() == "running"
    os.close(ours)
    assert (container.wait(), container.output()) == (0, b"begun\none\nend\n")
    container.delete()


def test_a_plain_kill_reaches_the_process(runv: Runtime, bundle: Bundle) -> None:
    bundle.script("trap 'echo term; exit 5' TERM; trap 'echo usr1' USR1; echo ready; while :; do sleep 0.05; done")
    container = runv.start(bundle)
    container.wait_output(b"ready")
    os.kill(container.pid, signal.SIGUSR1)
    container.wait_output(b"usr1")
    os.kill(container.pid, signal.SIGTERM)
    assert (container.wait(), container.output()) == (5, b"ready\nusr1\nterm\n")
    container.delete()


def test_sigkill_of_a_stand_in_ends_its_process(runv: Runtime, bundle: Bundle, folder: Path) -> None:
    bundle.args("sleep", "1000")
    container = runv.start(bundle)
    pid_file = folder / "exec.pid"
    runv.run("exec", "--detach", "--pid-file", str(pid_file), container.id, "sleep", "2000").ok()

    def sleeps() -> bool:
        return "sleep 2000" in runv.run("ps", container.id).ok().out

    assert sleeps()
    os.kill(int(pid_file.read_text()), signal.SIGKILL)
    wait_until(lambda: not sleeps(), "the end of the process in the guest")
    assert container.status() == "running"
    os.kill(container.pid, signal.SIGKILL)
    assert container.wait() == -signal.SIGKILL
    assert container.status() == "stopped"
    container.delete()


def _cgroups(pid: int) -> set[str]:
    return {line.split(":", 2)[2] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()}


def _network(pid: int | str) -> str:
    return os.readlink(f"/proc/{pid}/ns/net")


def test_the_processes_sit_in_the_cgroup_and_a_network_of_their_own(
    runv: Runtime, bundle: Bundle, folder: Path
) -> None:
    path = f"/{new_id()}/inner"
    bundle.linux["cgroupsPath"] = path
    bundle.args("sleep", "1000")
    container = runv.start(bundle)
    pid_file = folder / "exec.pid"
    runv.run("exec", "--detach", "--pid-file", str(pid_file), container.id, "sleep", "2000").ok()
    for pid in (container.pid, int(pid_file.read_text()), qemu_of(runv.root)):
        assert any(group.endswith(path) for group in _cgroups(pid)), Path(f"/proc/{pid}/cgroup").read_text()
        assert _network(pid) == _network(container.pid) != _network("self")
    container.delete()


def test_the_processes_sit_in_the_given_network_namespace(runv: Runtime, bundle: Bundle) -> None:
    with subprocess.Popen(["unshare", "--net", "sleep", "1000"]) as holder:
        try:
            wait_until(lambda: _network(holder.pid) != _network("self"), "the namespace")
            for namespace in bundle.linux["namespaces"]:
                if namespace["type"] == "network":
                    namespace["path"] = f"/proc/{holder.pid}/ns/net"
            container = runv.create(bundle.args("true"))
            for pid in (container.pid, qemu_of(runv.root)):
                assert _network(pid) == _network(holder.pid)
            container.delete()
        finally:
            holder.kill()
