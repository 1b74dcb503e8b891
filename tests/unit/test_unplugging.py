"""Disks that come and go, against a QEMU whose guest has no system."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from runv.vm import disks, qmp
from runv.vm.machine import Disk

if TYPE_CHECKING:
    from qemu.qmp import QMPClient

COUNT = 20


@pytest.fixture
def monitor(tmp_path: Path) -> Iterator[str]:
    path = str(tmp_path / "qmp")
    command = ["qemu-system-x86_64", "-accel", "tcg", "-M", "q35", "-m", "16", "-nodefaults", "-display", "none", "-device", disks.PORT]
    # It goes into the background when its monitor is there.
    subprocess.run([*command, "-qmp", f"unix:{path},server=on,wait=off", "-daemonize", "-pidfile", str(tmp_path / "pid")], check=True)
    try:
        yield path
    finally:
        os.kill(int((tmp_path / "pid").read_text()), 9)


def test_many_disks_go_without_a_question_for_each(monitor: str, tmp_path: Path) -> None:
    """Also one that is being copied. Nothing is left of them, and the other stays."""
    plugged = []
    for number in range(COUNT):
        path = tmp_path / str(number)
        path.write_bytes(bytes(1 << 20))
        plugged.append(Disk(f"disk{number}", os.open(path, os.O_RDWR), "raw", False, False))
    stays, goes = plugged[0].serial, [disk.serial for disk in plugged[1:]]
    asked: Counter[str] = Counter()

    async def work(qemu: QMPClient) -> list[Any]:
        await disks.plug(qemu, plugged)
        with open(tmp_path / "copy", "x+b") as copy:
            await disks.begin_copy(qemu, goes[3], copy.fileno())
        execute = qemu.execute

        async def counted(command: str, arguments: Any = None) -> Any:
            asked[command] += 1
            return await execute(command, arguments)

        qemu.execute = counted  # type: ignore[method-assign, assignment]
        await disks.unplug(qemu, goes)
        qemu.execute = execute  # type: ignore[method-assign]
        names = [entry["name"] for entry in await qemu.execute("qom-list", {"path": "/machine/peripheral"})]  # type: ignore[attr-defined]
        nodes = [node["node-name"] for node in await qemu.execute("query-named-block-nodes", {"flat": True})]  # type: ignore[attr-defined]
        left = [name for name in (*names, *nodes) if name in goes or name.startswith("to-")]
        assert stays in names and stays in nodes
        return [left, sorted(await disks._fdsets(qemu))]

    try:
        left, sets = qmp.session(monitor, "unplug disks", work)
    finally:
        for disk in plugged:
            os.close(disk.fd)
    assert (left, sets) == ([], [stays])
    assert asked["device_del"] == COUNT - 1
    assert sum(number for command, number in asked.items() if command.startswith(("query-", "qom-"))) < COUNT
