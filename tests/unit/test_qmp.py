"""What a machine's monitor is told of the old timer; tests/vm has the machines."""

import asyncio
from typing import Any, cast

import pytest
from qemu.qmp import QMPClient

from runv.vm import qmp


class _Monitor:
    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.written: list[str] = []

    async def execute(self, name: str, arguments: dict[str, Any]) -> object:
        if name == "qom-get":
            return self.kind
        assert name == "human-monitor-command"
        self.written.append(arguments["command-line"])
        return ""


# On a PC with one CPU our kernel has no other timer.
@pytest.mark.parametrize(("kind", "stopped"), [("microvm-machine", True), ("pc-q35-7.2-machine", False)])
def test_the_old_timer_is_stopped_where_nobody_needs_it(kind: str, stopped: bool) -> None:
    monitor = _Monitor(kind)
    asyncio.run(qmp._stop_old_timer(cast(QMPClient, monitor)))
    assert monitor.written == (["o /1 0x43 0x30", "o /1 0x40 0", "o /1 0x40 0"] if stopped else [])
