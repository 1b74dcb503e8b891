"""`docker run` with runv: streams, exit codes, terminals, what the program sees."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.vm.harness import DEADLINE_S, Done, wait_until

from .docker import Docker
from .harness import IMAGE

pytestmark = pytest.mark.engines

_STDIN_MIB = 10


@pytest.mark.smoke
def test_hello(docker: Docker) -> None:
    done = docker.run("--runtime", "runv", IMAGE, "echo", "helloworld").ok()
    assert done.out == "helloworld\n"
    assert done.err == ""


@pytest.mark.smoke
def test_a_kernel_of_its_own(docker: Docker) -> None:
    theirs = docker.run(IMAGE, "uname", "-r").ok().out.strip()
    assert theirs.endswith("-hyper")
    assert theirs != os.uname().release


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("sh", "-c", "echo out; echo err >&2; exit 7"), 7),
        # In a child: nothing inside can kill the first process of a pid namespace.
        (("sh", "-c", "(sh -c 'kill -SEGV $PPID; sleep 1'; exit 9); exit $?"), 139),
        (("no-such-program",), 127),
        (("/no/such/program",), 127),
        (("/etc/not-executable",), 126),
        (("/etc",), 126),
    ],
)
def test_exit_codes_are_runcs(docker: Docker, args: tuple[str, ...], code: int) -> None:
    ours, theirs = (docker.run("--runtime", runtime, IMAGE, *args) for runtime in ("runv", "runc"))
    assert (ours.code, theirs.code) == (code, code)
    assert ours.out == theirs.out
    if code in (126, 127):
        # Users look for these words. What comes before them is the runtime's own.
        assert _last_words(ours) == _last_words(theirs)


def _last_words(done: Done) -> str:
    (found,) = re.findall(r'(exec: ".*": ).*?([^: ][^:]*): unknown', done.err)
    return "".join(found)


def test_a_refused_configuration_is_125(docker: Docker) -> None:
    done = docker.run("--network", "host", IMAGE, "true")
    assert done.code == 125
    assert "a virtual machine cannot use the host's own network" in done.err


def test_output_is_kept_apart(docker: Docker) -> None:
    done = docker.run(IMAGE, "sh", "-c", "echo out; echo err >&2").ok()
    assert (done.out, done.err) == ("out\n", "err\n")


@pytest.mark.smoke
def test_large_input_and_output(docker: Docker) -> None:
    data = os.urandom(_STDIN_MIB << 20)
    done = docker.run("-i", IMAGE, "sh", "-c", "tee /tmp/copy; md5sum /tmp/copy >&2", stdin=data).ok()
    assert done.stdout == data
    assert hashlib.md5(data).hexdigest() in done.err


@pytest.mark.smoke
def test_terminal(docker: Docker) -> None:
    with docker.on_terminal("run", "--rm", "--pull", "never", "-it", IMAGE) as (process, terminal):
        terminal.expect(b"# ")
        terminal.write(b"tty; stty size\n")
        terminal.expect(b"24 80")
        assert b"/dev/pts/0" in terminal.seen
        terminal.resize(33, 99)
        process.send_signal(signal.SIGWINCH)
        terminal.write(b"until stty size | grep '33 99'; do :; done; echo a=$((40+2))\n")
        terminal.expect(b"a=42")
        terminal.write(b"exit 3\n")
        assert process.wait(DEADLINE_S) == 3


def test_interrupt_from_the_terminal(docker: Docker) -> None:
    with docker.on_terminal("run", "--rm", "--pull", "never", "-it", IMAGE, "sh", "-c", "echo up; cat; exit $?") as (
        process,
        terminal,
    ):
        terminal.expect(b"up")
        terminal.write(b"\x03")
        assert process.wait(DEADLINE_S) == 130


def test_signals_reach_the_program(docker: Docker) -> None:
    script = "trap 'echo got; exit 5' USR1; echo ready; while :; do sleep 0.1; done"
    process = docker.popen("run", "--rm", "--pull", "never", IMAGE, "sh", "-c", script, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGUSR1)
        assert process.stdout.readline() == b"got\n"
    assert process.wait(DEADLINE_S) == 5


@pytest.mark.smoke
def test_detached(docker: Docker, tmp_path: Path) -> None:
    cidfile = tmp_path / "cid"
    name = docker.detached("--name", "fred", "--cidfile", str(cidfile), IMAGE, "sh", "-c", "echo one; exit 3")
    assert cidfile.read_text() == name
    assert docker("wait", "fred").out == "3\n"
    state = docker.inspect("fred")["State"]
    assert (state["Status"], state["ExitCode"], state["Error"]) == ("exited", 3, "")
    assert docker("logs", "fred").out == "one\n"
    docker("rm", "fred")
    assert docker.try_("inspect", "fred").code == 1


def test_removed_at_its_end(docker: Docker) -> None:
    name = docker.sleeping("--rm")
    docker("stop", name)
    wait_until(lambda: docker.try_("inspect", name).code == 1, "the container to be removed")


# One line for each thing a program can ask about itself.
_QUESTIONS = """
id; pwd; hostname; tty; umask; cat /proc/1/oom_score_adj
env | sort
grep -E '^(Cap|NoNewPrivs|Seccomp:|Groups|Uid|Gid|SigBlk)' /proc/self/status
ulimit -Sc -Hc -Ss -Hs
awk '{ print $2 }' /proc/mounts | grep -v /sys/fs/cgroup/ | sort
ls -l /dev | awk '{ print $1, $3, $4, $NF }' | sort
cat /etc/hosts /etc/resolv.conf /etc/hostname
cut -d ' ' -f 1,2 /proc/self/uid_map
for file in /proc/kcore /proc/keys /proc/timer_list /proc/sysrq-trigger /sys/firmware; do ls -ld $file | cut -c 1-10; done
echo 1 > /proc/sys/kernel/hostname
"""


@pytest.mark.parametrize(
    "flags",
    [
        (),
        ("-u", "alice", "-w", "/home/alice", "-e", "A=b", "--group-add", "27", "--hostname", "host.example"),
        ("-u", "1234:5678", "--cap-drop", "ALL", "--cap-add", "NET_RAW", "--security-opt", "no-new-privileges"),
        ("--add-host", "other:192.0.2.7", "--dns", "192.0.2.53", "--dns-search", "example", "--read-only"),
        ("--ulimit", "core=0", "--ulimit", "stack=1048576:2097152", "--security-opt", "seccomp=unconfined"),
    ],
    ids=["plain", "user", "capabilities", "hosts", "limits"],
)
def test_a_program_sees_what_it_sees_with_runc(docker: Docker, flags: tuple[str, ...]) -> None:
    flags = ("--hostname", "same", *flags)
    seen = []
    for runtime in ("runv", "runc"):
        done = docker.run("--runtime", runtime, *flags, IMAGE, "sh", "-c", _QUESTIONS)
        seen.append(re.sub(r"172\.17\.0\.\d+", "ADDRESS", done.out + done.err).splitlines())
    assert seen[0] == seen[1]


def test_init(docker: Docker) -> None:
    done = docker.run("--init", IMAGE, "sh", "-c", "cat /proc/1/comm; echo $$; (sleep 0.1 &); exit 4")
    assert done.code == 4
    assert done.lines[0] == "docker-init"
    assert done.lines[1] != "1"


def test_entrypoint_and_environment(docker: Docker, tmp_path: Path) -> None:
    variables = tmp_path / "env"
    variables.write_text("FROM_FILE=yes\n")
    done = docker.run(
        "--entrypoint", "/bin/echo", "--env-file", str(variables), "--label", "a=b", IMAGE, "-n", "a  b", "$HOME"
    ).ok()
    assert done.out == "a  b $HOME"
    assert docker.run("--env-file", str(variables), IMAGE, "sh", "-c", "echo $FROM_FILE").ok().out == "yes\n"


@pytest.mark.parametrize(
    ("flags", "script"),
    [
        (("-v", "/:/host:ro"), "ls /host; cat /host/etc/hostname; touch /host/x"),
        (("-w", "/not/there", "-u", "4242"), "pwd; id; echo $HOME; touch x"),
        (("--cpuset-cpus", "0", "-m", "64m", "--oom-score-adj", "300"), "nproc; cat /proc/self/oom_score_adj"),
        (("--pid", "host", "--ipc", "host", "--uts", "host", "--cgroupns", "host"), "echo started"),
    ],
    ids=["everything", "nowhere", "limits", "host-namespaces"],
)
def test_flags_do_what_they_do_with_runc(docker: Docker, flags: tuple[str, ...], script: str) -> None:
    ours, theirs = (docker.run("--runtime", runtime, *flags, IMAGE, "sh", "-c", script) for runtime in ("runv", "runc"))
    assert (ours.code, ours.out, ours.err) == (theirs.code, theirs.out, theirs.err)
