"""park and unpark: what is saved, and taken over by another host."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import secrets
import socket
import struct
import termios
import time
from collections.abc import Callable

import pytest

from .client import AgentError, Control, read_exactly
from .harness import Guest, oci_spec, process_spec, wait_until

COUNTS = "i=0; while read line; do i=$((i+1)); echo $line $i; done"
TICKS = "i=0; while :; do i=$((i+1)); echo $i >/tmp/count; sleep 0.01; done"


def unread(stream: socket.socket) -> int:
    """Of what was sent, how much its other end has not taken yet."""
    return struct.unpack("i", fcntl.ioctl(stream, termios.TIOCOUTQ, bytes(4)))[0]  # type: ignore[no-any-return]


def pending(stream: socket.socket) -> int:
    """How much has come that was not read yet."""
    return struct.unpack("i", fcntl.ioctl(stream, termios.FIONREAD, bytes(4)))[0]  # type: ignore[no-any-return]


def settled(value: Callable[[], int]) -> None:
    """Waits until it has not changed for a while."""
    before = -1
    while (now := value()) != before:
        before = now
        time.sleep(0.2)


def line(stream: socket.socket) -> bytes:
    text = b""
    while not text.endswith(b"\n"):
        text += read_exactly(stream, 1)
    return text


def count(guest: Guest) -> str:
    path = guest.rootfs / "tmp/count"
    return path.read_text() if path.exists() else ""


def taken_over(guest: Guest) -> Control:
    """As a restored machine is: by somebody who knows its secret, and then has one of his own."""
    guest.lose_host()
    assert guest.control.hello["claimed"] is False
    fresh = secrets.token_hex(32)
    guest.control.call("unpark", secret=fresh)
    guest.secret = fresh
    return guest.control


def started(guest: Guest, *args: str, container: str = "c") -> tuple[socket.socket, socket.socket, int]:
    """A container that runs, with its input, its output, and the number of the request that owns it."""
    guest.control.call("create", container=container, oci=oci_spec(*args))
    streams = guest.stream(container, "init", "stdin"), guest.stream(container, "init", "stdout")
    waiting = guest.control.send("wait", container=container, process="init", owner=True)
    guest.control.call("start", container=container)
    return *streams, waiting


def test_everything_stands_still_and_goes_on(guest: Guest) -> None:
    stdin, stdout, waiting = started(guest, "sh", "-c", f"({TICKS}) & {COUNTS}")
    with stdin, stdout:
        wait_until(lambda: count(guest) != "", "the first count")
        assert guest.control.call("park") == {}
        before = count(guest)
        stdin.sendall(b"meanwhile\n")
        assert guest.control.call("state", container="c")["status"] == "running"
        assert count(guest) == before
        assert guest.control.call("unpark") == {}
        assert line(stdout) == b"meanwhile 1\n"
        wait_until(lambda: count(guest) != before, "the next count")
        guest.control.call("signal", container="c", signal=9)
        assert guest.control.result(waiting) == {"signal": 9}
    guest.control.call("delete", container="c")


def test_another_host_takes_streams_and_process_over(guest: Guest) -> None:
    stdin, stdout, _ = started(guest, "sh", "-c", f"{COUNTS}; exit 7")
    with stdin, stdout:
        stdin.sendall(b"a\n")
        assert line(stdout) == b"a 1\n"
        guest.control.call("park")
        control = taken_over(guest)
    with guest.stream("c", "init", "stdin") as stdin, guest.stream("c", "init", "stdout") as stdout:
        waiting = control.send("wait", container="c", process="init", owner=True)
        stdin.sendall(b"b\n")
        assert line(stdout) == b"b 2\n"
        stdin.shutdown(socket.SHUT_WR)
        assert control.result(waiting) == {"exit": 7}
        assert stdout.recv(1) == b""
    control.call("delete", container="c")


def test_output_of_before_is_the_old_host_s_and_of_after_the_new_one_s(guest: Guest) -> None:
    script = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo $i; done"
    _, stdout, _ = started(guest, "sh", "-c", script)
    guest.control.call("park")
    before = b""
    stdout.settimeout(0.5)
    try:
        while chunk := stdout.recv(65536):
            before += chunk
    except TimeoutError:
        pass
    control = taken_over(guest)
    with guest.stream("c", "init", "stdout") as stdout:
        after = b""
        while chunk := stdout.recv(65536):
            after += chunk
    assert before + after == b"".join(b"%d\n" % number for number in range(1, 20001))
    assert after
    control.call("delete", container="c")


def test_a_terminal_is_taken_over(guest: Guest) -> None:
    guest.control.call("create", container="c", oci=oci_spec("sh", "-c", COUNTS, terminal=True))
    with guest.stream("c", "init", "tty") as tty:
        guest.control.call("start", container="c")
        tty.sendall(b"a\n")
        assert (line(tty), line(tty)) == (b"a\r\n", b"a 1\r\n")
        guest.control.call("park")
        control = taken_over(guest)
    with guest.stream("c", "init", "tty") as tty:
        tty.sendall(b"b\n")
        assert (line(tty), line(tty)) == (b"b\r\n", b"b 2\r\n")
    control.call("delete", container="c")


def test_an_end_before_it_was_parked_is_told_to_the_new_host(guest: Guest) -> None:
    stdin, stdout, waiting = started(guest, "sh", "-c", "exit 3")
    with stdin, stdout:
        assert guest.control.result(waiting) == {"exit": 3}
        guest.control.call("park")
        control = taken_over(guest)
    with guest.stream("c", "init", "stdin") as stdin, guest.stream("c", "init", "stdout") as stdout:
        assert control.call("wait", container="c", process="init", owner=True) == {"exit": 3}
        assert (stdin.recv(1), stdout.recv(1)) == (b"", b"")
    control.call("delete", container="c")


def test_a_closed_output_stays_closed(guest: Guest) -> None:
    stdin, stdout, _ = started(guest, "sh", "-c", "read x; echo a; echo $? >/tmp/status; read y")
    with stdin:
        stdout.close()
        stdin.sendall(b"\n")
        wait_until((guest.rootfs / "tmp/status").exists, "the failure to write")
        guest.control.call("park")
        control = taken_over(guest)
    with guest.stream("c", "init", "stdout") as stdout:
        assert stdout.recv(1) == b""
    control.call("delete", container="c")


def test_further_processes_stay_behind(guest: Guest) -> None:
    with contextlib.closing(guest.connect()) as other:
        guest.control.call("create", container="c", oci=oci_spec("sleep", "100"))
        guest.control.call("start", container="c")
        for process in ("owned", "not"):
            guest.control.call("exec", container="c", process=process, spec=process_spec("sleep", "101"))
        other.send("wait", container="c", process="owned", owner=True)
        guest.control.call("start", container="c", process="owned")
        guest.control.call("park")
        control = taken_over(guest)
    wait_until(lambda: len(control.call("processes", container="c")["processes"]) == 1, "the end of the others")
    assert control.call("state", container="c")["status"] == "running"
    control.call("delete", container="c")


def test_without_another_host_the_loss_of_an_owner_counts_when_it_goes_on(guest: Guest) -> None:
    guest.control.call("create", container="c", oci=oci_spec("sleep", "100"))
    guest.control.call("start", container="c")
    with contextlib.closing(guest.connect()) as owner:
        owner.send("wait", container="c", process="init", owner=True)
        guest.control.call("state", container="c")
        guest.control.call("park")
    wait_until(lambda: guest.count_fds() > 0, "the loop")
    assert guest.control.call("state", container="c")["status"] == "running"
    guest.control.call("unpark")
    wait_until(lambda: guest.control.call("state", container="c")["status"] == "stopped", "the end of what it owned")
    guest.control.call("delete", container="c")


def test_containers_get_other_names(guest: Guest) -> None:
    guest.run(oci_spec("true"))  # has the cgroup that bears no container's name
    guest.control.call("create", container="a", oci=oci_spec("sleep", "100"))
    guest.control.call("start", container="a")
    guest.control.call("park")
    control = taken_over(guest)
    control.call("rename", container="a", to="b")
    assert control.call("sandbox")["containers"] == ["b"]
    assert guest.exec("b", "echo", "in it").text == "in it\n"
    # The name is free, and the cgroup is not.
    with guest.running("cat", container="a"):
        assert [process["comm"] for process in control.call("processes", container="a")["processes"]] == ["cat"]
        assert [process["comm"] for process in control.call("processes", container="b")["processes"]] == ["sleep"]
    control.call("delete", container="b")


def test_a_paused_container_is_paused_afterwards(guest: Guest) -> None:
    guest.control.call("create", container="c", oci=oci_spec("sleep", "100"))
    guest.control.call("start", container="c")
    guest.control.call("pause", container="c")
    guest.control.call("park")
    control = taken_over(guest)
    assert control.call("state", container="c")["status"] == "paused"
    control.call("resume", container="c")
    control.call("delete", container="c")


def test_input_that_has_arrived_is_kept(guest: Guest) -> None:
    """More of it than a pipe holds."""
    size = 300_000
    stdin, stdout, _ = started(guest, "sh", "-c", "while ! [ -e /tmp/go ]; do sleep 0.01; done; md5sum")
    data = secrets.token_bytes(size)
    with stdin, stdout:
        stdin.sendall(data[:-5])
        wait_until(lambda: unread(stdin) == 0, "the bridge")
        assert guest.control.call("park") == {}
        control = taken_over(guest)
    with guest.stream("c", "init", "stdin") as stdin, guest.stream("c", "init", "stdout") as stdout:
        (guest.rootfs / "tmp/go").touch()
        stdin.sendall(data[-5:])
        stdin.shutdown(socket.SHUT_WR)
        assert line(stdout).split()[0].decode() == hashlib.md5(data).hexdigest()
    control.call("delete", container="c")


def test_input_that_has_arrived_is_kept_time_and_again(guest: Guest) -> None:
    """More of it than a host may send before it is read."""
    stdin, stdout, _ = started(guest, "sh", "-c", "while ! [ -e /tmp/go ]; do sleep 0.01; done; md5sum")
    data = secrets.token_bytes(1_070_005)
    for begin, end in ((0, 570_000), (570_000, 1_070_000)):
        with stdin, stdout:
            stdin.sendall(data[begin:end])
            wait_until(lambda stdin=stdin: unread(stdin) == 0, "the bridge")  # type: ignore[misc]
            assert guest.control.call("park") == {}
            control = taken_over(guest)
        stdin, stdout = guest.stream("c", "init", "stdin"), guest.stream("c", "init", "stdout")
    with stdin, stdout:
        (guest.rootfs / "tmp/go").touch()
        stdin.sendall(data[1_070_000:])
        stdin.shutdown(socket.SHUT_WR)
        assert line(stdout).split()[0].decode() == hashlib.md5(data).hexdigest()
    control.call("delete", container="c")


def test_the_reader_of_a_process_that_had_ended_goes_meanwhile(guest: Guest) -> None:
    guest.control.call("create", container="c", oci=oci_spec("sleep", "100"))
    guest.control.call("start", container="c")
    script = "yes & while ! [ -e /tmp/go ]; do sleep 0.01; done; exit 3"
    guest.control.call("exec", container="c", process="x", spec=process_spec("sh", "-c", script))
    with guest.stream("c", "x", "stdout") as stdout, guest.stream("c", "x", "stderr"), contextlib.closing(guest.connect()) as owner:
        waiting = owner.send("wait", container="c", process="x", owner=True)
        guest.control.call("start", container="c", process="x")
        settled(lambda: pending(stdout))
        (guest.rootfs / "tmp/go").touch()
        assert not owner.has_reply(waiting, 0.3)  # it has ended, and its output is still there
        guest.control.call("park")
        before = guest.count_bridge_fds()
        stdout.close()
        wait_until(lambda: guest.count_bridge_fds() < before, "the bridge")
        guest.control.call("unpark")
        assert owner.result(waiting) == {"exit": 3}
    guest.control.call("delete", container="c")


def test_output_that_nobody_reads_waits_in_its_pipe(guest: Guest) -> None:
    stdin, stdout, _ = started(guest, "sh", "-c", "seq 1000000; echo done > /tmp/count; sleep 100")
    with stdin, stdout:
        first = stdout.recv(1000)
        for _ in range(20):  # all that takes it is full by then
            assert guest.control.call("park") == {}
            assert guest.control.call("unpark") == {}
        assert count(guest) == ""
        rest = read_exactly(stdout, 6888896 - len(first))
        assert (first + rest).split() == [b"%d" % number for number in range(1, 1000001)]
        wait_until(lambda: count(guest) != "", "that it goes on")
    guest.control.call("delete", container="c")


def test_what_a_terminal_shows_and_nobody_reads_keeps_it_from_being_parked(guest: Guest) -> None:
    guest.control.call("create", container="c", oci=oci_spec("sh", "-c", f"({TICKS}) & yes", terminal=True))
    with guest.stream("c", "init", "tty"):
        guest.control.call("start", container="c")
        wait_until(lambda: count(guest) != "", "the first count")
        with pytest.raises(AgentError, match='the output of process "init" of container "c" is not read') as caught:
            for _ in range(3000):  # until all that takes it is full
                guest.control.call("park")
                guest.control.call("unpark")
        assert caught.value.kind == "state"
        before = count(guest)
        wait_until(lambda: count(guest) != before, "that it goes on")
    guest.control.call("delete", container="c")


@pytest.mark.parametrize(
    ("parked", "arguments", "kind"),
    [
        (False, {"secret": "0" * 64}, "state"),
        (True, {"secret": "0"}, "invalid"),
        (True, {"secret": 1}, "invalid"),
    ],
)
def test_refused(guest: Guest, parked: bool, arguments: dict[str, object], kind: str) -> None:
    if parked:
        guest.control.call("park")
    with pytest.raises(AgentError) as caught:
        guest.control.call("unpark", **arguments)
    assert caught.value.kind == kind
    guest.control.call("unpark")


@pytest.mark.parametrize(("to", "kind"), [("d", "exists"), ("../c", "invalid"), (1, "invalid")])
def test_names_that_are_refused(guest: Guest, to: object, kind: str) -> None:
    for container in ("c", "d"):
        guest.control.call("create", container=container, oci=oci_spec("true"))
    with pytest.raises(AgentError) as caught:
        guest.control.call("rename", container="c", to=to)
    assert caught.value.kind == kind
    assert sorted(guest.control.call("sandbox")["containers"]) == ["c", "d"]
    for container in ("c", "d"):
        guest.control.call("delete", container=container)


def test_parked_twice_is_refused_and_let_go_on_twice_is_fine(guest: Guest) -> None:
    guest.control.call("park")
    with pytest.raises(AgentError) as caught:
        guest.control.call("park")
    assert caught.value.kind == "state"
    guest.control.call("unpark")
    guest.control.call("unpark")
