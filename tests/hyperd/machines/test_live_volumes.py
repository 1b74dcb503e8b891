"""Named volumes while pods run: from the command to the guest's file system."""

from __future__ import annotations

import json

import pytest

from .harness import Daemon, until

pytestmark = pytest.mark.vm


def test_a_volume_of_a_pod_that_runs(daemon: Daemon) -> None:
    daemon.run("p", ["sh", "-c", "trap exit TERM; while :; do sleep 0.1; done"])
    assert daemon.ctl("volume", "create", "data", "--size", "64M").returncode == 0
    try:
        done = daemon.ctl("volume", "attach", "p", "data", "/data")
        assert done.returncode == 0, done
        assert daemon.ctl("exec", "p", "sh", "-c", "echo one >/data/file").returncode == 0
        assert daemon.ctl("volume", "snapshot", "data", "copy").returncode == 0
        daemon.ctl("exec", "p", "sh", "-c", "echo two >/data/file")
        before = int(daemon.ctl("exec", "p", "stat", "-f", "-c", "%b", "/data").stdout)
        assert daemon.expect(200, "PATCH", "/volumes/data", {"size": 96 << 20})["size"] == 96 << 20
        assert int(daemon.ctl("exec", "p", "stat", "-f", "-c", "%b", "/data").stdout) > before * 1.3
        assert daemon.expect(200, "GET", "/volumes/data")["pods"] == ["p"]
        assert daemon.ask("PATCH", "/volumes/data", {"size": 1 << 20}).status == 400
        assert daemon.ask("POST", "/pods/p/volumes/data", {"path": "/data"}).status == 409
        assert daemon.ask("POST", "/pods/p/volumes/none", {"path": "/none"}).status == 404
        assert daemon.ask("DELETE", "/volumes/data").status == 409
        # Its machine grows while all of that is mounted.
        grown = daemon.ctl("update", "--memory", "512", "--memory-limit", "300m", "p")
        assert grown.returncode == 0, grown
        assert int(daemon.ctl("exec", "p", "awk", "/MemTotal/{print $2}", "/proc/meminfo").stdout) > 450 << 10
        [stats] = json.loads(daemon.ctl("stats", "--no-stream", "--format", "json", "p").stdout)
        assert (stats["memory"]["limit"] >> 20, stats["containers"][0]["memory"]["limit"] >> 20) == (512, 300)
        refused = daemon.ctl("update", "--memory", "16000g", "p")
        assert refused.returncode == 1 and b"more than the host has" in refused.stderr
        # It is one of the pod's now: the container has it when it starts again.
        assert daemon.ctl("restart", "p").returncode == 0
        until(lambda: daemon.ctl("exec", "p", "cat", "/data/file").stdout == b"two\n", "it is there again")
        daemon.expect(200, "POST", "/pods/p/volumes/copy", {"path": "/copy", "container": "c", "read_only": True})
        looked = daemon.ctl("exec", "p", "sh", "-c", "cat /copy/file; touch /copy/x")
        assert looked.stdout == b"one\n" and b"Read-only file system" in looked.stderr
        for name in ("data", "copy"):
            done = daemon.ctl("volume", "detach", "p", name)
            assert done.returncode == 0, done
        assert daemon.ctl("exec", "p", "grep", "-E", " /(data|copy) ", "/proc/mounts").stdout == b""
        assert daemon.ask("DELETE", "/pods/p/volumes/data").status == 404
    finally:
        daemon.remove_all()
        for name in ("data", "copy"):
            daemon.ask("DELETE", f"/volumes/{name}")
    assert daemon.expect(200, "GET", "/volumes") == []
