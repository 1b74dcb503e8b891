"""The named volumes of a host, as folders.

::

    ROOT/<name>/volume.json    file system, labels, when it was made
                disk.img       the sparse file; its length is the volume's size

A volume comes into being, and goes, by the renaming of its folder: what was cut off in between begins with a dot, and is removed the next time.
"""

import asyncio
import contextlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import msgspec

from hyperd.errors import ConflictError, InvalidError, MissingError, UnavailableError
from hyperd.volumes import disks, sparse
from hyperd.volumes.disks import Kind
from runv.storage.images import is_locked

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")
_ABOUT, _DISK = "volume.json", "disk.img"
_NEW, _GONE = ".new-", ".gone-"

# Makes the second path a copy of the first, which a machine writes to: `runv volume snapshot`, say.
Copy = Callable[[str, str], Awaitable[None]]


class Volume(NamedTuple):
    """``path`` is the disk's. ``size`` is what the file system may grow to, ``used`` what the disk takes of the host, in bytes; ``created`` in seconds
    since 1970."""

    name: str
    path: str
    fstype: str
    size: int
    used: int
    created: float
    labels: dict[str, str]


class _About(msgspec.Struct, frozen=True):
    fstype: str
    created: float
    labels: dict[str, str] = {}


class Volumes:
    """Who uses a volume is for its owner to know. One process at a time may have one on a folder; its methods may run at the same time."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        """Takes over the folder ``root``, which is made, and removes what was left half-way."""
        self._root = os.fspath(root)
        os.makedirs(self._root, 0o700, exist_ok=True)
        for name in os.listdir(self._root):
            if name.startswith((_NEW, _GONE)):
                shutil.rmtree(os.path.join(self._root, name), ignore_errors=True)

    async def create(
        self, name: str, size: int, fstype: str = "ext4", labels: dict[str, str] | None = None, *, mode: int = 0o755, gid: int = 0
    ) -> Volume:
        """Makes an empty volume. ``size`` in bytes is rounded up to whole MiB. ``mode`` and ``gid``: of its root.

        :raise InvalidError: name, size or file system cannot be
        :raise ConflictError: there is one of this name
        :raise UnavailableError: no space, or mkfs fails
        """
        kind = disks.settle(Kind(fstype, size, mode, gid))

        async def fill(path: str) -> None:
            await asyncio.to_thread(disks.make, path, kind)

        return await self._make(name, _About(fstype, time.time(), dict(labels or {})), fill)

    def list(self) -> list[Volume]:
        """All of them, by name."""
        found = []
        for name in sorted(os.listdir(self._root)):
            with contextlib.suppress(MissingError):
                found.append(self.find(name))
        return found

    def find(self, name: str) -> Volume:
        """:raise MissingError: there is none of this name"""
        folder = os.path.join(self._root, name)
        try:
            if not _NAME.fullmatch(name):
                raise FileNotFoundError
            with open(os.path.join(folder, _ABOUT), "rb") as file:
                about = msgspec.json.decode(file.read(), type=_About)
            status = os.stat(os.path.join(folder, _DISK))
        except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
            raise MissingError(f"no such volume: {name}", hint=f"`hyperctl volume list` shows those that there are, `hyperctl volume create {name}` makes it") from None
        path = os.path.join(folder, _DISK)
        return Volume(name, path, about.fstype, status.st_size, status.st_blocks * 512, about.created, about.labels)

    async def remove(self, name: str) -> int:
        """Removes a volume with all that is in it; returns how many bytes of the host it took.

        :raise MissingError: there is none of this name
        :raise ConflictError: a machine writes to it
        """
        volume = self.find(name)
        _check_unused(volume)
        gone = os.path.join(self._root, f"{_GONE}{secrets.token_hex(4)}")
        try:
            os.rename(os.path.join(self._root, name), gone)
        except FileNotFoundError:
            raise MissingError(f"no such volume: {name}", hint=f"`hyperctl volume list` shows those that there are, `hyperctl volume create {name}` makes it") from None
        await asyncio.to_thread(shutil.rmtree, gone, ignore_errors=True)
        return volume.used

    def resize(self, name: str, size: int) -> Volume:
        """Lets a volume that no machine has grow to ``size`` bytes. Its file system grows when it is mounted next with the word ``x-runv.grow``. One that a
        machine has is resized there (`runv volume resize`), which comes to the same.

        :raise InvalidError: it would become smaller, or too large
        :raise MissingError: there is none of this name
        :raise ConflictError: a machine writes to it
        """
        volume = self.find(name)
        settled = disks.settle(Kind(volume.fstype, size)).size
        if settled < volume.size:
            raise InvalidError(f"volume {name} has {volume.size} bytes, and cannot become smaller")
        _check_unused(volume)
        try:
            os.truncate(volume.path, settled)
        except OSError as error:
            raise UnavailableError(f"cannot resize volume {name}: {error.strerror}") from error
        return self.find(name)

    async def snapshot(
        self, name: str, new_name: str, labels: dict[str, str] | None = None, copy: Copy | None = None
    ) -> Volume:
        """Makes a new volume with what is in one now. ``copy`` is asked for it where a machine has the volume.

        :raise MissingError: there is none of this name
        :raise ConflictError: a machine writes to it and there is no ``copy``, or there is one of the new name
        :raise UnavailableError: no space
        """
        volume = self.find(name)
        if copy is None:
            _check_unused(volume)

        async def fill(path: str) -> None:
            if copy is not None:
                await copy(volume.path, path)
            else:
                await asyncio.to_thread(sparse.copy, volume.path, path)

        about = _About(volume.fstype, time.time(), dict(volume.labels if labels is None else labels))
        return await self._make(new_name, about, fill)

    async def make_disk(
        self, path: str | os.PathLike[str], size: int, *, fstype: str = "ext4", mode: int = 0o755, gid: int = 0, empty: bool = True
    ) -> None:
        """Makes a disk that is no volume: a writable layer, an emptyDir. ``mode`` and ``gid`` are those of its root directory. ``empty``: without lost+found.

        :raise HyperError: as of ``create``
        """
        await asyncio.to_thread(disks.make, os.fspath(path), Kind(fstype, size, mode, gid, empty))

    async def _make(self, name: str, about: _About, fill: Callable[[str], Awaitable[None]]) -> Volume:
        if not _NAME.fullmatch(name):
            raise InvalidError(f"invalid volume name {name!r}", hint="1 to 128 of a-z, A-Z, 0-9, _, . and -, a letter or digit first")
        folder = os.path.join(self._root, name)
        if os.path.exists(folder):
            raise ConflictError(f"volume {name} exists already", hint="choose another name, or remove it")
        new = os.path.join(self._root, f"{_NEW}{secrets.token_hex(4)}")
        try:
            os.mkdir(new, 0o700)
            await fill(os.path.join(new, _DISK))
            _write(os.path.join(new, _ABOUT), msgspec.json.encode(about))
            # A folder that is not empty is never replaced.
            os.rename(new, folder)
            _sync(self._root)
        except OSError as error:
            if os.path.exists(folder):
                raise ConflictError(f"volume {name} exists already", hint="choose another name, or remove it") from error
            raise UnavailableError(f"cannot make volume {name}: {error.strerror}") from error
        finally:
            shutil.rmtree(new, ignore_errors=True)
        return self.find(name)


def _check_unused(volume: Volume) -> None:
    fd = os.open(volume.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if is_locked(fd, read_only=False):
            raise ConflictError(f"volume {volume.name} is in use", hint="stop the pods that have it")
    finally:
        os.close(fd)


def _write(path: str, data: bytes) -> None:
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
