"""runv-standin without a terminal: the pid that an engine sees."""

import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.fakes.agent import FakeAgent
from tests.guest_build import Kind
from tests.host_c.process import assert_idle, open_files, wait_until
from tests.host_c.standin import STREAMS, configure, creator_pair, popen, running_standin, spawn, swallow_errors

PIPE = subprocess.PIPE

UNCATCHABLE = {signal.SIGKILL, signal.SIGSTOP}
OWN = {signal.SIGCHLD, signal.SIGPIPE, signal.SIGTTIN, signal.SIGTTOU}
PASSED_ON = sorted(set(range(1, 65)) - UNCATCHABLE - OWN)


@pytest.mark.parametrize("code", [0, 1, 42, 127, 255])
def test_exit_code(programs: Path, code: int) -> None:
    with running_standin(programs) as standin:
        standin.agent.end(standin.wait_id, exit=code)
        assert standin.ended() == code


@pytest.mark.parametrize("number", [1, 2, 3, 6, 9, 11, 13, 14, 15, 24, 31, 32, 34, 64])
def test_ends_by_the_same_signal(programs: Path, number: int) -> None:
    with running_standin(programs) as standin:
        standin.agent.end(standin.wait_id, signal=number)
        assert standin.ended() == -number


def test_signal_that_ends_nothing(programs: Path) -> None:
    with running_standin(programs) as standin:
        standin.agent.end(standin.wait_id, signal=int(signal.SIGCHLD))
        assert standin.ended() == 128 + signal.SIGCHLD


def test_no_core_dump(programs: Path, tmp_path: Path) -> None:
    with running_standin(programs) as standin:
        resource.prlimit(standin.pid, resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        standin.agent.end(standin.wait_id, signal=int(signal.SIGSEGV))
        assert not os.WCOREDUMP(os.waitpid(standin.pid, 0)[1])


@pytest.mark.parametrize(
    "reply",
    [
        b'{"id":1,"error":{"kind":"not-found","message":"no such process"}}',
        b'{"id":1,"result":{}}',
        b'{"id":1,"result":{"signal":0}}',
        b'{"id":1,"result":{"signal":65}}',
        b'{"id":1,"result":{"exit":"0"}}',
        b'{"id":1}',
        b'{"result":{"exit":0}}',
        b"[]",
        b"not json",
        b"\xff\xfe",
        b"[" * 60_000,
    ],
)
def test_wrong_reply_is_a_death(programs: Path, reply: bytes) -> None:
    with running_standin(programs) as standin:
        assert standin.wait_id == 1
        standin.agent.send_raw(reply)
        assert standin.ended() == -signal.SIGKILL


@pytest.mark.parametrize("header", [bytes(4), b"\xff\xff\xff\xff", b"\0\x10\0\0" + bytes(80_000)])
def test_wrong_frame_is_a_death(programs: Path, header: bytes) -> None:
    with running_standin(programs) as standin:
        try:
            standin.agent.control.sendall(header)
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert standin.ended() == -signal.SIGKILL


def test_reply_in_pieces(programs: Path) -> None:
    with running_standin(programs) as standin:
        payload = b'{"id":1,"result":{"exit":7}}'
        for byte in len(payload).to_bytes(4, "big") + payload:
            standin.agent.control.sendall(bytes([byte]))
            time.sleep(0.002)
        for stream in standin.agent.streams.values():
            stream.close()
        assert standin.ended() == 7


def test_vm_loss(programs: Path) -> None:
    with running_standin(programs, stdin=PIPE, stdout=PIPE) as standin:
        standin.agent.vanish()
        assert standin.ended() == -signal.SIGKILL


def test_vm_loss_with_a_reader_that_does_not_read(programs: Path) -> None:
    with running_standin(programs, stdout=PIPE) as standin:
        threading.Thread(target=swallow_errors, args=(standin.agent.streams["stdout"], 1 << 20), daemon=True).start()
        assert_idle(standin.pid)
        standin.agent.control.close()
        assert standin.ended() == -signal.SIGKILL


def test_creator_dies_first(programs: Path) -> None:
    ours, theirs = creator_pair()
    with theirs:
        process = spawn(programs, theirs, subprocess.DEVNULL, subprocess.DEVNULL, PIPE)
    time.sleep(0.05)
    ours.close()
    assert process.wait(5) == 125
    assert process.stderr is not None and process.stderr.read() == b""
    process.stderr.close()


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        (b"{}", b"missing"),
        (b"nonsense", b"missing"),
        (b'{"container":"c1","process":"init","terminal":"vt100"}', b"unknown"),
        (b'{"container":"c1","process":"init","terminal":"pty"}', b"descriptors"),
        (b" " * 9000, b"receive"),
    ],
)
def test_wrong_configuration(programs: Path, message: bytes, complaint: bytes) -> None:
    ours, theirs = creator_pair()
    with ours, FakeAgent(STREAMS) as agent:
        with theirs:
            process = spawn(programs, theirs, subprocess.DEVNULL, subprocess.DEVNULL, subprocess.DEVNULL)
        socket.send_fds(ours, [message], [connection.fileno() for connection in agent.theirs])
        assert complaint in ours.recv(4096)
        assert process.wait(5) == 125


@pytest.mark.parametrize(("namespace", "answer"), [("net", b'{"ok":true}'), ("uts", b'{"error":"network namespace: Invalid argument"}')])
def test_a_network_namespace_to_join(programs: Path, namespace: str, answer: bytes) -> None:
    ours, theirs = creator_pair()
    other = subprocess.Popen(["unshare", "--net", "--uts", "sleep", "100"])
    wait_until(lambda: os.readlink(f"/proc/{other.pid}/ns/net") != os.readlink("/proc/self/ns/net"))
    network = os.open(f"/proc/{other.pid}/ns/{namespace}", os.O_RDONLY)
    try:
        with ours, FakeAgent(STREAMS) as agent:
            with theirs:
                process = spawn(programs, theirs, subprocess.DEVNULL, subprocess.DEVNULL, subprocess.DEVNULL, network=network)
            configure(ours, agent, "none", [])
            assert ours.recv(4096) == answer
            if namespace == "net":
                assert os.readlink(f"/proc/{process.pid}/ns/net") == os.readlink(f"/proc/{other.pid}/ns/net")
                agent.end(agent.expect("wait", owner=True), exit=3)
            assert process.wait(5) == (3 if namespace == "net" else 125)
    finally:
        os.close(network)
        other.kill()
        other.wait()


def test_descriptors_that_are_no_terminal(programs: Path) -> None:
    ours, theirs = creator_pair()
    with ours, FakeAgent(["tty"]) as agent, open("/dev/null") as null:
        with theirs:
            process = spawn(programs, theirs, subprocess.DEVNULL, subprocess.DEVNULL, subprocess.DEVNULL)
        configure(ours, agent, "pty", [null.fileno()])
        assert b"terminal" in ours.recv(4096)
        assert process.wait(5) == 125


def test_guest_that_is_gone_already(programs: Path) -> None:
    ours, theirs = creator_pair()
    with ours, FakeAgent(STREAMS) as agent:
        with theirs:
            process = spawn(programs, theirs, subprocess.DEVNULL, subprocess.DEVNULL, subprocess.DEVNULL)
        agent.control.close()
        configure(ours, agent, "none", [])
        assert b"control connection" in ours.recv(4096)
        assert process.wait(5) == 125


def test_signals_are_passed_on(programs: Path) -> None:
    with running_standin(programs) as standin:
        for number in PASSED_ON:
            os.kill(standin.pid, number)
            standin.agent.reply(standin.agent.expect("signal", signal=number))
        for number in OWN:
            os.kill(standin.pid, number)
        os.kill(standin.pid, signal.SIGUSR1)
        number = standin.agent.expect("signal", signal=int(signal.SIGUSR1))
        standin.agent.refuse(number, "state", "process already finished")
        standin.agent.end(standin.wait_id, exit=3)
        assert standin.ended() == 3


def test_signals_beyond_the_agents_limit_wait(programs: Path) -> None:
    with running_standin(programs) as standin:
        for _ in range(200):
            os.kill(standin.pid, signal.SIGRTMIN)
        unanswered = [standin.agent.expect("signal", signal=int(signal.SIGRTMIN)) for _ in range(31)]
        standin.agent.control.settimeout(0.2)
        with pytest.raises(TimeoutError):
            standin.agent.receive()
        standin.agent.control.settimeout(10)
        assert_idle(standin.pid)
        for _ in range(200 - 31):
            standin.agent.reply(unanswered.pop(0))
            unanswered.append(standin.agent.expect("signal", signal=int(signal.SIGRTMIN)))


def test_killed_standin_closes_its_control_connection(programs: Path) -> None:
    with running_standin(programs) as standin:
        standin.process.kill()
        with pytest.raises(EOFError):
            standin.agent.receive()


def test_only_what_it_needs_is_held(programs: Path) -> None:
    with running_standin(programs, PIPE, PIPE, PIPE) as standin:
        wait_until(lambda: len(open_files(standin.pid)) == 9)
        files = open_files(standin.pid)
        others = sorted(name.partition(":")[0] for fd, name in files.items() if fd > 2)
        assert others == ["anon_inode", "anon_inode", "socket", "socket", "socket", "socket"]
        assert os.readlink(f"/proc/{standin.pid}/cwd") == "/"
        assert Path(f"/proc/{standin.pid}/comm").read_text() == "runv-standin\n"


def test_memory(programs: Path, kind: Kind) -> None:
    with running_standin(programs, PIPE, PIPE, PIPE) as standin:
        rollup = Path(f"/proc/{standin.pid}/smaps_rollup").read_text()
        pss = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
        assert kind == "san" or pss < 1024


def test_stopped_and_continued(programs: Path) -> None:
    with running_standin(programs) as standin:
        os.kill(standin.pid, signal.SIGSTOP)
        os.kill(standin.pid, signal.SIGCONT)
        standin.agent.expect("signal", signal=int(signal.SIGCONT))


def test_usage(programs: Path) -> None:
    for arguments in ([], ["--config-fd", "x"], ["--config-fd", "99"], ["--config-fd", "0", "more"], ["--other"]):
        done = subprocess.run([programs / "runv-standin", *arguments], stderr=subprocess.DEVNULL, check=False)
        assert done.returncode == 2


def in_namespace(pid: int, *words: str) -> None:
    subprocess.run(["nsenter", "-t", str(pid), "-n", "ip", *words], check=True, timeout=20)


def test_links_that_come_and_go_are_told(programs: Path, tmp_path: Path) -> None:
    """The command runs in the creator's namespaces, with nothing of ours open, and not for taps of ours and what the kernel does by itself."""
    told = tmp_path / "told"
    command = tmp_path / "command"
    command.write_text(f"#!/bin/sh\necho $(readlink /proc/self/ns/net /proc/self/fd/0) $* >>{told}\n")
    command.chmod(0o755)
    ours, theirs = creator_pair()
    other = subprocess.Popen(["unshare", "--net", "sleep", "100"])
    wait_until(lambda: os.readlink(f"/proc/{other.pid}/ns/net") != os.readlink("/proc/self/ns/net"))
    home = [os.open(f"/proc/self/ns/{kind}", os.O_RDONLY) for kind in ("mnt", "net")]
    network = os.open(f"/proc/{other.pid}/ns/net", os.O_RDONLY)
    try:
        with ours, FakeAgent(STREAMS) as agent:
            with theirs:
                process = spawn(programs, theirs, subprocess.DEVNULL, subprocess.DEVNULL, subprocess.DEVNULL, network=network)
            configure(ours, agent, "none", home, sync=[str(command), "a", "b"])
            assert ours.recv(4096) == b'{"ok":true}'
            wait = agent.expect("wait", owner=True)
            in_namespace(other.pid, "link", "add", "runv-tap0", "type", "veth", "peer", "name", "runv-tap1")
            in_namespace(other.pid, "link", "set", "runv-tap0", "up")
            in_namespace(other.pid, "address", "add", "fe80::5/64", "dev", "runv-tap0")
            assert_idle(process.pid)
            assert not told.exists()
            in_namespace(other.pid, "link", "add", "eth0", "type", "veth", "peer", "name", "eth1")
            in_namespace(other.pid, "address", "add", "10.0.0.2/24", "dev", "eth0")
            wait_until(told.exists)
            in_namespace(other.pid, "link", "delete", "eth0")
            wait_until(lambda: told.read_text().count("\n") == 2)
            assert told.read_text() == f"{os.readlink('/proc/self/ns/net')} /dev/null a b\n" * 2
            wait_until(lambda: not Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
            assert_idle(process.pid)
            agent.end(wait, exit=0)
            assert process.wait(5) == 0
    finally:
        for fd in (*home, network):
            os.close(fd)
        other.kill()
        other.wait()


def pid_file(folder: Path, pid: int, later: int = 0) -> None:
    """As `exec` writes it; ``later``: of one that had the pid before."""
    start = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    (folder / f"{pid}-{later}.pid").write_text(f"{pid} {start - later}")


def ends_within(process: "subprocess.Popen[bytes]", seconds: float) -> bool:
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    return process.returncode is not None


@pytest.mark.parametrize(("end", "code"), [("exit", 7), ("lost", -signal.SIGKILL)])
def test_what_was_executed_ends_first(programs: Path, tmp_path: Path, end: str, code: int) -> None:
    """Whether the program or the machine has ended. Nobody is waited for who is gone, or is another one with the pid of one that is."""
    with subprocess.Popen(["sleep", "100"]) as executed, running_standin(programs, execs=str(tmp_path)) as standin:
        pid_file(tmp_path, executed.pid)
        pid_file(tmp_path, os.getpid(), later=1)
        for name, text in [("empty", ""), ("half", "12"), ("gone", f"{2**22} 1"), ("none", "-1 1"), ("word", "x y")]:
            (tmp_path / f"{name}.pid").write_text(text)
        if end == "exit":
            standin.agent.end(standin.wait_id, exit=7)
            with pytest.raises(EOFError):
                standin.agent.receive()
        else:
            standin.agent.vanish()
        waits = not ends_within(popen(standin), 0.3)
        executed.kill()
        # As the kernel has it: who waits for any child would else hear of the older one first.
        waits_longer = not ends_within(popen(standin), 0.3)
        executed.wait()
        assert (waits, waits_longer, standin.ended()) == (True, True, code)


def test_nobody_is_waited_for_long(programs: Path, tmp_path: Path) -> None:
    """Neither one that does not end, nor, at all, one that has ended and is somebody else's child."""
    script = "import subprocess; child = subprocess.Popen(['true']); print(child.pid, flush=True); input()"
    (tmp_path / "endless").mkdir()
    (tmp_path / "ended").mkdir()
    pid_file(tmp_path / "endless", os.getpid())
    with (
        subprocess.Popen([sys.executable, "-c", script], stdin=PIPE, stdout=PIPE) as other,
        running_standin(programs, execs=str(tmp_path / "endless")) as slow,
        running_standin(programs, execs=str(tmp_path / "ended")) as quick,
    ):
        assert other.stdin is not None and other.stdout is not None
        executed = int(other.stdout.readline())
        wait_until(lambda: ") Z " in Path(f"/proc/{executed}/stat").read_text())
        pid_file(tmp_path / "ended", executed)
        for standin in (slow, quick):
            standin.agent.end(standin.wait_id, exit=7)
        assert quick.ended() == 7
        assert popen(slow).poll() is None
        assert slow.ended() == 7
        other.stdin.write(b"\n")


def test_nothing_was_executed(programs: Path, tmp_path: Path) -> None:
    with running_standin(programs, execs=str(tmp_path / "none")) as standin:
        standin.agent.end(standin.wait_id, exit=7)
        assert standin.ended() == 7
