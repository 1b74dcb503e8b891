"""A Docker of one's own: containerd and dockerd below one folder, in a network namespace, with runv and runc as its runtimes."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import signal
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.vm.harness import DEADLINE_S, Done, Terminal, runv_program, wait_until

from .harness import IMAGE, Daemon, Netns, environ, image_tar, program, start_containerd

Json = dict[str, Any]


class Docker:
    """dockerd and the command that talks to it. runv is the default runtime; ``--runtime runc`` is the other."""

    def __init__(self, folder: Path, namespace: Netns) -> None:
        self.folder = folder
        self.namespace = namespace
        self.cgroup_parent = f"rvt-docker-{os.getpid()}"
        self._containerd: Daemon | None = None
        self._dockerd: Daemon | None = None

    @property
    def socket(self) -> Path:
        return self.folder / "docker.sock"

    def start(self) -> None:
        """Starts both daemons, and imports the image into a fresh one."""
        self._containerd = start_containerd(self.folder, self.namespace)
        self.start_dockerd()
        if not self("image", "ls", "--quiet", IMAGE).out:
            change = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
            self("import", "--change", change, "--change", 'CMD ["sh"]', "-", IMAGE, stdin=image_tar())

    def start_dockerd(self) -> None:
        self._dockerd = Daemon(
            self.namespace.command(program("dockerd"), *self._flags()),
            self.folder / "dockerd.log",
            lambda: self.try_("version").code == 0,
            environ(),
        )

    def _flags(self) -> list[str]:
        config = self.folder / "daemon.json"
        config.write_text(
            json.dumps(
                {
                    "data-root": str(self.folder / "data"),
                    "exec-root": str(self.folder / "exec"),
                    "pidfile": str(self.folder / "dockerd.pid"),
                    "hosts": [f"unix://{self.socket}"],
                    "containerd": str(self.folder / "containerd.sock"),
                    "cgroup-parent": f"/{self.cgroup_parent}",
                    "runtimes": {"runv": {"path": runv_program()}},
                    "default-runtime": "runv",
                    "live-restore": True,
                    "shutdown-timeout": 10,
                    "deprecated-key-path": str(self.folder / "key.json"),
                }
            )
        )
        return [f"--config-file={config}", "--log-level=warn"]

    def stop_dockerd(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Stops dockerd alone. With live-restore its containers go on."""
        if self._dockerd is not None:
            self._dockerd.stop(number)
            self._dockerd = None

    def stop(self) -> None:
        self.stop_dockerd()
        if self._containerd is not None:
            self._containerd.stop()
            self._containerd = None
        # Docker's own: one is for --network host, the other a dockerd that was killed could not take back.
        for path in (self.host_network, self.folder / "data"):
            subprocess.run(["umount", "--quiet", str(path)], check=False)

    @property
    def host_network(self) -> Path:
        """The mount that is the host's network to Docker."""
        return self.folder / "exec/netns/default"

    def daemons(self) -> set[int]:
        return {daemon.process.pid for daemon in (self._dockerd, self._containerd) if daemon is not None}

    def logs_of_daemons(self) -> list[tuple[str, str]]:
        return [(d.log.name, d.tail()) for d in (self._dockerd, self._containerd) if d is not None]

    def command(self, *args: str) -> list[str]:
        return [program("docker"), "--config", str(self.folder / "cli"), "-H", f"unix://{self.socket}", *args]

    def env(self) -> dict[str, str]:
        return {**environ(), "DOCKER_BUILDKIT": "0"}

    def try_(self, *args: str, stdin: bytes = b"", deadline_s: float = DEADLINE_S) -> Done:
        """A command, however it ends."""
        done = subprocess.run(
            self.command(*args), input=stdin, capture_output=True, timeout=deadline_s, env=self.env(), check=False
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def __call__(self, *args: str, stdin: bytes = b"", deadline_s: float = DEADLINE_S) -> Done:
        """A command that must succeed."""
        return self.try_(*args, stdin=stdin, deadline_s=deadline_s).ok()

    def run(self, *args: str, **more: Any) -> Done:
        """``docker run --rm`` in the foreground, however it ends."""
        return self.try_("run", "--rm", "--pull", "never", *args, **more)

    def detached(self, *args: str) -> str:
        """``docker run -d``; returns the container's id."""
        return self("run", "-d", "--pull", "never", *args).out.strip()

    def sleeping(self, *flags: str) -> str:
        """A container that waits for a signal, and ends at SIGTERM. Its program is ready for it."""
        script = "trap 'exit 0' TERM; echo ready; while :; do sleep 1000 & wait $!; done"
        name = self.detached(*flags, IMAGE, "sh", "-c", script)
        wait_until(lambda: self("logs", name).out == "ready\n", "the program")
        return name

    def exec(self, *args: str, **more: Any) -> Done:
        return self.try_("exec", *args, **more)

    def popen(self, *args: str, **more: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self.command(*args), env=self.env(), **more)

    def inspect(self, name: str) -> Json:
        found: list[Json] = json.loads(self("inspect", name).out)
        return found[0]

    def status(self, name: str) -> str:
        return str(self.inspect(name)["State"]["Status"])

    def address(self, name: str, network: str = "bridge") -> str:
        return str(self.inspect(name)["NetworkSettings"]["Networks"][network]["IPAddress"])

    def runtime_state(self) -> list[str]:
        """What the runtimes keep of containers."""
        state = [path for root in (self.folder / "exec").glob("runtime-*/moby") for path in root.rglob("*")]
        return [str(path) for path in state if path.name != "@sandboxes"]

    def remove_everything(self) -> None:
        """Containers, networks and volumes of a test that failed, or was content to leave them to us."""
        ids = self("ps", "--all", "--quiet").out.split()
        if ids:
            self.try_("rm", "--force", "--volumes", *ids, deadline_s=2 * DEADLINE_S)
        self.try_("network", "prune", "--force")
        self.try_("volume", "prune", "--force")

    @contextlib.contextmanager
    def on_terminal(self, *args: str) -> Iterator[tuple[subprocess.Popen[bytes], Terminal]]:
        """A command whose stdio is a terminal that it controls, of 24 rows and 80 columns."""
        master, slave = pty.openpty()
        terminal = Terminal(master)
        terminal.resize(24, 80)
        process = self.popen(
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
