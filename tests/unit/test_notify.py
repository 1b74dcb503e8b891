"""What a container is told of its notification socket. How its word is passed on is in tests/vm/test_relay.py."""

import os
from pathlib import Path

import pytest

from runv.sandbox import notified
from runv.state import Container
from runv.storage.plan import StoragePlan


@pytest.mark.parametrize("env", [["A=b"], ["A=b", "NOTIFY_SOCKET=/elsewhere"], None, []])
def test_the_variable(env: list[str] | None) -> None:
    process = notified.with_variable({"args": ["true"], "env": env})
    assert process["args"] == ["true"]
    assert process["env"] == [*(["A=b"] if env else []), "NOTIFY_SOCKET=/run/notify/notify.sock"]


def test_the_mount_comes_last(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    os.symlink("real", tmp_path / "link")
    proc = {"destination": "/proc", "type": "proc", "source": "proc"}
    plan = StoragePlan("/rootfs", (), {}, [proc])
    found = notified.with_socket(plan, Container(f"{tmp_path}/link", "one"))
    assert [mount["destination"] for mount in found.mounts] == ["/proc", "/run/notify/notify.sock"]
    ((index, ours),) = found.carried
    assert (index, ours.kind, ours.path) == (1, "dgram", f"{tmp_path}/real/one/notify/notify.sock")
    assert plan.mounts == [proc]


def test_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, expected in (("", False), ("/run/systemd/notify", True)):
        monkeypatch.setenv(notified.VARIABLE, value)
        assert notified.wanted() is expected
