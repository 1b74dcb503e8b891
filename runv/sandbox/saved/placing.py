"""The disks of a machine that is restored: what was copied into the checkpoint goes to where the bundle has it, what was not is looked for there."""

import contextlib
import os

from runv.errors import ConfigError, HostError, reason
from runv.sandbox.saved.image import SavedDisk, disk_of
from runv.storage import copies
from runv.storage.images import is_locked
from runv.vm.machine import Disk, Plugged


class Placing:
    """Puts the disks of the checkpoint in ``folder`` to ``paths``, by their serials; one whose path ends with a slash gets no name there. First all of them are made and checked; what was at such a path
    before is kept until ``keep``, and is there again after ``close`` without it. Closes what it opens."""

    def __init__(self, folder: str, disks: list[SavedDisk], paths: dict[str, str]) -> None:
        """:raise ConfigError: one is damaged, is not the one it was, or is in use
        :raise HostError: there is no room, or no such folder
        """
        self._new: dict[str, str] = {}
        self._nameless: dict[str, str] = {}
        self._old: dict[str, str] = {}
        self._opened: list[int] = []
        self._made: list[str] = []
        self.plugged: tuple[Plugged, ...] = ()
        try:
            for disk in disks:
                if disk.copied:
                    self._copy(folder, disk, paths[disk.serial])
                else:
                    _compare(folder, disk, paths[disk.serial])
            for path in self._new:
                self._replace(path)
            self.plugged = tuple(self._plug(disk, paths[disk.serial]) for disk in disks)
        except BaseException:
            self.close()
            raise

    def _copy(self, folder: str, disk: SavedDisk, path: str) -> None:
        new = f"{path}.runv-{os.urandom(4).hex()}"
        if path.endswith("/"):
            self._nameless[disk.serial] = new
        elif path in self._new:
            raise ConfigError(f"cannot restore from {folder}: two of its disks would be at {path}")
        else:
            _check_unused(path)
            self._new[path] = new
        try:
            source = os.open(disk_of(folder, disk.serial), os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise ConfigError(f"cannot restore from {folder}: {disk_of('', disk.serial)}: {reason(error)}") from error
        try:
            content = copies.copy(source, new)
        except OSError as error:
            raise HostError(f"restore disk {path}", error) from error
        finally:
            os.close(source)
        if content != disk.content:
            raise ConfigError(f"cannot restore from {folder}: {disk_of('', disk.serial)} is damaged: it has not the size or the checksum that was written")

    def _replace(self, path: str) -> None:
        new = self._new[path]
        try:
            with contextlib.suppress(FileNotFoundError):
                status = os.stat(path)
                os.chown(new, status.st_uid, status.st_gid)
                os.chmod(new, status.st_mode & 0o7777)
                os.link(path, f"{new}.old")
                self._old[path] = f"{new}.old"
            os.rename(new, path)
            self._made.append(path)
        except OSError as error:
            raise HostError(f"restore disk {path}", error) from error

    def _plug(self, disk: SavedDisk, path: str) -> Plugged:
        path = self._nameless.get(disk.serial, path)
        try:
            fd = os.open(path, (os.O_RDONLY if disk.read_only else os.O_RDWR) | os.O_CLOEXEC)
        except OSError as error:
            raise ConfigError(f"cannot attach disk {path}: {reason(error)}") from error
        self._opened.append(fd)
        if disk.serial in self._nameless:
            os.unlink(self._nameless.pop(disk.serial))
        return Plugged(Disk(disk.serial, fd, disk.format, disk.read_only, disk.serial.startswith("b")), disk.lun)

    def keep(self) -> None:
        """The machine runs with them: what they took the place of is not needed any more."""
        for old in self._old.values():
            with contextlib.suppress(OSError):
                os.unlink(old)
        self._old, self._made = {}, []

    def close(self) -> None:
        """Gives descriptors back, and undoes what is not to be kept."""
        for fd in self._opened:
            os.close(fd)
        self._opened = []
        for path in self._made:
            with contextlib.suppress(OSError):
                os.rename(self._old.pop(path), path) if path in self._old else os.unlink(path)
        for path in (*self._new.values(), *self._nameless.values(), *self._old.values()):
            with contextlib.suppress(OSError):
                os.unlink(path)
        self._new, self._nameless, self._old, self._made = {}, {}, {}, []


def _compare(folder: str, disk: SavedDisk, path: str) -> None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(f"cannot attach disk {path}: {reason(error)}") from error
    try:
        if copies.likeness(fd) != disk.content:
            raise ConfigError(f"cannot restore from {folder}: {path} is not the disk that was there, {disk.path}")
    finally:
        os.close(fd)


def _check_unused(path: str) -> None:
    """A file that another machine writes to would be lost to it only in name."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError(f"cannot restore disk {path}: {reason(error)}") from error
    try:
        if is_locked(fd, read_only=False):
            raise ConfigError(f"cannot restore disk {path}: another machine uses it", hint="give another bundle, in which it is at another place")
    finally:
        os.close(fd)
