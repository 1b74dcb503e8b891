"""The lab itself: its devices, what it carries out of the machine, and that it leaves the host alone."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif("RUNV_LAB" in os.environ, reason="this is the lab"),
    pytest.mark.skipif(os.geteuid() != 0, reason="sharing the root directory needs root"),
]


def start(*arguments: str) -> subprocess.Popen[str]:
    """A lab in a session of its own, by which its processes are found again."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.lab", *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def lab(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a lab to its end and see that nothing stays."""
    process = start(*arguments)
    stdout, stderr = process.communicate(timeout=300)
    assert members(process.pid) == []
    return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)


def members(session: int) -> list[str]:
    """The command lines of the processes of a session that are not yet dead."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if fields[3] == str(session) and fields[0] != "Z":
                found.append((entry / "cmdline").read_text().replace("\0", " "))
        except (OSError, IndexError):
            continue
    return found


def until_gone(session: int) -> list[str]:
    """What is left of a session a little later: the kernel needs a moment to free a machine's memory."""
    deadline = time.monotonic() + 10
    while (left := members(session)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def test_devices_are_there_and_status_and_streams_come_out() -> None:
    script = """
        for device in kvm vhost-vsock vhost-net net/tun; do test -c /dev/$device && echo $device; done
        grep -q svm /proc/cpuinfo && echo svm
        grep -qw memory /sys/fs/cgroup/cgroup.subtree_control && echo cgroup2
        pwd; echo "$WORD"; echo complaint >&2; exit 42
    """
    done = lab("--env", "WORD=two  words", "--", "sh", "-c", script)
    assert done.stdout.split("\n") == [
        *("kvm", "vhost-vsock", "vhost-net", "net/tun", "svm", "cgroup2", str(ROOT), "two  words", "")
    ]
    assert (done.stderr, done.returncode) == ("complaint\n", 42)


def test_the_host_keeps_its_files_and_gets_the_results(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("here before")
    results = tmp_path / "results"
    results.mkdir()
    script = f"cat {victim}; rm {victim}; touch /etc/runv-lab-was-here; uname -n >{results}/name; seq 200000"
    done = lab("--show", str(tmp_path), "--results", str(results), "--", "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "here before" + "".join(f"{number}\n" for number in range(1, 200001))
    assert victim.read_text() == "here before"
    assert not Path("/etc/runv-lab-was-here").exists()
    assert (results / "name").read_text() == "runv-lab\n"


@pytest.mark.soak
def test_the_deadline_ends_it_with_an_account() -> None:
    done = lab("--timeout", "20", "--", "sh", "-c", "echo begun; sleep 600")
    assert (done.stdout, done.returncode) == ("begun\n", 124)
    assert "did not end within 20 s" in done.stderr
    # Who stands still, where in the kernel, and whether interrupts still come.
    assert re.search(r"^lab: process \d+: sleep 600 $", done.stderr, re.MULTILINE), done.stderr
    assert "hrtimer_nanosleep" in done.stderr
    assert done.stderr.count("lab: interrupts\n") == 2


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_nothing_stays_when_it_is_killed(signum: signal.Signals) -> None:
    process = start("--", "sleep", "600")
    deadline = time.monotonic() + 10
    while not any("qemu" in line for line in members(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signum)
    process.communicate(timeout=30)
    assert process.returncode in (128 + signum, -signum)
    assert until_gone(process.pid) == []


def test_what_is_wrong_is_said_before_anything_starts() -> None:
    done = lab("--", "no-such-program")
    assert (done.stderr, done.returncode) == ("lab: cannot find no-such-program\n", 125)
