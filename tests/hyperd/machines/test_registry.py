"""An image's whole way: from a registry into a machine, changed there, committed, pushed, and read back by others and by a machine."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.hyperd.images.registries import docker_registry

from .harness import Daemon

pytestmark = pytest.mark.vm

CHANGE = "echo changed >/word; rm /etc/profile; rm -r /var/www; mkdir /var/www; ln /bin/busybox /bin/second; echo ready; sleep 1000"
SHOW = "cat /word; ls /var/www; ls /etc/profile 2>/dev/null || echo gone; stat -c %h /bin/second"


def test_pull_run_commit_push(daemon: Daemon, tmp_path: Path) -> None:
    def inside(*words: str) -> list[str]:
        return ["nsenter", f"--net=/proc/{daemon._holder.pid}/ns/net", *words]

    def ctl(*words: str) -> bytes:
        done = daemon.ctl(*words)
        assert done.returncode == 0, done
        return done.stdout

    with docker_registry(tmp_path / "registry", command=inside) as host:
        source = f"docker-archive:{daemon.folder / 'busybox.tar'}"
        subprocess.run(
            inside("skopeo", "copy", "-q", "--dest-tls-verify=false", source, f"docker://{host}/base:1"), check=True
        )
        pod = ctl("run", "-d", "--name", "changing", f"{host}/base:1", "sh", "-c", CHANGE).decode().strip()
        assert daemon.expect(200, "GET", f"/pods/{pod}")["containers"][0]["image"] == f"{host}/base:1"
        ctl("exec", "changing", "sh", "-c", "until [ -e /bin/second ]; do sleep 0.1; done")
        ctl("commit", "changing", f"{host}/made:2", "-m", "by hand")
        ctl("push", f"{host}/made:2")
        ctl("rmi", f"{host}/made:2")

        read = subprocess.run(
            inside("skopeo", "inspect", "--tls-verify=false", "--config", f"docker://{host}/made:2"),
            check=True,
            capture_output=True,
        )
        assert json.loads(read.stdout)["history"][-1]["comment"] == "by hand"
        ctl("rm", "-f", "changing")
        shown = ctl("run", "--name", "again", f"{host}/made:2", "sh", "-c", SHOW)
        assert shown.split() == [b"changed", b"gone", b"2"]
        used = daemon.ctl("rmi", f"{host}/made:2")
        assert used.returncode != 0 and b"is in use" in used.stderr
        ctl("rm", "-f", "again")
        ctl("rmi", f"{host}/base:1", f"{host}/made:2")
