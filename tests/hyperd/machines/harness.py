"""A real daemon with real machines, in folders and in a network namespace of its own."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.vm.harness import SLOW

# A deadline for what takes a second or two where nobody else wants the processor.
WAIT_S = 120 * SLOW
IMAGE_TOOL = Path(__file__).parents[3] / "tools/busybox_image.py"
COUNT = ["sh", "-c", "i=0; while :; do echo $i; i=$((i+1)); sleep 0.05; done"]


class Answer(NamedTuple):
    status: int
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.splitlines()]


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("hyperd", timeout=WAIT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(WAIT_S)
        self.sock.connect(self._path)


class Daemon:
    """``start`` and ``kill`` it as often as you like: namespace, pods and folders stay."""

    def __init__(self, folder: Path, ready_machines: int = 0) -> None:
        self.folder = folder
        self.socket = str(folder / "s")
        self._process: subprocess.Popen[bytes] | None = None
        self._holder = subprocess.Popen(
            ["unshare", "-n", "sh", "-c", "ip link set lo up && echo up && exec sleep infinity"], stdout=subprocess.PIPE
        )
        assert self._holder.stdout is not None and self._holder.stdout.readline() == b"up\n"
        (folder / "c.toml").write_text(
            f"""
            root = "{folder}/root"
            state = "{folder}/run"
            runv = "{shutil.which("runv")}"
            ready_machines = {ready_machines}
            restart = {{base_s = 0.2, limit_s = 1.0}}
            api = {{socket = "{self.socket}"}}
            network = {{instance = "t{os.getpid()}"}}
            """
        )

    def start(self, *options: str) -> None:
        """Returns when it answers."""
        program = shutil.which("hyperd")
        assert program is not None, "hyperd is not in PATH"
        inside = ["nsenter", f"--net=/proc/{self._holder.pid}/ns/net", program, "--config", str(self.folder / "c.toml")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen([*inside, *options], stdout=log, stderr=log)
        until(lambda: self._answers() or self._process is None or self._process.poll() is not None, "the daemon answers")
        assert self._process.poll() is None, (self.folder / "log").read_text()[-3000:]

    def _answers(self) -> bool:
        try:
            return self.ask("GET", "/ping").status == 200
        except OSError:
            return False

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self, number: int = signal.SIGKILL) -> int:
        """Returns when it has ended."""
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(WAIT_S)

    def ask(self, method: str, path: str, body: Any = None) -> Answer:
        connection = _Connection(self.socket)
        try:
            data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
            connection.request(method, "/v1" + path, data)
            response = connection.getresponse()
            return Answer(response.status, response.read())
        finally:
            connection.close()

    def expect(self, status: int, method: str, path: str, body: Any = None) -> Any:
        answer = self.ask(method, path, body)
        assert answer.status == status, answer
        return answer.json if answer.body else None

    def ctl(self, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        program = shutil.which("hyperctl")
        assert program is not None, "hyperctl is not in PATH"
        return subprocess.run(
            [program, "-H", f"unix://{self.socket}", *words], input=stdin, capture_output=True, timeout=2 * WAIT_S, check=False
        )

    def load_busybox(self) -> None:
        archive = self.folder / "busybox.tar"
        subprocess.run([sys.executable, str(IMAGE_TOOL), str(archive)], check=True)
        assert "images" in self.ask("POST", "/images/load", archive.read_bytes()).lines[-1]

    def run(self, name: str, args: list[str], **fields: Any) -> str:
        """Starts a pod of one container; its id."""
        container = {"name": "c", "image": "busybox", "args": args, **fields.pop("container", {})}
        pod = {"name": name, "containers": [container], **fields}
        return str(self.expect(201, "POST", "/pods?start=1", {"spec": pod})["id"])

    def state(self, name: str) -> str:
        return str(self.expect(200, "GET", f"/pods/{name}")["state"])

    def log(self, name: str) -> list[str]:
        return [line["text"].rstrip("\n") for line in self.ask("GET", f"/containers/{name}%2Fc/logs").lines]

    def remove_all(self) -> None:
        for pod in self.expect(200, "GET", "/pods?all=1"):
            self.expect(204, "DELETE", f"/pods/{pod['id']}?force=1")

    def processes(self) -> dict[int, str]:
        """What runs of this daemon's, itself apart."""
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal() and int(entry.name) not in (os.getpid(), self._process.pid if self._process else 0):
                with contextlib.suppress(OSError):
                    words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    if str(self.folder) in words and "pytest" not in words:
                        found[int(entry.name)] = words
        return found

    def left(self) -> list[str]:
        """What is there that no recorded pod or container owns, as a person would look for it."""
        pods = self.expect(200, "GET", "/pods?all=1")
        ids = {pod["id"] for pod in pods} | {one["id"] for pod in pods for one in pod["containers"]}
        found = []
        for folder in ("run/runv", "run/pods", "root/pods", "run/netns"):
            names = os.listdir(self.folder / folder) if (self.folder / folder).is_dir() else []
            found += [f"{folder}/{name}" for name in names if not name.startswith("@") and name not in ids]
        for sandbox in self.sandboxes():
            members = os.listdir(sandbox / "members") if (sandbox / "members").is_dir() else []
            found += [f"sandbox {sandbox.name}: {members}"] if not ids.intersection(members) else []
        return found

    def sandboxes(self) -> list[Path]:
        folder = self.folder / "run/runv/@sandboxes"
        return sorted(folder.iterdir()) if folder.is_dir() else []

    def qemu(self, pod: str) -> int:
        """The process that is a pod's machine."""
        [sandbox] = [one for one in self.sandboxes() if (one / "members" / pod).exists()]
        return int((sandbox / "qemu.pid").read_text().split()[0])

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill(signal.SIGTERM)
        self._holder.kill()
        self._holder.wait()
        assert self._holder.stdout is not None
        self._holder.stdout.close()


def until(condition: Callable[[], Any], what: str, seconds: float = WAIT_S) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"in vain waited until {what}"
        time.sleep(0.02)


@contextlib.contextmanager
def running(folder: Path, ready_machines: int = 0) -> Iterator[Daemon]:
    """With the image busybox; after it nothing of its may be left."""
    daemon = Daemon(folder, ready_machines)
    try:
        daemon.start()
        daemon.load_busybox()
        yield daemon
        daemon.remove_all()
        if ready_machines:  # it may have made another one by now, which goes with it
            daemon.kill(signal.SIGTERM)
        until(lambda: not daemon.processes() and not (daemon.sandboxes() if ready_machines else daemon.left()), "nothing is left", 10 * SLOW)
    except BaseException:
        sys.stderr.write((folder / "log").read_text()[-6000:])
        with contextlib.suppress(Exception):
            daemon.remove_all()
        raise
    finally:
        daemon.close()
