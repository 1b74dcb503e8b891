"""A machine that waited becomes a pod like any other."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runv.settings import load
from runv.vm import choice
from tests.vm.harness import own_templates, runv_program

from .harness import Daemon, running, until

OWN = Path(runv_program()).resolve().parents[1] / "libexec/runv/qemu-system-x86_64"

pytestmark = pytest.mark.vm


def waits(daemon: Daemon) -> bool:
    return bool(daemon.expect(200, "GET", "/info")["ready_machines"])


def infras(daemon: Daemon) -> list[str]:
    """Whose machines there are."""
    return [name for sandbox in daemon.sandboxes() for name in (entry.name for entry in (sandbox / "members").iterdir())]


def test_a_machine_that_waited(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = Path(tmp_path_factory.mktemp("hd"))
    with own_templates(), running(folder, ready_machines=1) as daemon:
        until(lambda: waits(daemon), "a machine waits")
        [ready] = infras(daemon)
        if OWN.exists() and choice.accelerator(load()).value == "tcg":
            assert list(Path(os.environ["RUNV_TEMPLATE_FOLDER"]).glob("translations-pods-*"))  # the first one has recorded them
            assert any(b"translations-pods-" in word for word in Path(f"/proc/{daemon.qemu(ready)}/cmdline").read_bytes().split(b"\0"))
        peer = daemon.run("peer", ["sleep", "1000"])
        assert peer == ready
        until(lambda: waits(daemon), "another one waits")
        script = "hostname; cat /proc/1/comm; ping -c1 -W5 peer >/dev/null && echo reached; ls /sys/class/net"
        done = daemon.ctl("run", "--name", "named", "busybox", "sh", "-c", script)
        assert done.stdout == b"named\nsh\nreached\neth0\nlo\n", done
        daemon.kill()  # what it kept ready is nobody's then
        daemon.start()
        assert daemon.state("peer") == "running"
        assert daemon.ctl("exec", "peer", "hostname").stdout == b"peer\n"
        daemon.remove_all()
        until(lambda: waits(daemon), "one waits again")
        daemon.kill(15)
        assert not daemon.processes() and not daemon.sandboxes()
        daemon.start()
