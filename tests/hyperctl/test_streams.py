"""run, exec, attach, cp and port-forward: streams, signals, terminals and exit codes, against a daemon of ours."""

import asyncio
import contextlib
import io
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import tarfile
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.hyperctl.conftest import CONTAINER_ID, POD_ID, WEB, Cli
from tests.hyperctl.fake import WAIT_S, Asked, Fake, Status, echoes, exits, refusal, say

ROOT = Path(__file__).parents[2]
NGINX = f"/containers/{CONTAINER_ID}"
BOX = "/containers/box%2Fbusybox"


def wait_for(condition: Any) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


@pytest.fixture
def box(fake: Fake) -> Fake:
    """An image that is there, and a pod named box that can be made, started and removed."""
    fake.answers["GET /images/busybox"] = {"id": "sha256:1"}
    fake.answers["POST /pods"] = {"id": POD_ID, "name": "box"}
    fake.answers[f"POST /pods/{POD_ID}/start"] = {}
    fake.answers[f"DELETE /pods/{POD_ID}"] = None
    return fake


# --- run ---


def test_run(cli: Cli, box: Fake) -> None:
    box.streams[f"{BOX}/attach"] = exits(3, b"helloworld\n", b"oh\n")
    done = cli("run", "--rm", "--name", "box", "busybox", "echo", "helloworld")
    assert done == (3, "helloworld\n", "oh\n")
    lines = [f"{a.method} {a.path}" for a in box.asked]
    assert lines[:3] == ["GET /images/busybox", "POST /pods", f"STREAM {BOX}/attach"] and lines[-1] == f"DELETE /pods/{POD_ID}"
    assert box.asked[1].query == {"rm": "1"}
    assert box.asked[1].body == {"spec": {"name": "box", "containers": [{"name": "busybox", "image": "busybox", "args": ["echo", "helloworld"], "healthcheck": {}}]}}
    assert box.asked[2].query == {"stdout": "1", "stderr": "1"}


def test_run_pulls_what_is_missing(cli: Cli, box: Fake) -> None:
    del box.answers["GET /images/busybox"]
    box.answers["POST /images/pull"] = b'{"progress": {"what": "resolve"}}\n{"image": {"id": "1"}}\n'
    box.streams[f"{BOX}/attach"] = exits(0)
    assert cli("run", "--name", "box", "busybox") == (0, "", "image: looking for\n")
    assert cli("run", "--name", "box", "--pull", "never", "busybox").status == 0
    assert len(box.requests("POST", "/images/pull")) == 1


def test_run_of_an_image_that_nobody_has(cli: Cli, fake: Fake) -> None:
    fake.answers["POST /images/pull"] = refusal(404, "missing", "busybox: not found in docker.io")
    done = cli("run", "busybox")
    assert done.status == 125 and "not found in docker.io" in done.error
    assert not fake.requests("POST", "/pods")


def test_run_detached(cli: Cli, box: Fake) -> None:
    done = cli("run", "-d", "busybox")
    assert done.status == 0 and done.out == POD_ID + "\n"
    assert done.error.startswith("Time to run a POD is ") and done.error.endswith(" ms\n")


def test_run_detached_of_a_pod_that_takes_its_time(cli: Cli, box: Fake) -> None:
    box.answers[f"POST /pods/{POD_ID}/start"] = {"state": "starting", "reason": "it waits for sidecar proxy: status 503"}
    done = cli("run", "-d", "--wait", "5s", "--name", "box", "busybox")
    assert done.status == 0 and done.out == POD_ID + "\n" and "hyperctl: box is still starting: it waits for sidecar proxy: status 503\n" in done.error
    assert box.requests("POST", f"/pods/{POD_ID}/start")[0].query == {"wait": "5.0"}


@pytest.mark.parametrize("detached", [True, False])
@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (refusal(503, "unavailable", "the machine does not start"), 125),
        (refusal(400, "invalid", 'exec: "nope": executable file not found in $PATH'), 127),
        (refusal(400, "invalid", 'exec: "/etc": permission denied'), 126),
        (refusal(400, "invalid", "cannot", exit_code=127), 127),
    ],
)
def test_what_does_not_start_is_removed(cli: Cli, box: Fake, answer: Status, status: int, detached: bool) -> None:
    async def silence(stream: web.WebSocketResponse) -> None:
        async for _ in stream:
            pass

    box.streams[f"{BOX}/attach"] = silence
    box.answers[f"POST /pods/{POD_ID}/start"] = answer
    done = cli("run", *(["-d"] if detached else []), "--name", "box", "busybox", "nope")
    assert done.status == status and answer.value["error"]["message"] in done.error
    assert box.requests("DELETE", f"/pods/{POD_ID}")[0].query == {"force": "1"}


def test_run_of_files(cli: Cli, box: Fake, tmp_path: Path) -> None:
    for name in ("a.yaml", "b.json"):
        (tmp_path / name).write_text(f"text of {name}")
    box.answers["POST /pods"] = {"pods": [{"id": POD_ID, "name": "box"}]}
    done = cli("run", "-p", str(tmp_path / "a.yaml"), "-p", str(tmp_path / "b.json"))
    assert done.out == POD_ID + "\n"
    assert box.asked[0].body == {"documents": ["text of a.yaml", "text of b.json"]}
    assert "published with --publish" in cli("run", "-p", "8080:80", "nginx").error
    assert cli("run", "-p", "8080:80").status == 125


def test_run_in_a_pod_that_exists(cli: Cli, box: Fake) -> None:
    box.answers["POST /pods/web/containers"] = {"id": "77", "name": "busybox"}
    box.answers["POST /containers/77/start"] = {}
    box.streams["/containers/77/attach"] = exits(0, b"hi")
    assert cli("run", "-c", "web", "busybox").out == "hi"
    done = cli("run", "-c", "web", "--memory", "64", "busybox")
    assert done.status == 125 and "--memory is of the whole pod" in done.error


def test_output_that_was_lost_is_told(cli: Cli, box: Fake) -> None:
    async def loses(stream: web.WebSocketResponse) -> None:
        for _ in range(2):
            await say(stream, lost={"stream": 1, "bytes": 50})
        await say(stream, exit={"code": 0})

    box.streams[f"{BOX}/attach"] = loses
    assert "100 bytes of output" in cli("run", "--name", "box", "busybox").error


def test_a_stream_that_breaks(cli: Cli, box: Fake) -> None:
    async def breaks(stream: web.WebSocketResponse) -> None:
        await stream.send_bytes(b"\1half")

    box.streams[f"{BOX}/attach"] = breaks
    done = cli("run", "--name", "box", "busybox")
    assert done.status == 125 and done.out == "half" and "hyperctl attach" in done.error


# --- exec and attach ---


def test_exec(cli: Cli, fake: Fake) -> None:
    fake.answers[f"POST {NGINX}/exec"] = {"id": "e1"}
    fake.streams["/execs/e1/attach"] = exits(7, b"out", b"err")
    done = cli("exec", "-e", "A=1", "-w", "/", "-u", "0", "web", "ls", "-t")
    assert done == (7, "out", "err")
    assert fake.requests("POST")[0].body == {"args": ["ls", "-t"], "tty": False, "stdin": False, "detach": False, "env": [["A", "1"]], "cwd": "/", "user": "0"}


def test_exec_in_the_machine_and_detached(cli: Cli, fake: Fake) -> None:
    fake.answers["POST /pods/web/exec-vm"] = {"id": "e2"}
    assert cli("exec", "-d", "--vm", "web", "dmesg").out == "e2\n"


def test_exec_of_what_is_not_there(cli: Cli, fake: Fake) -> None:
    assert cli("exec", "gone", "ls").status == 125
    fake.answers[f"POST {NGINX}/exec"] = {"id": "e1"}

    async def fails(stream: web.WebSocketResponse) -> None:
        await say(stream, error={"kind": "invalid", "message": "no such program", "exit_code": 127})

    fake.streams["/execs/e1/attach"] = fails
    done = cli("exec", "web", "nope")
    assert done.status == 127 and "no such program" in done.error


def test_attach_to_what_has_ended(cli: Cli, fake: Fake) -> None:
    fake.answers["GET /containers/c"] = {"id": "c", "name": "c", "state": "exited", "tty": False}
    done = cli("attach", "c")
    assert done.status == 1 and "hyperctl logs" in done.error


# --- a process of its own: stdin, signals, terminals ---


def start(fake: Fake, *argv: str, **rest: Any) -> "subprocess.Popen[bytes]":
    environ = os.environ | {"HYPER_HOST": f"unix://{fake.socket}", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-m", "hyperctl", *argv], env=environ, stderr=subprocess.PIPE, **rest)


def test_stdin_is_sent_to_its_end(fake: Fake) -> None:
    fake.answers[f"POST {NGINX}/exec"] = {"id": "e1"}
    fake.streams["/execs/e1/attach"] = echoes(5)
    data = os.urandom(500_000)
    with start(fake, "exec", "-i", "web", "cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        out, error = running.communicate(data, WAIT_S)
    assert (running.returncode, out == data, error) == (5, True, b"")


def test_signals_are_forwarded(box: Fake) -> None:
    ended = asyncio.Event()

    async def until_killed(stream: web.WebSocketResponse) -> None:
        await stream.send_bytes(b"\1ready\n")
        await ended.wait()
        await say(stream, exit={"code": 143})

    def kill(asked: Asked) -> None:
        if asked.query["signal"] == "TERM":
            box._loop.call_soon_threadsafe(ended.set)

    box.streams[f"{BOX}/attach"] = until_killed
    box.answers[f"POST {BOX}/kill"] = kill
    with start(box, "run", "--name", "box", "busybox", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None and running.stdout.readline() == b"ready\n"
        for number in (signal.SIGUSR1, signal.SIGTERM):
            running.send_signal(number)
            wait_for(lambda: box.requests("POST", f"{BOX}/kill"))
        assert {a.query["signal"] for a in box.requests("POST", f"{BOX}/kill")} >= {"USR1"}
        assert running.wait(WAIT_S) == 143


@pytest.mark.parametrize("remove", [True, False])
def test_a_pipe_that_nobody_reads(box: Fake, remove: bool) -> None:
    """With --rm the pod ends with the command; without, it runs on and that is said."""

    async def yes(stream: web.WebSocketResponse) -> None:
        with contextlib.suppress(ConnectionError):
            while not stream.closed:
                await stream.send_bytes(b"\1" + b"y\n" * 1000)

    box.streams[f"{BOX}/attach"] = yes
    flags = ["--rm"] if remove else []
    with start(box, "run", *flags, "--name", "box", "busybox", "yes", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None and running.stdout.readline() == b"y\n"
        running.stdout.close()
        assert running.wait(WAIT_S) == 141
        assert running.stderr is not None
        said = running.stderr.read().decode()
    removals = box.requests("DELETE", f"/pods/{POD_ID}")
    assert [a.query for a in removals] == ([{"force": "1"}] if remove else [])
    assert said == ("" if remove else "hyperctl: nobody reads the output any more; box runs on, and `hyperctl logs` has it\n")


def test_what_was_lost_is_told_once(cli: Cli, box: Fake) -> None:
    async def stream(socket: web.WebSocketResponse) -> None:
        await say(socket, lost={"stream": "stdout", "bytes": 4000})
        await socket.send_bytes(b"\1after\n")
        await say(socket, lost={"stream": "stderr", "bytes": 96})
        await say(socket, exit={"code": 0})

    box.streams[f"{BOX}/attach"] = stream
    done = cli("run", "--name", "box", "busybox")
    assert done == (0, "after\n", "hyperctl: 4096 bytes of output came too fast to be shown; `hyperctl logs` has them\n")


class Terminal:
    """A pseudo terminal with hyperctl in it."""

    def __init__(self, fake: Fake, *argv: str) -> None:
        self.master, self.slave = pty.openpty()
        termios.tcsetwinsize(self.slave, (40, 100))
        self.before = termios.tcgetattr(self.slave)
        self.running = start(fake, *argv, stdin=self.slave, stdout=self.slave, start_new_session=True)

    def read_until(self, text: bytes) -> bytes:
        seen, end = b"", time.monotonic() + WAIT_S
        while text not in seen:
            assert select.select([self.master], [], [], max(end - time.monotonic(), 0))[0], seen
            seen += os.read(self.master, 65536)
        return seen

    def type(self, text: bytes) -> None:
        os.write(self.master, text)

    def is_restored(self) -> bool:
        return termios.tcgetattr(self.slave) == self.before

    def close(self) -> None:
        if self.running.poll() is None:
            self.running.kill()
        self.running.communicate(timeout=WAIT_S)
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def shell(box: Fake) -> Iterator[Terminal]:
    """`hyperctl run -t` of a program that echoes, says the sizes it is told, and ends at a Q."""

    async def stream(peer: web.WebSocketResponse) -> None:
        async for message in peer:
            data: bytes = message.data
            if data[:1] == b"\3":
                await peer.send_bytes(b"\1<" + data[1:] + b">")
            elif data[:1] == b"\0":
                await peer.send_bytes(b"\1[" + data[1:].hex().encode() + b"]")
                if b"Q" in data:
                    await say(peer, exit={"code": 4})

    box.streams[f"{BOX}/attach"] = stream
    found = Terminal(box, "run", "-t", "--name", "box", "busybox", "sh")
    yield found
    found.close()


def test_a_terminal_is_raw_resized_and_restored(shell: Terminal) -> None:
    shell.read_until(b'<{"resize": [40, 100]}>')
    assert not shell.is_restored()
    termios.tcsetwinsize(shell.slave, (50, 120))
    shell.running.send_signal(signal.SIGWINCH)
    shell.read_until(b'<{"resize": [50, 120]}>')
    shell.type(b"\x03\x1a")
    shell.read_until(b"[031a]")
    shell.type(b"Q")
    assert shell.running.wait(WAIT_S) == 4 and shell.is_restored()


def test_detach_keys_leave_it_running(shell: Terminal) -> None:
    shell.read_until(b"<")
    shell.type(b"\x10x")
    shell.read_until(b"[1078]")
    shell.type(b"\x10\x11")
    assert shell.running.wait(WAIT_S) == 0 and shell.is_restored()
    assert shell.running.stderr is not None and b"hyperctl attach box" in shell.running.stderr.read()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT])
def test_a_signal_restores_the_terminal(shell: Terminal, number: int) -> None:
    shell.read_until(b"<")
    shell.running.send_signal(number)
    assert shell.running.wait(WAIT_S) == 128 + number and shell.is_restored()


def test_a_stopped_command_restores_the_terminal_until_it_goes_on(shell: Terminal) -> None:
    shell.read_until(b"<")
    shell.running.send_signal(signal.SIGTSTP)
    wait_for(shell.is_restored)
    shell.running.send_signal(signal.SIGCONT)
    wait_for(lambda: not shell.is_restored())
    shell.type(b"Q")
    assert shell.running.wait(WAIT_S) == 4 and shell.is_restored()


def test_a_table_fits_the_terminal(fake: Fake) -> None:
    fake.answers["GET /pods"] = [{**WEB, "name": "a-very-long-name-" * 5, "addresses": ["10.1.0.2"] * 5}]
    terminal = Terminal(fake, "list")
    try:
        lines = re.sub(r"\x1b\[[0-9;]*m", "", terminal.read_until(b"8080").decode()).splitlines()
        assert "\N{HORIZONTAL ELLIPSIS}" in lines[2] and all(len(line) <= 100 for line in lines)
    finally:
        terminal.close()


# --- cp ---


def archive(*entries: tuple[str, Any]) -> bytes:
    """Names with bytes (a file), None (a folder), text (a symbolic link) or a pair (a hard link)."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as file:
        for name, what in entries:
            member = tarfile.TarInfo(name)
            member.mode = 0o755
            if what is None:
                member.type = tarfile.DIRTYPE
            elif isinstance(what, str):
                member.type, member.linkname = tarfile.SYMTYPE, what
            elif isinstance(what, tuple):
                member.type, member.linkname = tarfile.LNKTYPE, what[0]
            else:
                member.size = len(what)
            file.addfile(member, io.BytesIO(what) if isinstance(what, bytes) else None)
    return made.getvalue()


def test_cp_of_a_file_from_a_container(cli: Cli, fake: Fake, tmp_path: Path) -> None:
    fake.answers[f"GET {NGINX}/archive"] = archive(("motd", b"hi"))
    target = tmp_path / "here"
    target.mkdir()
    assert cli("cp", "web:/etc/motd", str(target)) == (0, "", "")
    assert (target / "motd").read_bytes() == b"hi"
    assert cli("cp", "web:etc/motd", f"{target}/other").status == 0
    assert (target / "other").read_bytes() == b"hi"
    assert fake.asked[-1].query == {"path": "/etc/motd"}
    assert cli("cp", "web:/etc/motd", f"{target}/none/").status == 1
    assert tarfile.open(fileobj=io.BytesIO(cli("cp", "web:/etc/motd", "-").out.encode())).getnames() == ["motd"]


def test_cp_of_a_folder_from_a_container(cli: Cli, fake: Fake, tmp_path: Path) -> None:
    fake.answers[f"GET {NGINX}/archive"] = archive(("d", None), ("d/a", b"1"), ("d/s", None), ("d/s/b", ("d/a",)), ("d/l", "/etc/passwd"))
    (tmp_path / "here").mkdir()
    for source, target, made in (("web:/d", "here", "here/d"), ("web:/d", "new", "new"), ("web:/d/.", "here", "here")):
        assert cli("cp", source, f"{tmp_path}/{target}") == (0, "", "")
        root = tmp_path / made
        assert (root / "a").read_bytes() == b"1" and (root / "s/b").samefile(root / "a") and os.readlink(root / "l") == "/etc/passwd"


@pytest.mark.parametrize(
    "entries",
    [
        [("d", None), ("../x", b"1")],
        [("d", None), ("d/../../x", b"1")],
        [("d", None), ("/x", b"1")],
        [("d", None), ("d/l", "../.."), ("d/l/x", b"1")],
        [("d", None), ("d/l", ".."), ("d/l/x", "y")],
        [("d", None), ("d/h", ("../secret",))],
        [("d", None), ("d/l", "../secret"), ("d/h", ("d/l",))],
        [("d", None), ("d/h", ("/etc/passwd",))],
        [("d", None), ("old/x", b"1")],
        [("d", None), ("d/old/x", b"1")],
        [],
    ],
)
def test_cp_puts_nothing_elsewhere(cli: Cli, fake: Fake, tmp_path: Path, entries: list[tuple[str, Any]]) -> None:
    here = tmp_path / "outer/here"
    here.mkdir(parents=True)
    (tmp_path / "outer/secret").write_text("s")
    (here / "d").mkdir()
    (here / "d/old").symlink_to("../..")  # what an earlier copy may have left
    before = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*") if here not in p.parents)
    fake.answers[f"GET {NGINX}/archive"] = archive(*entries)
    done = cli("cp", "web:/d", str(here))
    assert done.status == 1 and "Traceback" not in done.error and "internal" not in done.error
    assert sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*") if here not in p.parents) == before
    assert not any(p.name in ("x", "h") for p in here.rglob("*"))


def test_cp_of_a_stream_that_is_no_tar(cli: Cli, fake: Fake, tmp_path: Path) -> None:
    fake.answers[f"GET {NGINX}/archive"] = b"no tar" * 1000
    assert "no tar stream" in cli("cp", "web:/d", str(tmp_path)).error
    fake.answers[f"GET {NGINX}/archive"] = archive(("d", b"1" * 100_000))[:50_000]
    done = cli("cp", "web:/d", str(tmp_path))
    assert done.status == 1 and "damaged" in done.error and not list(tmp_path.glob("d"))


@pytest.mark.parametrize(
    ("source", "path", "there", "folder", "names"),
    [
        ("file", "/etc", archive(("etc", None)), "/etc", ["file"]),
        ("file", "/etc/", archive(("etc", None)), "/etc/", ["file"]),
        ("file", "/etc/new", None, "/etc", ["new"]),
        ("file", "/etc/old", archive(("old", b"")), "/etc", ["old"]),
        ("folder", "/srv", archive(("srv", None)), "/srv", ["folder", "folder/a"]),
        ("folder/.", "/srv", archive(("srv", None)), "/srv", ["a"]),
        ("folder", "/srv/new", None, "/srv", ["new", "new/a"]),
    ],
)
def test_cp_to_a_container(cli: Cli, fake: Fake, tmp_path: Path, source: str, path: str, there: bytes | None, folder: str, names: list[str]) -> None:
    (tmp_path / "file").write_bytes(b"f" * 200_000)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/a").write_bytes(b"a")
    fake.answers[f"GET {NGINX}/archive"] = refusal(404, "missing", "no such file") if there is None else there
    fake.answers[f"PUT {NGINX}/archive"] = None
    assert cli("cp", f"{tmp_path}/{source}", f"web:{path}") == (0, "", "")
    asked = fake.requests("PUT")[-1]
    assert asked.query == {"path": folder}
    with tarfile.open(fileobj=io.BytesIO(asked.body)) as file:
        assert file.getnames() == names and {m.uid for m in file} == {0}


def test_cp_that_cannot_be(cli: Cli, fake: Fake, tmp_path: Path) -> None:
    assert cli("cp", "a", "b").status == 2
    assert cli("cp", "web:/a", "web:/b").status == 2
    assert "No such file" in cli("cp", f"{tmp_path}/none", "web:/a").error
    fake.answers[f"GET {NGINX}/archive"] = archive(("old", b""))
    assert "Not a directory" in cli("cp", str(tmp_path), "web:/old").error


# --- port-forward ---


def test_port_forward(fake: Fake) -> None:
    async def upper(stream: web.WebSocketResponse) -> None:
        async for message in stream:
            if not message.data:
                break
            await stream.send_bytes(message.data.upper())

    fake.streams["/pods/web/port-forward"] = upper
    with start(fake, "port-forward", "web", ":80") as running:
        assert running.stderr is not None
        port = int(running.stderr.readline().split(b":")[1].split()[0])
        for _ in range(2):
            with socket.create_connection(("127.0.0.1", port), WAIT_S) as peer:
                peer.sendall(b"hello")
                assert peer.recv(100) == b"HELLO"
                peer.shutdown(socket.SHUT_WR)
                assert peer.recv(100) == b""
        assert fake.requests("STREAM")[0].query == {"port": "80"}
        running.send_signal(signal.SIGINT)
        assert running.wait(WAIT_S) == 130
