"""What the API's handlers work with."""

import asyncio
from dataclasses import dataclass, field

from hyperd.config import Config
from hyperd.images import Images
from hyperd.networks import Networks
from hyperd.pods.execs import Execs
from hyperd.pods.manager import Manager
from hyperd.pods.ports import LogReader
from hyperd.pods.tools import Tools
from hyperd.volumes import Volumes


@dataclass
class Services:
    """The daemon's parts."""

    config: Config
    tools: Tools
    manager: Manager
    execs: Execs
    logs: LogReader
    images: Images
    volumes: Volumes
    networks: Networks | None
    streams: int = 0
    closing: asyncio.Event = field(default_factory=asyncio.Event)
