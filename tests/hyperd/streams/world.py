"""Folders with monitors in them, and a script in runv's place."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from hyperd.streams import monitor
from hyperd.streams.monitor import Attachment
from hyperd.streams.records import Created, LogSettings
from tests.guest_build import guest_build
from tests.host_c.monitor import RUNTIME, RUNTIME_TERMINAL

DEADLINE_S = 30.0
PROGRAM = guest_build("plain") / "runv-monitor"
T = TypeVar("T")

# It is called as runv is: RUNTIME exec --pid-file FILE [--detach] [--console-socket S] PROGRAM...
SCRIPT = f"""#!{sys.executable} -ISc
import sys
args = sys.argv[2:]
files = []
while args[0].startswith("--"):
    option = args.pop(0)
    if option != "--detach":
        files.append(args.pop(0))
sys.argv[1:] = files + args
exec({RUNTIME!r} if len(files) == 1 else {RUNTIME_TERMINAL!r})
"""


def run(work: Coroutine[Any, Any, T]) -> T:
    async def limited() -> T:
        async with asyncio.timeout(DEADLINE_S):
            return await work

    return asyncio.run(limited())


class World:
    """Monitors by name. All their processes are killed at the end."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.runtime = root / "runtime"
        # The kernel passes one argument only to an interpreter.
        (root / "runtime.py").write_text(SCRIPT.partition("\n")[2])
        self.runtime.write_text(f'#!/bin/sh\nexec {sys.executable} -IS {root}/runtime.py "$@"\n')
        self.runtime.chmod(0o755)
        self.folders: list[Path] = []

    def folder(self, name: str = "one") -> Path:
        path = self.root / name
        path.mkdir(exist_ok=True)
        self.folders.append(path)
        return path

    def log(self, name: str = "one", **more: Any) -> LogSettings:
        return LogSettings("json-file", self.root / f"{name}.log", **more)

    async def start(self, *process: str, name: str = "one", **more: Any) -> tuple[Path, Created]:
        folder = self.folder(name)
        command = [str(self.runtime), "exec", *process]
        return folder, await monitor.create(folder, command, program=PROGRAM, **more)

    def close(self) -> None:
        for folder in self.folders:
            with contextlib.suppress(OSError, ValueError):
                os.kill(int((folder / "pid").read_text()), signal.SIGKILL)
            asyncio.run(monitor.end(folder))


async def collect(attachment: Attachment) -> dict[str, bytearray]:
    """All it says to its end."""
    said = {"stdout": bytearray(), "stderr": bytearray()}
    async for chunk in attachment:
        assert chunk.lost == 0
        said[chunk.stream] += chunk.data
    return said


def shell(text: str) -> tuple[str, str, str]:
    return "sh", "-c", text
