"""What every pod works with."""

import asyncio
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from hyperd.config import Config
from hyperd.pods.bus import Bus
from hyperd.pods.ports import Monitors, Networks, Preparer, Runtime
from hyperd.store import Store


@dataclass
class Tools:
    """The neighbours, and how many machines and containers are made at once: more would only make each wait longer."""

    config: Config
    store: Store
    runtime: Runtime
    monitors: Monitors
    networks: Networks
    preparer: Preparer
    bus: Bus
    creating: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self.creating = asyncio.Semaphore(self.config.create_parallel)

    def folder(self, pod: str, process: str) -> Path:
        """Where the monitor of a container or further process works."""
        return self.config.pod_state(pod) / process

    def log(self, pod: str, container: str) -> Path:
        """A container's log: it outlives its restarts."""
        return self.config.pod_root(pod) / container / "log"


def new_id() -> str:
    """16 hexadecimal digits: of pods, containers and processes."""
    return os.urandom(8).hex()


def now() -> float:
    """Seconds since the epoch: what is recorded must be told across restarts of host and daemon."""
    return time.time()
