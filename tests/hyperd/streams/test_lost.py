"""What a slow client did not get is passed on as a frame of control, before what came after it."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

from hyperd.pods.monitors import _Attached
from hyperd.streams import monitor
from hyperd.streams.records import Chunk


def test_lost_bytes_are_told_before_what_follows() -> None:
    async def work() -> list[tuple[int, bytes]]:
        async def chunks() -> Any:
            yield Chunk("stdout", b"a")
            yield Chunk("stdout", b"", lost=70000)
            yield Chunk("stderr", b"b", lost=5)

        attached = _Attached(cast(monitor.Attachment, chunks()))
        found = []
        while (frame := await attached.read()) is not None:
            found.append(frame)
        return found

    frames = [(number, json.loads(data) if number == 3 else data) for number, data in asyncio.run(work())]
    lost = [{"lost": {"stream": "stdout", "bytes": 70000}}, {"lost": {"stream": "stderr", "bytes": 5}}]
    assert frames == [(1, b"a"), (3, lost[0]), (3, lost[1]), (2, b"b")]
