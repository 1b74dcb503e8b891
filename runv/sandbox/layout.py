"""One sandbox on disk, and how its agent is reached. On the path of ``start``, ``kill`` and ``delete``: imports next to nothing.

::

    ROOT/@sandboxes/<sandbox>/sandbox.json   the agent's secret and carrier
                              qemu.pid, bridge.pid, virtiofsd.pid, relay.pid
                              network.json     its cards, and what was done to its network (``runv.sandbox.links.netrecord``)
                              agent.sock, qmp.sock, fs.sock, console.log
                              members/<container>   who lives in it; the last one to leave ends the machine
                              disks/<container>     the disks it uses
                              groups.json      cgroups that those who left had made, for the last one to remove
                              paused           the machine stands still
                              shared           its guest has mounted the share
                              serials.json     in a restored machine: what its disks would be called now, by what they are called
                              waiting.json     containers of a restored machine that nobody has restored yet
                              share/           a mount point; filled only in QEMU's own mount namespace
"""

import os

from runv.errors import AgentLostError
from runv.files import read_text, write_atomic
from runv.processes import Identity, read_identity
from runv.quick import dumps, loads
from runv.state import SANDBOXES

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from typing import Any

PROCESSES = ("relay.pid", "virtiofsd.pid", "bridge.pid", "qemu.pid")


class SandboxRecord:
    """sandbox.json: what is needed to talk to a running sandbox. ``container``: the one it was made for. ``vcpus`` and ``memory_mib``: its size,
    ``machine``: what else shapes it (``runv.sandbox.machine.wanted.shape_of``), ``boot_mib``: the memory it was started with, ``vcpus_max`` and ``memory_max_mib``: what it can grow to.
    ``cloned``: it may be the clone of a template. ``keeps``: the file that its translations are to become; empty: they are not recorded."""

    __slots__ = ("boot_mib", "cid", "cloned", "container", "keeps", "machine", "memory_max_mib", "memory_mib", "secret", "transport", "vcpus", "vcpus_max")

    def __init__(
        self,
        *,
        secret: str,
        transport: str,
        cid: int,
        container: str,
        vcpus: int,
        memory_mib: int,
        cloned: bool,
        boot_mib: int = 0,
        vcpus_max: int = 0,
        memory_max_mib: int = 0,
        machine: "dict[str, Any] | None" = None,
        keeps: str = "",
    ) -> None:
        self.secret = secret
        self.transport = transport
        self.cid = cid
        self.container = container
        self.vcpus = vcpus
        self.memory_mib = memory_mib
        self.cloned = cloned
        # Records of earlier versions have none: their machines do not grow.
        self.boot_mib = boot_mib or memory_mib
        self.machine = machine or {}
        self.keeps = keeps
        self.vcpus_max = vcpus_max or vcpus
        self.memory_max_mib = memory_max_mib or memory_mib


class SandboxFolder:
    """The folder of one sandbox. Whoever changes it holds its lock (``files.locked_folder``)."""

    __slots__ = ("folder", "name")

    def __init__(self, root: str, name: str) -> None:
        self.name = name
        self.folder = os.path.join(root, SANDBOXES, name)

    def path(self, *names: str) -> str:
        """A file in the folder."""
        return os.path.join(self.folder, *names)

    def load(self) -> SandboxRecord:
        """:raise AgentLostError: the sandbox is not there, or was never complete"""
        try:
            return SandboxRecord(**loads(read_text(self.path("sandbox.json"))))
        except (OSError, ValueError, TypeError) as error:
            raise AgentLostError("the container's sandbox has ended") from error

    def save(self, record: SandboxRecord) -> None:
        """Writes sandbox.json."""
        fields = {name: getattr(record, name) for name in SandboxRecord.__slots__}
        write_atomic(self.path("sandbox.json"), dumps(fields))

    def process(self, pid_file: str) -> Identity | None:
        """One of ``PROCESSES``; None when it was never started."""
        return read_identity(self.path(pid_file))

    def alive(self) -> bool:
        """Whether the machine runs."""
        qemu = self.process("qemu.pid")
        return qemu is not None and qemu.alive()

    def paused(self) -> bool:
        """Whether the machine was told to stand still: then its agent does not answer."""
        return os.path.exists(self.path("paused"))

    def members(self) -> list[str]:
        """The containers that live in it."""
        try:
            return sorted(os.listdir(self.path("members")))
        except FileNotFoundError:
            return []


def sandboxes(root: str) -> list[SandboxFolder]:
    """Every sandbox below a state root."""
    try:
        return [SandboxFolder(root, name) for name in sorted(os.listdir(os.path.join(root, SANDBOXES)))]
    except FileNotFoundError:
        return []
