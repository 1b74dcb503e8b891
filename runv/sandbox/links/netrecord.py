"""network.json: what was done to a sandbox's network, for those who have to undo it. Imports next to nothing: ``delete`` reads it.

::

    {"namespace": "/run/netns/x", "device": 4, "inode": 4026532500,   where it is from; empty for the sandbox's own
     "holder": "1234 5678",                                           the stand-in that was started in it: pid and start time
     "links": ["eth0"],                                               what was wired; written before it is
     "lent": [["eno2", "net1", true]],                                what is the host's: its name there, its name here, whether it was up
     "made": ["net2"],                                                what was made for the sandbox
     "left": [4],                                                     indexes of links that are not to have a card: somebody took it away
     "cards": [[0, "eth0", 2, "port0"]]}                              number, link, its index, port
"""

import os

from runv.errors import StateError
from runv.files import read_text, write_atomic
from runv.processes import Identity
from runv.quick import dumps, loads
from runv.sandbox.layout import SandboxFolder

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from typing import Any

NAME = "network.json"


class NetRecord:
    """network.json; empty where nothing was done so far. The caller holds the sandbox's lock."""

    def __init__(self, sandbox: SandboxFolder) -> None:
        """:raise StateError: it cannot be read"""
        self._sandbox = sandbox
        try:
            data: dict[str, Any] = loads(read_text(sandbox.path(NAME)))
        except FileNotFoundError:
            data = {}
        except ValueError as error:
            raise StateError(f"cannot read {sandbox.path(NAME)}: {error}") from error
        self.namespace: str = data.get("namespace", "")
        self.device: int = data.get("device", 0)
        self.inode: int = data.get("inode", 0)
        self.holder: str = data.get("holder", "")
        self.links: list[str] = data.get("links", [])
        self.lent: list[list[Any]] = data.get("lent", [])
        self.made: list[str] = data.get("made", [])
        self.left: list[int] = data.get("left", [])
        self.cards: list[list[Any]] = data.get("cards", [])

    def save(self) -> None:
        """Writes it."""
        data = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        write_atomic(self._sandbox.path(NAME), dumps(data))

    def settled(self, present: list[str]) -> bool:
        """Whether each of these links has a card."""
        return set(self.links).issuperset(present)

    @property
    def outlives(self) -> bool:
        """Whether there is something to undo when the sandbox ends: a namespace of its own takes all that was made in it along."""
        return bool(self.namespace or self.lent)

    def find_namespace(self) -> str:
        """Where the namespace can be entered now; empty when it is gone."""
        pid, _, start = self.holder.partition(" ")
        holders = [self._sandbox.process("qemu.pid"), Identity(int(pid), int(start)) if start else None]
        for process in holders:
            if process is not None and process.alive():
                return f"/proc/{process.pid}/ns/net"
        return self.namespace if self.namespace and self._is_still(self.namespace) else ""

    def _is_still(self, path: str) -> bool:
        try:
            status = os.stat(path)
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == (self.device, self.inode)
