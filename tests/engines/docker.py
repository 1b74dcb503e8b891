"""A Docker of one's own: containerd and dockerd below one folder, in a network namespace, with runv and runc as its runtimes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

from tests.vm.harness import DEADLINE_S, runv_program

from .cli import Cli
from .harness import IMAGE, Daemon, Netns, environ, image_tar, program, start_containerd


class Docker(Cli):
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
