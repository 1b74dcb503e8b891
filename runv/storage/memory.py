"""Shared memory: engines mount a tmpfs on the host and bind it to /dev/shm of the containers that share it. In a machine it has to be the guest's memory.

A file of the host's would do for reading and writing, but what is mapped and shared is to be one page of memory, and to count as its container's.
"""

import os
from typing import NamedTuple

_DESTINATION = "/dev/shm"
_GUEST_FOLDER = "/run/runv/shm"
_NAME_MAX = 200
# What Docker, Podman, containerd and CRI-O all call the file system; the host's own /dev/shm is called otherwise.
_DEVICE = "shm"


class SharedMemory(NamedTuple):
    """A tmpfs of the guest's: where, and how many bytes it may hold. The same ``target`` is the same memory."""

    target: str
    size: int


def shared_memory(destination: str, source: str) -> SharedMemory | None:
    """The memory that a bind mount of ``source`` stands for; None when it is a folder like any other. ``source`` is absolute and without links."""
    if os.path.normpath(destination) != _DESTINATION:
        return None
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        if not is_shared_memory(file.read(), source):
            return None
    size = os.statvfs(source)
    name = source.strip("/").replace("/", "+")[-_NAME_MAX:]
    return SharedMemory(f"{_GUEST_FOLDER}/{name}", size.f_blocks * size.f_frsize)


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
    return {"type": "tmpfs", "tag": _DEVICE, "target": memory.target, "options": ["mode=1777", f"size={memory.size}"]}
