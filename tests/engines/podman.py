"""A Podman of one's own: storage, networks and state below one folder, in a network namespace, with runv as its runtime."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.vm.harness import DEADLINE_S, Done, runv_program

from .cli import Cli
from .harness import IMAGE, Netns, environ, image_tar, program

# netavark keeps its locks and leases where it is told, and so does aardvark-dns.
_CONFIG = """
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runv"
lock_type = "file"
tmp_dir = "{folder}/tmp"
infra_image = ""
[engine.runtimes]
runv = ["{folder}/runv"]
[network]
network_backend = "netavark"
network_config_dir = "{folder}/networks"
"""
_STORAGE = """
[storage]
driver = "overlay"
graphroot = "{folder}/root"
runroot = "{folder}/run"
"""
# Podman gives runtimes no --root of its own, nor flags in every one of its calls.
_RUNTIME = """#!/bin/sh
exec {runv} --root {folder}/runtime "$@"
"""


class Podman(Cli):
    """``podman`` with a configuration of its own, and runv as the only runtime."""

    def __init__(self, folder: Path, namespace: Netns) -> None:
        self.folder = folder
        self.namespace = namespace
        self.cgroup_parent = f"rvt-podman-{os.getpid()}"

    def start(self) -> None:
        """Writes the configuration, and imports the image."""
        for name, text in (("containers.conf", _CONFIG), ("storage.conf", _STORAGE), ("runv", _RUNTIME)):
            (self.folder / name).write_text(text.format(folder=self.folder, runv=runv_program()))
        (self.folder / "runv").chmod(0o755)
        tar = self.folder / "image.tar"
        tar.write_bytes(image_tar())
        self("import", "--change", 'CMD ["sh"]', str(tar), IMAGE)
        self.run(IMAGE, "true").ok()  # so that the cgroup of all the conmons is there, which stays

    def stop(self) -> None:
        """Takes the storage down, and what Podman leaves mounted of it."""
        self.try_("system", "reset", "--force")
        for mount in ("root/overlay", "root"):
            subprocess.run(["umount", "--quiet", str(self.folder / mount)], check=False)

    def command(self, *args: str) -> list[str]:
        # conmon writes a file into the working directory when memory runs out.
        return self.namespace.command("env", f"--chdir={self.folder}", program("podman"), *args)

    def env(self) -> dict[str, str]:
        return {
            **environ(),
            "CONTAINERS_CONF": str(self.folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf"),
        }

    def run_flags(self) -> tuple[str, ...]:
        return ("--pull", "never", "--cgroup-parent", f"/{self.cgroup_parent}")

    def pod(self, name: str, *flags: str) -> str:
        """Creates a pod; returns its id."""
        made = self("pod", "create", "--name", name, "--cgroup-parent", f"/{self.cgroup_parent}", *flags)
        return made.out.strip()

    def in_pod(self, pod: str, *args: str) -> str:
        """``run -d --pod``; a pod's containers sit in its cgroup. Returns the container's id."""
        return self("run", "-d", "--pull", "never", "--pod", pod, *args).out.strip()

    def build(self, folder: Path, *flags: str, **more: Any) -> Done:
        return self.try_(
            "build", "--pull=never", "--cgroup-parent", f"/{self.cgroup_parent}", *flags, str(folder), **more
        )

    def daemons(self) -> set[int]:
        return set()

    def runtime_state(self) -> list[str]:
        """What the runtime keeps of containers."""
        return [str(path) for path in (self.folder / "runtime").rglob("*") if path.name != "@sandboxes"]

    def remove_everything(self) -> None:
        """Pods, containers, networks and volumes of a test that failed, or was content to leave them to us."""
        for pod in json.loads(self("pod", "ls", "--format", "json").out):
            self.try_("pod", "rm", "--force", "--time", "0", pod["Id"], deadline_s=2 * DEADLINE_S)
        self.try_("rm", "--all", "--force", "--volumes", "--time", "0", deadline_s=2 * DEADLINE_S)
        self.try_("network", "prune", "--force")
        self.try_("volume", "prune", "--force")
