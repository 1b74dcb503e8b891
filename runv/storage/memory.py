"""Memory that containers of a pod share: a tmpfs of the guest's, which lives as long as the machine.

Engines mount a tmpfs on the host and bind it to /dev/shm of the containers that share it. A file of the host's would do for reading and writing, but
what is mapped and shared is to be one page of memory, and to count as its container's. Who writes bundles for runv says it by name instead.
"""

import os

from runv.quick import NamedTuple
from runv.storage.words import SHARED, SUBPATH, value_of

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from runv.spec.config import Mount

_DESTINATION = "/dev/shm"
_GUEST_FOLDER = "/run/runv/shm"
_NAMED_FOLDER = "/run/runv/tmpfs"
_NAME_MAX = 200
# What Docker, Podman, containerd and CRI-O all call the file system; the host's own /dev/shm is called otherwise.
_DEVICE = "shm"


class SharedMemory(NamedTuple):
    """A tmpfs of the guest's: where, and with which options. The same ``target`` is the same memory, and the first who names it says the options."""

    target: str
    options: tuple[str, ...]


class NamedMemory(NamedTuple):
    """``options``: those of the bind mount that it becomes."""

    memory: SharedMemory
    options: list[str]


def named_memory(mount: "Mount") -> NamedMemory | None:
    """The memory that a tmpfs with a name stands for; None when it is the container's alone. Pure."""
    name = value_of(mount, SHARED)
    if not name or mount.is_bind:
        return None
    words = [word for word in mount.options or [] if not word.startswith(f"{SHARED}=")]
    data = [word for word in words if "=" in word and not word.startswith(f"{SUBPATH}=")]
    if not any(word.startswith("mode=") for word in data):
        data.insert(0, "mode=1777")
    return NamedMemory(SharedMemory(f"{_NAMED_FOLDER}/{name}", tuple(data)), ["rbind", *(word for word in words if word not in data)])


def shared_memory(destination: str, source: str) -> SharedMemory | None:
    """The memory that a bind mount of ``source`` stands for; None when it is a folder like any other. ``source`` is absolute and without links."""
    if os.path.normpath(destination) != _DESTINATION:
        return None
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        if not is_shared_memory(file.read(), source):
            return None
    size = os.statvfs(source)
    name = source.strip("/").replace("/", "+")[-_NAME_MAX:]
    return SharedMemory(f"{_GUEST_FOLDER}/{name}", ("mode=1777", f"size={size.f_blocks * size.f_frsize}"))


def is_shared_memory(mountinfo: str, path: str) -> bool:
    """Whether what is mounted last at ``path`` is a tmpfs that an engine made to be shared. Pure."""
    found = False
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        if before.split(" ")[4] == path:
            found = after.split(" ")[:2] == ["tmpfs", _DEVICE]
    return found


def share_of(memory: SharedMemory) -> "dict[str, object]":
    """What the agent's ``setup`` is to mount."""
    return {"type": "tmpfs", "tag": _DEVICE, "target": memory.target, "options": list(memory.options)}
