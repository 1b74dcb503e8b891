"""runv-monitor: the outcome of the command, streams, clients, and how it ends."""

import hashlib
import json
import os
import resource
import signal
import threading
from pathlib import Path

import pytest

from tests.guest_build import Kind
from tests.host_c.monitor import (
    ALL,
    ATTACH,
    DONE,
    ERROR,
    EXIT,
    HOLD,
    PYTHON,
    RESIZE,
    RUNTIME,
    STATE,
    STATUS,
    STDERR,
    STDIN,
    STDOUT,
    WANT_STDERR,
    WANT_STDIN,
    WANT_STDOUT,
    become_subreaper,
    frame,
    running,
    shell,
    start,
    wait_for,
)
from tests.host_c.process import assert_idle, open_files, wait_until

MIB = 1 << 20


def runtime(folder: Path, *process: str) -> list[str]:
    return [*PYTHON, RUNTIME, str(folder / "pid"), *process]


def test_streams_log_and_exit(programs: Path, tmp_path: Path) -> None:
    script = "echo out; echo err >&2; read line; echo got $line; cat; exit 7"
    with running(programs, tmp_path, shell(script), "--stdin-once") as monitor:
        client = monitor.attach()
        client.send(STDIN, b"input\n")
        client.send(STDIN, b"rest")
        client.send(STDIN)
        end = client.read_to_end()
        assert (end["code"], end["signal"], end["log"]) == (7, 0, {"complete": True, "lost": 0, "error": ""})
        assert client.received[STDOUT].endswith(b"got input\nrest")
        assert monitor.exit() == end
        assert monitor.text() == "out\ngot input\nrest"
        assert monitor.text("stderr") == "err\n"
        assert wait_for(monitor.pid) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["exit", "log", "pid", "process.pid"]


def test_end_by_a_signal(programs: Path, tmp_path: Path) -> None:
    with running(programs, tmp_path, ["sleep", "100"]) as monitor:
        os.kill(monitor.process, signal.SIGTERM)
        end = monitor.exit()
        assert (end["code"], end["signal"]) == (128 + 15, 15)


def test_command_that_fails(programs: Path, tmp_path: Path) -> None:
    become_subreaper()
    told = start(programs, tmp_path, shell('echo "no \\"such\\" thing" >&2; exit 4'))
    assert told == {"code": 4, "stderr": 'no "such" thing\n'}
    wait_until(lambda: not list(tmp_path.iterdir()))


@pytest.mark.parametrize("mode", ["--exec", "--terminal"])
def test_command_that_fails_when_its_output_is_the_processs(programs: Path, tmp_path: Path, mode: str) -> None:
    become_subreaper()
    assert start(programs, tmp_path, shell("echo why >&2; kill -9 $$"), mode) == {"code": 137, "stderr": "why\n"}


def test_command_that_is_not_there(programs: Path, tmp_path: Path) -> None:
    become_subreaper()
    told = start(programs, tmp_path, ["/no/such/program"])
    assert told == {"code": 127, "stderr": "cannot run /no/such/program: No such file or directory\n"}


def test_command_that_talks_more_than_can_be_told(programs: Path, tmp_path: Path) -> None:
    become_subreaper()
    told = start(programs, tmp_path, shell("yes padding | head -c 300000 >&2; echo the cause >&2; exit 1"))
    assert told["code"] == 1 and told["stderr"].endswith("padding\nthe cause\n") and len(told["stderr"]) <= 8192


def test_command_without_a_pid_file(programs: Path, tmp_path: Path) -> None:
    become_subreaper()
    assert start(programs, tmp_path, ["true"])["error"] == "cannot read the pid file: No such file or directory"


def test_pid_of_a_stranger(programs: Path, tmp_path: Path) -> None:
    become_subreaper()
    told = start(programs, tmp_path, shell(f"echo 1 >{tmp_path}/pid"))
    assert told["error"] == "cannot wait for the process: No child processes"


def test_what_the_command_says_is_not_the_processs(programs: Path, tmp_path: Path) -> None:
    command = [*PYTHON, RUNTIME.replace("import os, sys", "import os, sys; print('warning', file=sys.stderr)")]
    become_subreaper()
    options = ("--log-format", "json-file", "--log-path", str(tmp_path / "log"))
    told = start(programs, tmp_path, [*command, str(tmp_path / "pid"), "true"], *options)
    assert told == {"pid": told.get("pid"), "stderr": "warning\n"}
    wait_until((tmp_path / "exit").exists)
    assert (tmp_path / "log").read_text() == ""


def test_a_folder_is_for_one(programs: Path, tmp_path: Path) -> None:
    with running(programs, tmp_path, ["sleep", "100"]) as monitor:
        again = start(programs, tmp_path, runtime(tmp_path, "true"))
        assert again["error"].startswith("the folder is another monitor's")
        monitor.attach().close()


def test_told_to_give_up(programs: Path, tmp_path: Path) -> None:
    """Before there is a process SIGTERM ends the command; afterwards a monitor ends with its process only."""
    become_subreaper()
    told: list[dict[str, object]] = []
    thread = threading.Thread(target=lambda: told.append(start(programs, tmp_path, ["sleep", "100"])))
    thread.start()
    wait_until((tmp_path / "monitor.pid").exists)
    monitor = int((tmp_path / "monitor.pid").read_text().split()[0])
    wait_until(lambda: bool(Path(f"/proc/{monitor}/task/{monitor}/children").read_text()))
    os.kill(monitor, signal.SIGTERM)
    thread.join()
    assert told == [{"code": 143, "stderr": ""}]


def test_sigterm_is_not_for_a_monitor_with_a_process(programs: Path, tmp_path: Path) -> None:
    with running(programs, tmp_path, shell("read line; echo $line"), "--stdin") as monitor:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            os.kill(monitor.pid, number)
        client = monitor.attach()
        client.send(STDIN, b"still there\n")
        assert client.read_to_end()["code"] == 0
        assert client.received[STDOUT] == b"still there\n"


def test_monitor_killed(programs: Path, tmp_path: Path) -> None:
    """No exit file; the process finds its pipes broken."""
    with running(programs, tmp_path, shell("trap '' PIPE; read line; while echo x; do sleep 0.05; done; exit 9"), "--stdin") as monitor:
        os.kill(monitor.pid, signal.SIGKILL)
        assert wait_for(monitor.pid) == -signal.SIGKILL
        assert os.waitstatus_to_exitcode(os.waitpid(monitor.process, 0)[1]) == 9
        assert not (tmp_path / "exit").exists()


def test_100_mib_through(programs: Path, tmp_path: Path, kind: Kind) -> None:
    megabytes = 100 if kind == "plain" else 10
    with running(programs, tmp_path, ["cat"], "--stdin-once", log=None) as monitor:
        client = monitor.attach(ALL | HOLD)
        sent = hashlib.sha256()

        def feed() -> None:
            for number in range(megabytes * 32):
                block = number.to_bytes(8, "big") * (MIB // 8 // 32)
                sent.update(block)
                client.send(STDIN, block)
            client.send(STDIN)

        thread = threading.Thread(target=feed)
        thread.start()
        received = hashlib.sha256()
        while (got := client.receive())[0] != EXIT:
            assert got[0] == STDOUT
            received.update(got[1])
        thread.join()
        client.close()
        assert received.digest() == sent.digest()


def test_slow_client_stops_nobody(programs: Path, tmp_path: Path) -> None:
    script = "read line; head -c 5000000 /dev/zero | tr '\\0' x; echo; echo done >&2; read line; echo $line"
    with running(programs, tmp_path, shell(script), "--stdin") as monitor:
        slow, quick = monitor.attach(WANT_STDOUT | WANT_STDERR), monitor.attach(ALL | HOLD)
        quick.send(STDIN, b"begin\n")
        quick.expect(b"done\n", STDERR)
        assert_idle(monitor.pid)
        quick.send(STDIN, b"end\n")
        quick.read_to_end()
        slow.read_to_end()
        assert quick.lost[STDOUT] == 0
        assert 0 < slow.lost[STDOUT] == 5_000_005 - len(slow.received[STDOUT])
        assert slow.received[STDERR] + b"." * slow.lost[STDERR] == b"done\n"
        assert len(monitor.text()) == 5_000_005


def test_client_that_is_waited_for(programs: Path, tmp_path: Path) -> None:
    with running(programs, tmp_path, shell("head -c 5000000 /dev/zero; exit 3"), "--hold") as monitor:
        client = monitor.attach(ALL | HOLD)
        assert_idle(monitor.pid)
        assert not (tmp_path / "exit").exists()
        assert client.read_to_end()["code"] == 3
        assert (len(client.received[STDOUT]), client.lost[STDOUT]) == (5_000_000, 0)


def test_end_does_not_wait_for_a_client(programs: Path, tmp_path: Path, kind: Kind) -> None:
    """Who is waited for and does not read has all of it later; everybody else is told at once, and the folder is free."""
    if kind == "san":
        pytest.skip("it takes seconds")
    with running(programs, tmp_path, shell("head -c 600000 /dev/zero; exec sleep 100"), "--hold") as monitor:
        client = monitor.attach(ALL | HOLD)
        wait_until(lambda: os.path.getsize(monitor.log) > 0)
        assert_idle(monitor.pid)
        os.kill(monitor.process, signal.SIGKILL)
        assert monitor.exit()["code"] == 137
        assert not (tmp_path / "monitor.pid").exists()
        assert client.read_to_end()["code"] == 137
        written = len(client.received[STDOUT])
        assert client.lost[STDOUT] == 0 and written > 300_000
        assert sum(len(entry["log"]) for entry in monitor.entries()) == written


def test_client_that_is_waited_for_dies(programs: Path, tmp_path: Path) -> None:
    with running(programs, tmp_path, shell("head -c 5000000 /dev/zero; exit 3"), "--hold") as monitor:
        client = monitor.attach(ALL | HOLD)
        child = os.fork()
        if child == 0:
            signal.pause()
        client.close()
        assert_idle(monitor.pid)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert monitor.exit()["code"] == 3


def test_attached_later_sees_what_comes_later(programs: Path, tmp_path: Path) -> None:
    with running(programs, tmp_path, shell("echo before; read line; echo after"), "--stdin") as monitor:
        wait_until(lambda: bool(monitor.entries()))
        one, two = monitor.attach(), monitor.attach(WANT_STDOUT)
        one.send(STDIN, b"go\n")
        for client in (one, two):
            client.read_to_end()
            assert client.received[STDOUT] == b"after\n"


def test_streams_are_chosen(programs: Path, tmp_path: Path) -> None:
    with running(programs, tmp_path, shell("read line; echo out; echo err >&2"), "--stdin") as monitor:
        silent, errors, writer = monitor.attach(0), monitor.attach(WANT_STDERR), monitor.attach(WANT_STDIN)
        writer.send(STDIN, b"\n")
        for client in (silent, errors, writer):
            client.read_to_end()
        assert errors.received == {STDOUT: b"", STDERR: b"err\n"}
        assert silent.received == writer.received == {STDOUT: b"", STDERR: b""}


def test_stdin_stays_open_for_the_next(programs: Path, tmp_path: Path) -> None:
    with running(programs, tmp_path, ["cat"], "--stdin") as monitor:
        for text in (b"one\n", b"two\n"):
            client = monitor.attach()
            client.send(STDIN, text)
            client.expect(text)
            client.send(STDIN)
            client.close()
        last = monitor.attach()
        last.send(STDIN, b"three\n")
        last.expect(b"three\n")
        assert last.received[STDOUT] == b"three\n"


def test_stdin_once_ends_with_its_client(programs: Path, tmp_path: Path) -> None:
    with running(programs, tmp_path, ["cat"], "--stdin-once") as monitor:
        client = monitor.attach()
        client.send(STDIN, b"text")
        client.close()
        assert monitor.exit()["code"] == 0
        assert monitor.text() == "text"


def test_no_stdin_is_dev_null(programs: Path, tmp_path: Path) -> None:
    with running(programs, tmp_path, shell("readlink /proc/self/fd/0; cat")) as monitor:
        assert monitor.exit()["code"] == 0
        assert monitor.text() == "/dev/null\n"


def test_stdin_that_nobody_reads(programs: Path, tmp_path: Path) -> None:
    """A client waits with its input, and the others and its own hangup are heard."""
    with running(programs, tmp_path, ["sleep", "100"], "--stdin") as monitor:
        client = monitor.attach()
        client.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):
            while True:
                client.send(STDIN, b"x" * 60000)
        assert_idle(monitor.pid)
        assert monitor.attach().ask(STATUS)[0] == STATE
        client.close()
        assert_idle(monitor.pid)


def test_input_after_the_process_has_closed_it(programs: Path, tmp_path: Path) -> None:
    with running(programs, tmp_path, shell("exec <&-; echo closed; exec sleep 100"), "--stdin") as monitor:
        wait_until(lambda: monitor.text() == "closed\n")
        client = monitor.attach()
        for _ in range(10):
            client.send(STDIN, b"x" * 60000)
        assert client.ask(STATUS)[0] == STATE
        assert_idle(monitor.pid)


def test_half_closed_connection_still_reads(programs: Path, tmp_path: Path) -> None:
    with running(programs, tmp_path, shell("cat; echo end"), "--stdin-once") as monitor:
        client = monitor.attach()
        client.send(STDIN, b"text\n")
        client.socket.shutdown(1)
        client.read_to_end()
        assert client.received[STDOUT] == b"text\nend\n"


def test_terminal(programs: Path, tmp_path: Path) -> None:
    script = "stty -echo; stty size; read a; stty size; echo $a; exit 5"
    with running(programs, tmp_path, shell(script), "--terminal", "--stdin") as monitor:
        client = monitor.attach()
        wait_until(lambda: "0 0" in monitor.text())
        client.send(RESIZE, bytes([0, 33, 1, 4]))
        client.send(STDIN, b"typed\n")
        assert client.read_to_end()["code"] == 5
        assert client.received[STDOUT].endswith(b"33 260\r\ntyped\r\n")
        assert client.received[STDERR] == b""


def test_terminal_that_is_opened_again(programs: Path, tmp_path: Path) -> None:
    script = "tty=$(tty); exec <&- >&- 2>&-; sleep 0.3; exec 1<>$tty; echo back; sleep 0.1"
    with running(programs, tmp_path, shell(script), "--terminal") as monitor:
        assert monitor.exit()["code"] == 0
        assert monitor.text() == "back\r\n"


def test_exec_waits_for_who_attaches(programs: Path, tmp_path: Path) -> None:
    with running(programs, tmp_path, shell("seq 1 100000; echo err >&2; exit 2"), "--hold", log=None) as monitor:
        assert_idle(monitor.pid)
        client = monitor.attach(ALL | HOLD)
        assert client.read_to_end()["code"] == 2
        assert client.received[STDOUT] == "".join(f"{n}\n" for n in range(1, 100001)).encode()
        assert client.received[STDERR] == b"err\n"


def test_detached_exec_waits_for_nobody(programs: Path, tmp_path: Path) -> None:
    with running(programs, tmp_path, shell("seq 1 100000; exit 2"), "--exec", log=None) as monitor:
        assert monitor.exit()["code"] == 2


def test_streams_that_others_hold(programs: Path, tmp_path: Path, kind: Kind) -> None:
    """What outlives the process and keeps its streams is not waited for longer than it talks, and cannot talk afterwards."""
    if kind == "san":
        pytest.skip("it takes seconds")
    script = f"(trap '' PIPE; sleep 3.2; while echo late; do :; done; : >{tmp_path}/broken) & exit 0"
    with running(programs, tmp_path, shell(script)) as monitor:
        client = monitor.attach()
        end = monitor.exit()
        assert (end["code"], end["log"]["complete"]) == (0, False)
        wait_until((tmp_path / "broken").exists)
        assert client.read_to_end() == end
        assert monitor.log.read_text() == ""


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\0\0",
        b"\xff\xff\xff\xff",
        frame(99),
        frame(RESIZE, b"\0"),
        frame(ATTACH),
        frame(ATTACH, b"\xff"),
        frame(ATTACH, b"\1") * 2,
        frame(STDIN, b"x"),
        frame(ATTACH, b"\1") + frame(STDIN) * 2,
        frame(STDIN, b"x" * 70000),
    ],
)
def test_bad_frames(programs: Path, tmp_path: Path, data: bytes) -> None:
    with running(programs, tmp_path, ["cat"], "--stdin") as monitor:
        client = monitor.attach(None)
        client.socket.sendall(data)
        while (got := client.receive())[0] not in (ERROR, -1):
            pass
        assert got[0] == ERROR
        other = monitor.attach()
        other.send(STDIN, b"fine\n")
        other.expect(b"fine\n")


def test_many_clients(programs: Path, tmp_path: Path) -> None:
    with running(programs, tmp_path, shell("read line; echo $line"), "--stdin") as monitor:
        clients = [monitor.attach() for _ in range(64)]
        assert monitor.attach(None).receive() == (ERROR, b"too many clients")
        clients.pop().close()

        def again() -> bool:
            try:
                clients.append(monitor.attach())
            except (ConnectionError, AssertionError):
                return False
            return True

        wait_until(again)
        clients[0].send(STDIN, b"all\n")
        for client in clients:
            client.read_to_end()
            assert client.received[STDOUT] == b"all\n"


def test_no_descriptors(programs: Path, tmp_path: Path) -> None:
    with running(programs, tmp_path, shell("read line"), "--stdin") as monitor:
        pid = monitor.pid
        used = max(open_files(pid)) + 1
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used, 1000))
        client = monitor.attach(None)
        client.send(STATUS)
        assert_idle(pid)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (1000, 1000))
        assert client.receive()[0] == STATE


def test_status(programs: Path, tmp_path: Path) -> None:
    with running(programs, tmp_path, ["sleep", "100"]) as monitor:
        kind, text = monitor.attach(None).ask(STATUS)
        assert kind == STATE
        assert json.loads(text) == {"pid": monitor.process, "log": {"complete": True, "lost": 0, "error": ""}}


def test_small(programs: Path, tmp_path: Path, kind: Kind) -> None:
    if kind == "san":
        pytest.skip("sanitizers are not small")
    with running(programs, tmp_path, shell("seq 1 100000; cat"), "--stdin", "--hold") as monitor:
        client = monitor.attach()
        client.expect(b"\n100000\n")
        wait_until(lambda: monitor.text().endswith("\n100000\n"))
        rollup = Path(f"/proc/{monitor.pid}/smaps_rollup").read_text()
        pss_kib = int(rollup.split("\nPss:")[1].split()[0])
        assert pss_kib < 1024
        assert max(open_files(monitor.pid)) < 16


def test_bad_command_lines(programs: Path, tmp_path: Path) -> None:
    for arguments in (
        [],
        ["--dir", str(tmp_path)],
        ["--dir", str(tmp_path), "--status-fd", "1"],
        ["--dir", str(tmp_path), "--status-fd", "99", "true"],
        ["--dir", str(tmp_path), "--status-fd", "1", "--log-format", "xml", "true"],
        ["--dir", str(tmp_path), "--status-fd", "1", "--log-format", "cri", "true"],
        ["--dir", str(tmp_path), "--status-fd", "1", "--log-path", "relative", "true"],
        ["--dir", str(tmp_path), "--status-fd", "1", "--log-max-size", "-1", "true"],
        ["--dir", str(tmp_path), "--status-fd", "1", "--log-max-files", "0", "true"],
    ):
        pid = os.posix_spawn(
            programs / "runv-monitor",
            ["runv-monitor", *arguments],
            os.environ,
            file_actions=[(os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0)],
        )
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 2, arguments
    assert list(tmp_path.iterdir()) == []


def test_reopened_log_is_answered(programs: Path, tmp_path: Path) -> None:
    with running(programs, tmp_path, ["cat"], "--stdin") as monitor:
        client = monitor.attach()
        client.send(STDIN, b"one\n")
        client.expect(b"one\n")
        monitor.log.rename(tmp_path / "moved")
        assert client.ask(18) == (DONE, b"")
        client.send(STDIN, b"two\n")
        client.expect(b"two\n")
        assert monitor.text() == "two\n"
        monitor.log.unlink()
        monitor.log.mkdir()
        assert client.ask(18) == (DONE, b"Is a directory")
