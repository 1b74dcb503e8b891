"""Starts the built init as PID 1 of namespaces on this machine, with the bridge in front of it."""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import select
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.rootfs import make_rootfs

from .client import Control, Json, open_stream, read_all

DEADLINE_S = 20.0

_numbers = itertools.count()
_ending: list[Guest] = []


def wait_all_gone() -> None:
    """At the end of a run; waiting after each test would double the time."""
    for guest in _ending:
        wait_until(guest.gone, f"the end of the guest in {guest.directory}")
    _ending.clear()


def wait_until(condition: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {deadline_s:g} s for {what}")
        time.sleep(0.005)


def began(pid: int) -> str:
    """When a process was started, empty when there is none: on a busy machine its number is soon another one's."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def resynchronise(link: socket.socket) -> None:
    """Zeros end whatever frame the guest is in the midst of reading, and are no frame: it says HELLO, and waits for one."""
    link.settimeout(DEADLINE_S)
    link.sendall(bytes(262144 + 12))
    link.setblocking(False)
    hello = b"\x01\0\0\0runv\0\0\0\x01"
    seen = b""
    while not seen.endswith(hello):
        ready, _, _ = select.select([link], [], [], DEADLINE_S)
        assert ready, "no HELLO came"
        seen = seen[-len(hello) :] + link.recv(65536)


def cgroup2_mount() -> Path:
    for line in Path("/proc/mounts").read_text().splitlines():
        _, target, fs_type, *_ = line.split()
        if fs_type == "cgroup2":
            return Path(target)
    raise RuntimeError("no cgroup2 is mounted")


DEFAULT_MOUNTS: list[Json] = [
    {"destination": "/proc", "type": "proc", "source": "proc"},
    {
        "destination": "/dev",
        "type": "tmpfs",
        "source": "tmpfs",
        "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
    },
    {
        "destination": "/dev/pts",
        "type": "devpts",
        "source": "devpts",
        "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    },
    {
        "destination": "/dev/shm",
        "type": "tmpfs",
        "source": "shm",
        "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
    },
    {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
    {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
    {
        "destination": "/sys/fs/cgroup",
        "type": "cgroup",
        "source": "cgroup",
        "options": ["nosuid", "noexec", "nodev", "relatime", "ro"],
    },
]

DEFAULT_CAPABILITIES = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_NET_BIND_SERVICE",
]


def process_spec(*args: str, **members: Any) -> Json:
    spec: Json = {
        "args": list(args),
        "cwd": "/",
        "env": ["PATH=/usr/bin:/bin"],
        "user": {"uid": 0, "gid": 0},
        "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), DEFAULT_CAPABILITIES),
        "noNewPrivileges": True,
    }
    return spec | members


def oci_spec(
    *args: str,
    namespaces: list[Json] | None = None,
    linux: Json | None = None,
    mounts: list[Json] | None = None,
    hostname: str = "box",
    **process: Any,
) -> Json:
    """The part of a config.json that travels, much as an engine writes it."""
    if namespaces is None:
        namespaces = [{"type": name} for name in ("pid", "mount", "ipc", "uts", "cgroup", "network")]
    return {
        "root": {"path": "/run/runv/share/rootfs", "readonly": False},
        "process": process_spec(*args, **process),
        "mounts": DEFAULT_MOUNTS + (mounts or []),
        "hostname": hostname,
        "linux": {
            "namespaces": namespaces,
            "maskedPaths": ["/proc/absent", "/proc/keys", "/proc/scsi"],
            "readonlyPaths": ["/proc/bus", "/proc/sys"],
            **(linux or {}),
        },
    }


@dataclass
class Finished:
    """How a process ended, and what it said."""

    result: Json
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        return self.stdout.decode()


@dataclass
class Guest:
    init: Path
    bridge_program: Path
    directory: Path
    secret: str = field(default_factory=lambda: secrets.token_hex(32))
    pid: int = 0
    _unshare: subprocess.Popen[bytes] | None = None
    _bridge: subprocess.Popen[bytes] | None = None
    _link: socket.socket | None = None
    _control: Control | None = None
    _ended: bool = False
    _began: str = ""

    @property
    def socket_path(self) -> Path:
        return self.directory / "agent.sock"

    @property
    def share(self) -> Path:
        """What containers find as /run/runv/share."""
        return self.directory / "share"

    @property
    def rootfs(self) -> Path:
        return self.share / "rootfs"

    @property
    def log(self) -> Path:
        return self.directory / "init.log"

    @property
    def control(self) -> Control:
        """The first connection, which has claimed the agent."""
        if self._control is None:
            self._control = Control.open(self.socket_path, self.secret)
        return self._control

    def __enter__(self) -> Guest:
        self.share.mkdir(parents=True)
        make_rootfs(self.rootfs)
        self._cgroup = cgroup2_mount() / f"runv-test-{os.getpid()}-{next(_numbers)}"
        self._cgroup.mkdir()
        ours, theirs = socket.socketpair()
        self._link = ours
        with theirs:
            self._start_init(theirs)
            self._start_bridge()
        return self

    def lose_host(self) -> None:
        """All connections are lost, and another host comes, as after the restore of a machine that was saved in the midst of a frame."""
        self._end_bridge()
        self._start_bridge()

    @contextlib.contextmanager
    def bare_link(self) -> Iterator[socket.socket]:
        """The host's end of the link, where HELLO is to be said; all connections are lost. Another host comes afterwards."""
        link = self._end_bridge()
        try:
            yield link
            resynchronise(link)
        finally:
            self._start_bridge()

    def _end_bridge(self) -> socket.socket:
        assert self._bridge is not None and self._link is not None
        self._bridge.kill()
        self._bridge.wait()
        if self._control is not None:
            self._control.close()
            self._control = None
        self.socket_path.unlink()
        resynchronise(self._link)
        return self._link

    def _start_init(self, link: socket.socket) -> None:
        def enter_cgroup() -> None:
            (self._cgroup / "cgroup.procs").write_text("0")

        with self.log.open("wb") as log:
            self._unshare = subprocess.Popen(
                [
                    *(
                        "unshare",
                        "--pid",
                        "--fork",
                        "--kill-child",
                        "--mount",
                        "--ipc",
                        "--uts",
                        "--net",
                        "--cgroup",
                        "--",
                    ),
                    *(self.init, "--test-link", str(link.fileno()), "--test-share", self.share),
                ],
                pass_fds=[link.fileno()],
                preexec_fn=enter_cgroup,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={
                    "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1",
                    "UBSAN_OPTIONS": "print_stacktrace=1",
                    "PATH": os.environ["PATH"],
                },
            )
        children = Path(f"/proc/{self._unshare.pid}/task/{self._unshare.pid}/children")
        wait_until(lambda: bool(children.read_text().split()), "the start of init")
        self.pid = int(children.read_text().split()[0])
        self._began = began(self.pid)

    def _start_bridge(self) -> None:
        assert self._link is not None
        link = self._link
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(self.socket_path))
            listener.listen(128)
            self._bridge = subprocess.Popen(
                [self.bridge_program, "--link-fd", str(link.fileno()), "--listen-fd", str(listener.fileno())],
                pass_fds=[link.fileno(), listener.fileno()],
                stdin=subprocess.DEVNULL,
                env={"ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1"},
            )

    def __exit__(self, *_: object) -> None:
        expected = self._ended or self.alive
        if self._control is not None:
            self._control.close()
        if self._link is not None:
            self._link.close()
        for process in (self._unshare, self._bridge):
            if process is not None:
                process.kill()
                process.wait()
        _ending.append(self)
        text = self.log.read_text(errors="replace")
        assert expected, f"init has died:\n{text}"
        assert "Sanitizer" not in text, text
        assert "runtime error" not in text, text

    def gone(self) -> bool:
        """Whether the kernel is through with it: some kernels take a second to end a pid namespace."""
        if began(self.pid) == self._began:
            return False
        for path, _, _ in os.walk(self._cgroup, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(path)
        return not self._cgroup.exists()

    @property
    def alive(self) -> bool:
        return self._unshare is not None and self._unshare.poll() is None

    def wait_end(self) -> int:
        """Waits for an end that is meant to come; gives the status of init's parent."""
        assert self._unshare is not None
        self._ended = True
        return self._unshare.wait(DEADLINE_S)

    def assert_clean(self, fds: int) -> None:
        """Connections end a moment after the other side has closed them, so this waits."""
        for what, condition in (
            ("containers to be gone", lambda: self.control.call("sandbox")["containers"] == []),
            ("cgroups to be gone", lambda: self.cgroups() == set()),
            ("children to be gone", lambda: self.children() == []),
            ("descriptors to be closed", lambda: self.count_fds() == fds),
        ):
            # Data on the way to a host that is gone lingers in the bridge for 5 s.
            wait_until(condition, what, 15)

    def connect(self, **options: Any) -> Control:
        """One more control connection."""
        assert self.control
        return Control.open(self.socket_path, self.secret, **options)

    def stream(self, container: str, process: str, name: str) -> socket.socket:
        return open_stream(self.socket_path, self.secret, container, process, name)

    def count_fds(self) -> int:
        """But for that of the cgroup for the first container, until there is one."""
        return len(os.listdir(f"/proc/{self.pid}/fd")) - self._has_spare()

    def count_bridge_fds(self) -> int:
        assert self._bridge is not None
        return len(os.listdir(f"/proc/{self._bridge.pid}/fd"))

    def cgroups(self) -> set[str]:
        """Of containers."""
        names = {path.name for path in (self._cgroup / "runv").iterdir() if path.is_dir()}
        return names - {"~"} if self._has_spare() else names

    def _has_spare(self) -> bool:
        """It is open where it has been made and no container has it, and where one has it."""
        for fd in os.listdir(f"/proc/{self.pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                if os.readlink(f"/proc/{self.pid}/fd/{fd}").endswith("/runv/~"):
                    return not self.control.call("sandbox")["containers"]
        return False

    def children(self) -> list[int]:
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    def finish(self, container: str, process: str, stdin: bytes = b"") -> Finished:
        """Starts what was created, feeds it, and reads all it says."""
        streams = {name: self.stream(container, process, name) for name in ("stdin", "stdout", "stderr")}
        waiting = self.control.send("wait", container=container, process=process, owner=True)
        self.control.call("start", container=container, process=process)
        with streams["stdin"] as sock:
            with contextlib.suppress(OSError):  # the process may not care for it, and have ended
                sock.sendall(stdin)
                sock.shutdown(socket.SHUT_WR)
            with streams["stdout"] as out, streams["stderr"] as err:
                stdout, stderr = read_all(out), read_all(err)
        return Finished(self.control.result(waiting), stdout, stderr)

    def run(self, oci: Json, container: str = "c", stdin: bytes = b"") -> Finished:
        """The whole life of a container."""
        self.control.call("create", container=container, oci=oci)
        try:
            return self.finish(container, "init", stdin)
        finally:
            self.control.call("delete", container=container)

    def shell(self, script: str, container: str = "c", **members: Any) -> Finished:
        """A container that runs a script; its other properties are oci_spec's."""
        return self.run(oci_spec("sh", "-c", script, **members), container)

    @contextlib.contextmanager
    def running(self, *args: str, container: str = "c", **members: Any) -> Iterator[int]:
        """A container that runs meanwhile; gives its pid in the guest."""
        pid: int = self.control.call("create", container=container, oci=oci_spec(*args, **members))["pid"]
        try:
            self.control.call("start", container=container)
            yield pid
        finally:
            self.control.call("delete", container=container)

    def exec(self, container: str, *args: str, process: str = "x", stdin: bytes = b"", **members: Any) -> Finished:
        self.control.call("exec", container=container, process=process, spec=process_spec(*args, **members))
        return self.finish(container, process, stdin)
