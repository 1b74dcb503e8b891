"""Drives runv, and runc beside it, as engines and users do: bundles, commands with deadlines, containers under a subreaper."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import fcntl
import functools
import json
import os
import pty
import re
import secrets
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pytest

from tests.rootfs import make_rootfs

Json = dict[str, Any]

SLOW = 10 if "RUNV_LAB" in os.environ else 1
DEADLINE_S = 60.0 * SLOW
_PR_SET_CHILD_SUBREAPER = 36
_CGROUPS = Path("/sys/fs/cgroup")
_LINE = re.compile(r'time="[^"]+" level=error msg="(.*)"\n')
_ID_PREFIX = f"rvt-{os.getpid()}-"


def become_subreaper(wanted: bool = True) -> None:
    """What the runtimes leave behind becomes our child, as it becomes containerd-shim's: its status and its end are ours to see."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, int(wanted), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def wait_until(condition: Callable[[], bool], what: str, deadline_s: float = 20.0 * SLOW) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {deadline_s:g} s for {what}")
        time.sleep(0.01)


def runv_program() -> str:
    program = os.environ.get("RUNV_BIN") or shutil.which("runv")
    if program is None:
        raise RuntimeError("runv is not in PATH: `make stage` makes it, RUNV_BIN may name it")
    return program


def new_id() -> str:
    """Unique, so that what is found later is known to be this test's, and of no run beside it."""
    return f"{_ID_PREFIX}{secrets.token_hex(4)}"


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    stdout: bytes
    stderr: bytes

    @property
    def out(self) -> str:
        return self.stdout.decode(errors="replace")

    @property
    def err(self) -> str:
        return self.stderr.decode(errors="replace")

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    def ok(self) -> Done:
        assert self.code == 0, f"status {self.code}\nstdout: {self.out}\nstderr: {self.err}"
        return self


def refusal(done: Done, code: int = 1) -> str:
    """The one line of a command that failed."""
    assert done.code == code, f"status {done.code}: {done.err}"
    found = _LINE.fullmatch(done.err)
    assert found, f"not one line: {done.err!r}"
    assert "Traceback" not in done.err
    return found[1].replace('\\"', '"').replace("\\\\", "\\")


@functools.cache
def _default_config() -> str:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([runv_program(), "spec", "--bundle", folder], check=True, timeout=DEADLINE_S)
        return Path(folder, "config.json").read_text()


class Bundle:
    """A folder with a busybox root and what `runv spec` wrote, without a terminal, writable."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rootfs = path / "rootfs"
        make_rootfs(self.rootfs)
        self.config: Json = json.loads(_default_config())
        self.process["terminal"] = False
        self.config["root"]["readonly"] = False
        self.save()

    @property
    def process(self) -> Json:
        process: Json = self.config["process"]
        return process

    @property
    def linux(self) -> Json:
        linux: Json = self.config["linux"]
        return linux

    def save(self) -> Bundle:
        (self.path / "config.json").write_text(json.dumps(self.config))
        return self

    def args(self, *args: str, **members: Any) -> Bundle:
        """Sets the program, and more members of the process."""
        self.process.update(args=list(args), **members)
        return self.save()

    def script(self, text: str, **members: Any) -> Bundle:
        return self.args("sh", "-c", text, **members)

    def mount(self, destination: str, source: str, kind: str, *options: str) -> Bundle:
        self.config["mounts"].append(
            {"destination": destination, "source": source, "type": kind, "options": list(options)}
        )
        return self.save()


@dataclass
class Created:
    """A container made with `create`: the process of its pid-file is our child."""

    runtime: Runtime
    id: str
    pid: int
    stdout: IO[bytes]
    stderr: IO[bytes]
    _status: int | None = None

    def start(self) -> Created:
        self.runtime.run("start", self.id).ok()
        return self

    def wait_status(self, deadline_s: float = DEADLINE_S) -> int:
        """The raw wait status of the process of the pid-file."""
        if self._status is None:
            self._status = wait_for(self.pid, deadline_s)
        return self._status

    def wait(self, deadline_s: float = DEADLINE_S) -> int:
        """Its exit code; negative for a signal."""
        return os.waitstatus_to_exitcode(self.wait_status(deadline_s))

    def output(self) -> bytes:
        self.stdout.seek(0)
        return self.stdout.read()

    def wait_output(self, text: bytes) -> None:
        wait_until(lambda: text in self.output(), f"{text!r} in the output")

    def exec(self, *args: str, **more: Any) -> Done:
        return self.runtime.run("exec", self.id, *args, **more)

    def status(self) -> str:
        return str(self.runtime.state(self.id)["status"])

    def kill(self, number: str = "KILL") -> Done:
        return self.runtime.run("kill", self.id, number)

    def delete(self) -> None:
        self.runtime.run("delete", "--force", self.id).ok()


def wait_for(pid: int, deadline_s: float = DEADLINE_S) -> int:
    """Waits for a child of ours; returns its raw wait status."""
    found: list[int] = []

    def ended() -> bool:
        got, status = os.waitpid(pid, os.WNOHANG)
        if got:
            found.append(status)
        return bool(got)

    wait_until(ended, f"the end of process {pid}", deadline_s)
    return found[0]


@dataclass
class Runtime:
    """runv or runc, on a state root of its own."""

    name: str
    program: str
    root: Path
    env: Mapping[str, str] = field(default_factory=dict)

    def command(self, *args: str) -> list[str]:
        return [self.program, "--root", str(self.root), *args]

    def environ(self) -> dict[str, str]:
        return {**os.environ, **self.env}

    def run(self, *args: str, stdin: bytes = b"", deadline_s: float = DEADLINE_S, cwd: Path | None = None) -> Done:
        """One command to its end. Its streams are files, so what it leaves running with them cannot hold us up."""
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            given.write(stdin)
            given.seek(0)
            command = self.command(*args)
            process = subprocess.Popen(command, stdin=given, stdout=out, stderr=err, env=self.environ(), cwd=cwd)
            try:
                code = process.wait(deadline_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                out.seek(0)
                err.seek(0)
                raise TimeoutError(f"{command} did not end: {out.read()!r} {err.read()!r}") from None
            out.seek(0)
            err.seek(0)
            return Done(code, out.read(), err.read())

    def popen(self, *args: str, **more: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self.command(*args), env=self.environ(), **more)

    def run_bundle(self, bundle: Bundle, *flags: str, **more: Any) -> Done:
        """`run` in the foreground under a new id."""
        return self.run("run", "--bundle", str(bundle.path), *flags, new_id(), **more)

    def create(
        self, bundle: Bundle, *flags: str, stdin: int = subprocess.DEVNULL, stdout: int | None = None
    ) -> Created:
        """`create` as an engine calls it."""
        container = new_id()
        out = tempfile.TemporaryFile()
        err = tempfile.TemporaryFile()
        pid_file = self.root.parent / f"{container}.pid"
        command = self.command("create", "--bundle", str(bundle.path), "--pid-file", str(pid_file), *flags, container)
        process = subprocess.Popen(
            command, stdin=stdin, stdout=out if stdout is None else stdout, stderr=err, env=self.environ()
        )
        code = process.wait(DEADLINE_S)
        err.seek(0)
        assert code == 0, f"create: status {code}: {err.read().decode()}"
        pid = int(pid_file.read_text())
        pid_file.unlink()
        return Created(self, container, pid, out, err)

    def start(self, bundle: Bundle, *flags: str, **more: Any) -> Created:
        return self.create(bundle, *flags, **more).start()

    def state(self, container: str) -> Json:
        state: Json = json.loads(self.run("state", container).ok().stdout)
        return state

    def delete_all(self) -> None:
        for entry in list(self.root.iterdir()) if self.root.exists() else []:
            if not entry.name.startswith("@"):
                self.run("delete", "--force", entry.name)


class Terminal:
    """The master of a pty."""

    def __init__(self, master: int) -> None:
        self.master = master
        self.seen = b""

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def write(self, data: bytes) -> None:
        os.write(self.master, data)

    def read_some(self, timeout_s: float = 0.05) -> bool:
        """False at the end."""
        if not select.select([self.master], [], [], timeout_s)[0]:
            return True
        try:
            data = os.read(self.master, 65536)
        except OSError:  # EIO: nobody has the other end any more
            return False
        self.seen += data
        return bool(data)

    def expect(self, text: bytes) -> None:
        def found() -> bool:
            return text in self.seen or (not self.read_some() and text in self.seen)

        try:
            wait_until(found, f"{text!r} on the terminal")
        except TimeoutError as error:
            raise TimeoutError(f"{error}; there was {self.seen!r}") from None

    def read_all(self) -> bytes:
        wait_until(lambda: not self.read_some(), "the end of the terminal")
        return self.seen

    def close(self) -> None:
        os.close(self.master)


@contextlib.contextmanager
def console_socket(folder: Path) -> Iterator[tuple[Path, Callable[[], Terminal]]]:
    """A listening console socket, and how to get the terminal that was sent there."""
    path = folder / f"{secrets.token_hex(3)}.sock"
    opened: list[Terminal] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(1)
        listener.settimeout(DEADLINE_S)

        def receive() -> Terminal:
            link, _ = listener.accept()
            with link:
                _, fds, _, _ = socket.recv_fds(link, 4096, 1)
            opened.append(Terminal(fds[0]))
            return opened[-1]

        try:
            yield path, receive
        finally:
            path.unlink()
            for terminal in opened:
                terminal.close()


@contextlib.contextmanager
def with_terminal(
    popen: Callable[..., subprocess.Popen[bytes]], *args: str
) -> Iterator[tuple[subprocess.Popen[bytes], Terminal]]:
    """What ``popen`` starts, with a terminal of 24 rows and 80 columns, which it controls, as its stdio."""
    master, slave = pty.openpty()
    terminal = Terminal(master)
    terminal.resize(24, 80)
    process = popen(
        *args,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(slave)
    try:
        yield process, terminal
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        terminal.close()


def on_terminal(
    runtime: Runtime, *args: str
) -> contextlib.AbstractContextManager[tuple[subprocess.Popen[bytes], Terminal]]:
    """A command of the runtime's on a terminal; see ``with_terminal``."""
    return with_terminal(runtime.popen, *args)


@functools.cache
def translations() -> Path:
    """What machines with one and with more virtual CPUs have translated, made once and for all tests: else each folder of templates would get its own, by
    processes that nobody waits for."""
    folder = tempfile.mkdtemp(prefix="rvk", dir="/dev/shm")
    atexit.register(shutil.rmtree, folder)
    for vcpus in "12":
        environment = {**os.environ, "RUNV_TEMPLATE_FOLDER": folder, "RUNV_VCPUS": vcpus}
        done = subprocess.run([runv_program(), "factory", "translate"], env=environment, capture_output=True, text=True, timeout=DEADLINE_S)
        assert done.returncode == 0 or "nothing can be kept" in done.stderr, done.stderr
    return Path(folder)


@contextlib.contextmanager
def own_templates() -> Iterator[None]:
    """The first sandbox of each shape boots, the others are its clones: as it is for users, but apart from theirs, and from their
    machines that wait."""
    with tempfile.TemporaryDirectory(prefix="rvt", dir="/dev/shm") as path, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUNV_TEMPLATE_FOLDER", path)
        patch.setenv("RUNV_POOL_FOLDER", f"{path}/pool")
        for kept in translations().glob("translations-*"):
            os.link(kept, f"{path}/{kept.name}")
        yield


def parent_of(pid: int) -> tuple[int, str]:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[1]), fields[0]


def children() -> dict[int, str]:
    """Our living children and what they run."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent, state = parent_of(int(entry.name))
            if parent == os.getpid() and state not in "ZX":
                found[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ").strip()
        except (OSError, IndexError):
            continue
    return found


def reap() -> None:
    """Takes the status of children that have ended; no command may be under way."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def qemu_of(root: Path) -> int:
    """The process id of the only machine on a state root."""
    found = list(root.glob("@sandboxes/*/qemu.pid"))
    assert len(found) == 1
    return int(found[0].read_text().split()[0])


@dataclass(frozen=True)
class Host:
    """What a runtime could leave behind."""

    children: Mapping[int, str]
    mounts: frozenset[str]
    links: frozenset[str]

    @classmethod
    def now(cls) -> Host:
        links = subprocess.run(["ip", "-o", "link"], check=True, capture_output=True, text=True).stdout
        mounts = [line.split(" ", 5)[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        return cls(
            children=children(),
            # The first `ip netns add` of a machine mounts it, for good.
            mounts=frozenset(mounts) - {"/run/netns"},
            links=frozenset(line.split()[1] for line in links.splitlines()),
        )


def cgroup_folders() -> list[str]:
    """The folders of containers with ids of ours."""
    return [
        os.path.join(folder, name)
        for folder, names, _ in os.walk(_CGROUPS)
        for name in names
        if name.startswith(_ID_PREFIX)
    ]


def leaks(before: Host, root: Path, groups: list[str]) -> list[str]:
    """What is on the host that was not there before, in words."""
    after = Host.now()
    found = [f"process {pid}: {line}" for pid, line in after.children.items() if pid not in before.children]
    # Others may use the host meanwhile; whatever runv could mount lies below the test's folder.
    found += [f"mount {path}" for path in after.mounts - before.mounts if path.startswith(f"{root.parent}/")]
    found += [f"network link {name}" for name in after.links - before.links]
    found += [f"cgroup {path}" for path in cgroup_folders() if path not in groups]
    found += [f"file {path}" for path in root.rglob("*") if path != root / "@sandboxes"]
    return found


def kill_children(before: Host) -> None:
    """After a failed test, so that the next one starts clean."""
    for pid in children():
        if pid not in before.children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
