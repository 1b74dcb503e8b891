"""The bytes: pipes and terminals, and that none are lost or held back."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time

import pytest

from .client import AgentError, read_all
from .harness import Guest, oci_spec, process_spec

MIB = 1 << 20


def read_until(sock: socket.socket, wanted: bytes) -> bytes:
    data = b""
    while wanted not in data:
        chunk = sock.recv(65536)
        assert chunk, f"ended before {wanted!r}: {data!r}"
        data += chunk
    return data


def test_half_close_of_stdin_ends_it(guest: Guest) -> None:
    done = guest.run(oci_spec("sh", "-c", "cat; echo done"), stdin=b"some\n")
    assert done.stdout == b"some\ndone\n"


def test_full_close_of_stdin_ends_it(guest: Guest) -> None:
    guest.control.call("create", container="c", oci=oci_spec("sh", "-c", "wc -c"))
    out = guest.stream("c", "init", "stdout")
    with guest.stream("c", "init", "stdin") as sock:
        guest.control.call("start", container="c")
        sock.sendall(b"x" * 100_000)
    assert read_all(out) == b"100000\n"
    out.close()
    guest.control.call("delete", container="c")


def test_twenty_megabytes_through(guest: Guest) -> None:
    data = os.urandom(20 * MIB)
    guest.control.call("create", container="c", oci=oci_spec("cat"))
    with guest.stream("c", "init", "stdin") as stdin, guest.stream("c", "init", "stdout") as stdout:
        guest.control.call("start", container="c")

        def feed() -> None:
            stdin.sendall(data)
            stdin.shutdown(socket.SHUT_WR)

        feeder = threading.Thread(target=feed)
        feeder.start()
        received = read_all(stdout)
        feeder.join()
    assert hashlib.sha256(received).digest() == hashlib.sha256(data).digest()
    assert guest.control.call("wait", container="c") == {"exit": 0}
    guest.control.call("delete", container="c")


def test_all_output_of_a_fast_process_arrives(guest: Guest) -> None:
    """The end is told only after the last byte, and the last byte is there when the end is told."""
    for _ in range(10):
        done = guest.run(oci_spec("sh", "-c", "head -c 300000 /dev/zero; echo end >&2"))
        assert (len(done.stdout), done.stderr, done.result) == (300_000, b"end\n", {"exit": 0})


def test_wait_is_held_back_by_unread_output(guest: Guest) -> None:
    size = 4 * MIB
    guest.control.call("create", container="c", oci=oci_spec("head", "-c", str(size), "/dev/zero"))
    with guest.stream("c", "init", "stdout") as stdout:
        waiting = guest.control.send("wait", container="c")
        guest.control.call("start", container="c")
        assert not guest.control.has_reply(waiting, 0.3)
        assert len(read_all(stdout)) == size
        assert guest.control.result(waiting) == {"exit": 0}
    guest.control.call("delete", container="c")


def test_slow_reader_does_not_hold_up_others(guest: Guest) -> None:
    guest.control.call("create", container="c", oci=oci_spec("cat", "/dev/zero"))
    with guest.stream("c", "init", "stdout"):
        guest.control.call("start", container="c")
        time.sleep(0.2)
        start = time.monotonic()
        assert guest.shell("echo other", container="d").text == "other\n"
        assert time.monotonic() - start < 5
        guest.control.call("delete", container="c")


def test_output_waits_for_its_connection(guest: Guest) -> None:
    guest.control.call("create", container="c", oci=oci_spec("sh", "-c", "echo early; sleep 100"))
    guest.control.call("start", container="c")
    time.sleep(0.1)
    with guest.stream("c", "init", "stdout") as stdout:
        assert stdout.recv(100) == b"early\n"
        guest.control.call("delete", container="c")
        assert stdout.recv(100) == b""


def test_connected_while_the_process_is_made(guest: Guest) -> None:
    made = guest.control.send("create", container="c", oci=oci_spec("echo", "said"))
    with guest.stream("c", "init", "stdout") as stdout:
        guest.control.result(made)
        guest.control.call("start", container="c")
        assert read_all(stdout) == b"said\n"
    guest.control.call("delete", container="c")
    made = guest.control.send("create", container="c", oci=oci_spec("nonesuch"))
    with guest.stream("c", "init", "stdout") as stdout:
        with pytest.raises(AgentError, match="executable file not found"):
            guest.control.result(made)
        assert read_all(stdout) == b""


def test_output_of_the_dead_waits_too(guest: Guest) -> None:
    guest.control.call("create", container="c", oci=oci_spec("echo", "last words"))
    guest.control.call("start", container="c")
    assert guest.control.call("wait", container="c") == {"exit": 0}
    with guest.stream("c", "init", "stdout") as stdout:
        assert read_all(stdout) == b"last words\n"
    guest.control.call("delete", container="c")


def test_children_do_not_delay_the_end(guest: Guest) -> None:
    """A daemon that keeps its parent's output open: what came until the end arrives, and no more is waited for."""
    with guest.running("sleep", "100"):
        start = time.monotonic()
        done = guest.exec("c", "sh", "-c", "sleep 50 & echo parent")
        assert (done.stdout, done.result) == (b"parent\n", {"exit": 0})
        assert time.monotonic() - start < 5


def test_closing_stdout_is_a_broken_pipe(guest: Guest) -> None:
    guest.control.call("create", container="c", oci=oci_spec("cat", "/dev/zero"))
    stdout = guest.stream("c", "init", "stdout")
    guest.control.call("start", container="c")
    stdout.recv(1000)
    stdout.close()
    # As PID 1 of its namespace it only gets the error; a further process dies of the signal.
    assert guest.control.call("wait", container="c")["exit"] == 1
    guest.control.call("delete", container="c")
    with guest.running("sleep", "100"):
        guest.control.call("exec", container="c", process="x", spec=process_spec("cat", "/dev/zero"))
        stdout = guest.stream("c", "x", "stdout")
        guest.control.call("start", container="c", process="x")
        stdout.recv(1000)
        stdout.close()
        assert guest.control.call("wait", container="c", process="x") == {"signal": 13}


def test_process_that_reads_nothing(guest: Guest) -> None:
    with guest.running("sleep", "100"):
        guest.control.call("exec", container="c", process="x", spec=process_spec("sh", "-c", "exec 0<&-; sleep 100"))
        with guest.stream("c", "x", "stdin") as stdin:
            guest.control.call("start", container="c", process="x")
            stdin.settimeout(1)
            with pytest.raises((BrokenPipeError, ConnectionResetError)):
                stdin.sendall(b"x" * (64 * MIB))


@pytest.mark.parametrize("name", ["stdin", "stdout", "stderr"])
def test_only_one_connection(guest: Guest, name: str) -> None:
    with guest.running("sleep", "100"), guest.stream("c", "init", name):
        with pytest.raises(AgentError) as caught:
            guest.stream("c", "init", name)
        assert caught.value.kind == "exists"


def test_unknown_streams(guest: Guest) -> None:
    with guest.running("sleep", "100"):
        for container, process, name in (("d", "init", "stdout"), ("c", "x", "stdout"), ("c", "init", "tty")):
            with pytest.raises(AgentError) as caught:
                guest.stream(container, process, name)
            assert caught.value.kind == "not-found"


class TestTerminal:
    def test_is_a_terminal(self, guest: Guest) -> None:
        script = "tty; stty size; test -t 0 && test -t 1 && test -t 2 && echo yes; ls -l /dev/console"
        oci = oci_spec("sh", "-c", script, terminal=True, consoleSize={"height": 30, "width": 100})
        guest.control.call("create", container="c", oci=oci)
        with guest.stream("c", "init", "tty") as tty:
            guest.control.call("start", container="c")
            text = read_all(tty).decode()
        assert "/dev/pts/0\r\n30 100\r\nyes\r\ncrw" in text
        assert "136,   0" in text
        assert guest.control.call("wait", container="c") == {"exit": 0}
        guest.control.call("delete", container="c")

    def test_input_and_job_control(self, guest: Guest) -> None:
        with guest.running("sleep", "100"):
            spec = process_spec(
                "sh", "-c", "trap 'echo int' INT; read x; echo got $x; sleep 100; echo over", terminal=True
            )
            guest.control.call("exec", container="c", process="x", spec=spec)
            with guest.stream("c", "x", "tty") as tty:
                guest.control.call("start", container="c", process="x")
                tty.sendall(b"hello\n")
                assert read_until(tty, b"got hello\r\n") == b"hello\r\ngot hello\r\n"
                time.sleep(0.2)
                tty.sendall(b"\x03")
                read_until(tty, b"over\r\n")
                assert guest.control.call("wait", container="c", process="x") == {"exit": 0}

    def test_resize(self, guest: Guest) -> None:
        with guest.running("sleep", "100"):
            spec = process_spec(
                "sh", "-c", "trap 'stty size; exit' WINCH; echo on; while :; do sleep .1; done", terminal=True
            )
            guest.control.call("exec", container="c", process="x", spec=spec)
            with guest.stream("c", "x", "tty") as tty:
                guest.control.call("start", container="c", process="x")
                read_until(tty, b"on\r\n")
                guest.control.call("resize", container="c", process="x", rows=11, columns=22)
                assert read_all(tty) == b"11 22\r\n"

    def test_resize_without_one(self, guest: Guest) -> None:
        with guest.running("sleep", "100"), pytest.raises(AgentError) as caught:
            guest.control.call("resize", container="c", process="init", rows=1, columns=1)
        assert caught.value.kind == "state"

    def test_much_output(self, guest: Guest) -> None:
        oci = oci_spec("sh", "-c", "seq 100000", terminal=True)
        guest.control.call("create", container="c", oci=oci)
        with guest.stream("c", "init", "tty") as tty:
            guest.control.call("start", container="c")
            text = read_all(tty)
        assert text == b"".join(b"%d\r\n" % i for i in range(1, 100001))
        guest.control.call("delete", container="c")

    def test_closing_hangs_up(self, guest: Guest) -> None:
        with guest.running("sleep", "100"):
            guest.control.call("exec", container="c", process="x", spec=process_spec("sleep", "100", terminal=True))
            tty = guest.stream("c", "x", "tty")
            guest.control.call("start", container="c", process="x")
            tty.close()
            assert guest.control.call("wait", container="c", process="x") == {"signal": 1}

    def test_belongs_to_the_user(self, guest: Guest) -> None:
        oci = oci_spec(
            "sh", "-c", "stat -c %u:%a $(tty); echo hi > /dev/tty", terminal=True, user={"uid": 1000, "gid": 1000}
        )
        guest.control.call("create", container="c", oci=oci)
        with guest.stream("c", "init", "tty") as tty:
            guest.control.call("start", container="c")
            assert read_all(tty) == b"1000:620\r\nhi\r\n"
        guest.control.call("delete", container="c")

    def test_child_that_keeps_it_does_not_delay_the_end(self, guest: Guest) -> None:
        with guest.running("sleep", "100"):
            spec = process_spec("sh", "-c", "(trap '' HUP; sleep 50) & echo parent", terminal=True)
            guest.control.call("exec", container="c", process="x", spec=spec)
            with guest.stream("c", "x", "tty") as tty:
                waiting = guest.control.send("wait", container="c", process="x")
                guest.control.call("start", container="c", process="x")
                assert read_all(tty) == b"parent\r\n"
                assert guest.control.result(waiting) == {"exit": 0}


def test_user_can_reopen_its_streams(guest: Guest) -> None:
    done = guest.shell("echo out > /dev/stdout; echo err > /dev/stderr", user={"uid": 1000, "gid": 1000})
    assert (done.stdout, done.stderr) == (b"out\n", b"err\n")


def test_streams_of_many_processes(guest: Guest) -> None:
    with guest.running("sleep", "100"):
        for i in range(30):
            guest.control.call(
                "exec", container="c", process=f"x{i}", spec=process_spec("sh", "-c", f"read l; echo $l {i}")
            )
        streams = [(guest.stream("c", f"x{i}", "stdin"), guest.stream("c", f"x{i}", "stdout")) for i in range(30)]
        for i in range(30):
            guest.control.call("start", container="c", process=f"x{i}")
        for i, (stdin, stdout) in enumerate(streams):
            stdin.sendall(b"line\n")
            assert read_all(stdout) == f"line {i}\n".encode()
            stdin.close()
            stdout.close()
