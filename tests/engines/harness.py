"""What the tests of every engine share: network namespaces, private daemons, an image, and what may be left behind."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar

from tests.rootfs import make_rootfs
from tests.vm.harness import (
    DEADLINE_S,
    Host,
    kill_children,
    wait_until,
)

IMAGE = "localhost/busybox"
# As the engine sees it, and the outside sees the engine (RFC 5737 keeps these for documentation).
OUTSIDE_ADDRESS = "192.0.2.1"
ENGINE_ADDRESS = "192.0.2.2"

_T = TypeVar("_T")
_CLONE_NEWNET = 0x40000000
_CGROUPS = Path("/sys/fs/cgroup")
_STOP_TIMEOUT_S = 60.0
_LOG_CHARS = 6000


def program(name: str) -> str:
    """A program of Debian's, not another of the same name that comes first in PATH."""
    found = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")
    if found is None:
        raise RuntimeError(f"{name} is not installed: `tools/setup.sh test` installs it")
    return found


def environ() -> dict[str, str]:
    """For daemons: Debian's programs first, then what the tests run with."""
    return {**os.environ, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin:" + os.environ.get("PATH", "")}


class Netns:
    """A network namespace, held by a process and by nothing else, so that it cannot outlive the tests."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo; exec cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._holder.stdout is not None
        self._holder.stdout.readline()  # by then it is in its namespace
        self.run("ip", "link", "set", "lo", "up")

    @property
    def pid(self) -> int:
        return self._holder.pid

    @property
    def path(self) -> str:
        return f"/proc/{self.pid}/ns/net"

    def command(self, *args: str) -> list[str]:
        """``args`` in the namespace, and in nothing else: /sys stays as it is."""
        return ["nsenter", f"--net={self.path}", *args]

    def run(self, *args: str, check: bool = True, deadline_s: float = DEADLINE_S) -> str:
        done = subprocess.run(
            self.command(*args), check=check, capture_output=True, text=True, timeout=deadline_s, env=environ()
        )
        return done.stdout

    def call(self, function: Callable[[], _T]) -> _T:
        """Calls ``function`` in the namespace. A socket that it makes stays there."""
        results: list[_T] = []
        errors: list[BaseException] = []

        def enter() -> None:
            try:
                with open(self.path) as file:
                    libc = ctypes.CDLL(None, use_errno=True)
                    if libc.setns(file.fileno(), _CLONE_NEWNET) != 0:
                        raise OSError(ctypes.get_errno(), "setns")
                results.append(function())
            except BaseException as error:  # handed to the caller, whichever it is
                errors.append(error)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return results[0]

    def links(self) -> set[str]:
        return {line.split(": ")[1].split("@")[0] for line in self.run("ip", "-o", "link").splitlines()}

    def fetch(self, address: str, port: int, send: bytes = b"", timeout_s: float = 10.0) -> bytes:
        """What a server says to a client in this namespace, until it closes."""

        def talk() -> bytes:
            with socket.create_connection((address, port), timeout_s) as link:
                link.sendall(send)
                link.shutdown(socket.SHUT_WR)
                return _receive_all(link)

        return self.call(talk)

    def close(self) -> None:
        assert self._holder.stdin is not None and self._holder.stdout is not None
        self._holder.stdin.close()
        self._holder.wait(DEADLINE_S)
        self._holder.stdout.close()


def _receive_all(link: socket.socket) -> bytes:
    return b"".join(iter(lambda: link.recv(65536), b""))


@contextlib.contextmanager
def connected() -> Iterator[tuple[Netns, Netns]]:
    """A namespace for an engine, and the outside world: another one at the end of its default route."""
    engine = Netns()
    try:
        outside = Netns()
        try:
            engine.run(
                "ip", "link", "add", "uplink", "type", "veth", "peer", "name", "world", "netns", str(outside.pid)
            )
            for namespace, link, address in ((engine, "uplink", ENGINE_ADDRESS), (outside, "world", OUTSIDE_ADDRESS)):
                namespace.run("ip", "address", "add", f"{address}/24", "dev", link)
                namespace.run("ip", "link", "set", link, "up")
            engine.run("ip", "route", "add", "default", "via", OUTSIDE_ADDRESS)
            yield engine, outside
        finally:
            outside.close()
    finally:
        engine.close()


@contextlib.contextmanager
def server(namespace: Netns, answer: Callable[[str, bytes], bytes], port: int = 0) -> Iterator[int]:
    """A TCP server: gives each client ``answer(its address, what it sent)``, once it has sent all. Yields the port."""
    listener = namespace.call(lambda: socket.create_server(("0.0.0.0", port)))

    def serve() -> None:
        while True:
            try:
                link, (address, _) = listener.accept()
            except OSError:
                return  # shut down
            with link, contextlib.suppress(OSError):
                link.settimeout(DEADLINE_S)
                link.sendall(answer(address, _receive_all(link)))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(DEADLINE_S)
        listener.close()


class Daemon:
    """A daemon of an engine's with its log; ``ready`` says whether it answers."""

    def __init__(self, command: list[str], log: Path, ready: Callable[[], bool], env: Mapping[str, str]) -> None:
        self.log = log
        self._file: IO[bytes] = log.open("ab")
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self._file, stderr=self._file, env=dict(env), cwd="/"
        )
        try:
            wait_until(lambda: self._ended() or ready(), f"{command[0]} to answer", DEADLINE_S)
        except TimeoutError as error:
            self.stop()
            raise RuntimeError(f"{error}; its log: {self.tail()}") from None

    def _ended(self) -> bool:
        if self.process.poll() is not None:
            self._file.close()
            raise RuntimeError(f"{self.process.args!r} ended: {self.tail()}")
        return False

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-_LOG_CHARS:]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Ends it, politely at first."""
        if self.process.poll() is None:
            self.process.send_signal(number)
            try:
                self.process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._file.close()


def answers(path: Path) -> bool:
    """Whether somebody listens on a unix socket."""
    with socket.socket(socket.AF_UNIX) as link:
        try:
            link.connect(str(path))
        except OSError:
            return False
        return True


_CONTAINERD_CONFIG = """
version = 2
root = "{folder}/containerd/root"
state = "{folder}/containerd/state"
disabled_plugins = [{disabled}]
[grpc]
  address = "{folder}/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/containerd/opt"
{more}
"""
_CRI = '"io.containerd.grpc.v1.cri"'


def start_containerd(folder: Path, namespace: Netns, *, cri: bool = False, more: str = "") -> Daemon:
    """A containerd with everything below ``folder``; its socket is ``folder/containerd.sock``.

    :param more: TOML to add to its configuration
    """
    config = folder / "containerd.toml"
    config.write_text(_CONTAINERD_CONFIG.format(folder=folder, disabled="" if cri else _CRI, more=more))
    return Daemon(
        namespace.command(program("containerd"), "--config", str(config), "--log-level", "warn"),
        folder / "containerd.log",
        lambda: answers(folder / "containerd.sock"),
        environ(),
    )


def image_tar() -> bytes:
    """The files of an image: busybox, with a user ``alice`` (1000), and a folder she owns in /home."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "rootfs")
        make_rootfs(root)
        (root / "mnt").mkdir()
        packed = io.BytesIO()

        def owned(member: tarfile.TarInfo) -> tarfile.TarInfo:
            member.uid = member.gid = 1000 if member.name.startswith("./home/alice") else 0
            member.uname = member.gname = ""
            return member

        with tarfile.open(fileobj=packed, mode="w") as archive:
            archive.add(root, ".", filter=owned)
        return packed.getvalue()


def cgroups_below(parent: str) -> list[Path]:
    """Cgroups of containers: those below ``parent`` in any hierarchy."""
    found = []
    for hierarchy in [_CGROUPS, *(path for path in _CGROUPS.iterdir() if path.is_dir())]:
        for folder, names, _ in os.walk(hierarchy / parent):
            found += [Path(folder, name) for name in names]
    return found


def remove_cgroup(parent: str) -> None:
    """Removes the parent of all containers, which engines leave, and what they leave in it."""
    for folder in reversed(cgroups_below(parent)):
        with contextlib.suppress(FileNotFoundError):
            folder.rmdir()
    for hierarchy in [_CGROUPS, *(path for path in _CGROUPS.iterdir() if path.is_dir())]:
        with contextlib.suppress(FileNotFoundError):
            (hierarchy / parent).rmdir()


@dataclass(frozen=True)
class Before:
    """The machine before a test: what is there afterwards and was not then was left behind."""

    host: Host
    links: frozenset[str]
    groups: frozenset[Path]
    namespace: Netns
    cgroup_parent: str
    folder: Path
    daemons: Callable[[], set[int]]

    @classmethod
    def now(cls, namespace: Netns, cgroup_parent: str, folder: Path, daemons: Callable[[], set[int]]) -> Before:
        """:param folder: where the engine and its runtimes keep everything
        :param daemons: the pids of the engine's daemons, which may be others by the time they are looked for
        """
        groups = frozenset(cgroups_below(cgroup_parent))
        return cls(Host.now(), frozenset(namespace.links()), groups, namespace, cgroup_parent, folder, daemons)

    def left(self) -> list[str]:
        """What was left, in words."""
        after = Host.now()
        known = {*self.host.children, *self.daemons()}
        found = [f"process {pid}: {line}" for pid, line in after.children.items() if pid not in known]
        found += [f"mount {path}" for path in after.mounts - self.host.mounts if path.startswith(str(self.folder))]
        found += [f"network link {name} of the engine" for name in self.namespace.links() - self.links]
        found += [f"cgroup {path}" for path in cgroups_below(self.cgroup_parent) if path not in self.groups]
        return found

    def settle(self, *, ignored: str = "", deadline_s: float = 10.0) -> list[str]:
        """What is left once engines and kernel had time to tidy up, but for ``ignored``."""
        end = time.monotonic() + deadline_s
        while left := [one for one in self.left() if one != ignored]:
            if time.monotonic() > end:
                break
            time.sleep(0.05)
        return left

    def clear(self) -> None:
        """Kills what is left, so that the next test starts clean."""
        kill_children(self.host)


def machines(cgroup_parent: str) -> set[int]:
    """The machines that run in cgroups below ``cgroup_parent``."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                in_group = f"/{cgroup_parent}/" in (entry / "cgroup").read_text()
                if in_group and b"qemu-system" in (entry / "cmdline").read_bytes().split(b"\0")[0]:
                    found.add(int(entry.name))
    return found
