"""Archives as files by their names: a tar file, packed or not, a pipe that one comes through, or a folder."""

import os
import select
import stat
from pathlib import Path
from typing import NamedTuple

from hyperd.errors import InvalidError, UnavailableError
from hyperd.images import tar
from hyperd.images.compression import kind_of, plain
from hyperd.images.documents import DOCUMENT_MAX
from hyperd.images.layers import Packed
from hyperd.images.tasks import in_thread

_MEMBERS_MAX = 100_000
_LINKS_MAX = 16


class _Member(NamedTuple):
    """Where a file of an archive is. ``target``: it is a link to another."""

    offset: int
    size: int
    target: str


class Archive:
    """Files by their names, in a tar or a folder. ``path`` must stay what it is while it is used."""

    def __init__(self, path: str, members: dict[str, _Member] | None) -> None:
        self._path = path
        self._members = members

    def has(self, name: str) -> bool:
        return self._find(name) is not None

    def read(self, name: str, limit: int = DOCUMENT_MAX) -> bytes:
        """:raise InvalidError: it is not there, or too large"""
        packed = self.locate(name)
        if packed.size > limit:
            raise InvalidError(f"{name} in the archive has {packed.size} bytes; at most {limit} are taken")
        with open(packed.path, "rb") as file:
            return os.pread(file.fileno(), packed.size, packed.offset)

    def locate(self, name: str) -> Packed:
        """:raise InvalidError: it is not there"""
        found = self._find(name)
        if found is None:
            raise InvalidError(f"the archive has no {name[:200]!r}")
        return found

    def _find(self, name: str) -> Packed | None:
        if self._members is None:
            return self._find_file(name)
        for _ in range(_LINKS_MAX):
            member = self._members.get(os.path.normpath(name))
            if member is None:
                return None
            if not member.target:
                return Packed(self._path, member.offset, member.size, kept=False)
            name = member.target
        raise InvalidError(f"{name[:200]!r} in the archive is a link in a circle")

    def _find_file(self, name: str) -> Packed | None:
        path = os.path.join(self._path, name)
        if os.path.isabs(name) or ".." in name.split("/"):
            raise InvalidError(f"{name[:200]!r} is no name of a file of the layout")
        try:
            status = os.lstat(path)
        except OSError:
            return None
        return Packed(path, 0, status.st_size, kept=False) if stat.S_ISREG(status.st_mode) else None


class _Skipping:
    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._at = 0

    def read(self, size: int, /) -> bytes:
        data = os.pread(self._fd, min(size, 64 << 10), self._at)
        self._at += len(data)
        return data

    def skip(self, size: int) -> None:
        self._at += size


async def open_archive(source: Path | int, spool: Path, bytes_max: int, stall_timeout_s: float) -> Archive:
    """The archive. A packed one is unpacked to ``spool`` first, and so is one that cannot be read at will.

    :raise InvalidError: it is none
    :raise UnavailableError: it cannot be read, or stands still
    """
    if isinstance(source, Path) and source.is_dir():
        return Archive(str(source), None)
    try:
        return await in_thread(_open_file, source, spool, bytes_max, stall_timeout_s)
    except OSError as error:
        name = source if isinstance(source, Path) else "the archive"
        raise UnavailableError(f"cannot read {name}: {error.strerror}") from error


def _open_file(source: Path | int, spool: Path, bytes_max: int, stall_timeout_s: float) -> Archive:
    fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC) if isinstance(source, Path) else source
    try:
        regular = stat.S_ISREG(os.fstat(fd).st_mode)
        if regular and not kind_of(os.pread(fd, 6, 0)):
            path = str(source) if isinstance(source, Path) else f"/proc/{os.getpid()}/fd/{fd}"
            return Archive(path, _members(fd))
        if regular and isinstance(source, int):
            os.lseek(fd, 0, os.SEEK_SET)
        return _spooled(_Raw(fd, stall_timeout_s), spool, bytes_max)
    finally:
        if isinstance(source, Path):
            os.close(fd)


def _spooled(packed: "_Raw", spool: Path, bytes_max: int) -> Archive:
    inner, _ = plain(packed)
    with spool.open("x+b") as file:
        while data := inner.read(tar.CHUNK):
            file.write(data)
            if file.tell() > bytes_max:
                raise InvalidError(f"the archive is larger than {bytes_max} bytes")
        file.flush()
        return Archive(str(spool), _members(file.fileno()))


class _Raw:
    """What comes through a descriptor: of a file, a pipe or a socket."""

    def __init__(self, fd: int, stall_timeout_s: float) -> None:
        self._fd = fd
        self._timeout_ms = stall_timeout_s * 1000
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)

    def read(self, size: int, /) -> bytes:
        if not self._poll.poll(self._timeout_ms):
            raise UnavailableError("the archive stands still")
        return os.read(self._fd, size)


def _members(fd: int) -> dict[str, _Member]:
    if not os.fstat(fd).st_size:
        raise InvalidError("the archive is empty", hint="`hyperctl load -i FILE` reads a file")
    source = _Skipping(fd)
    reader = tar.Reader(source, source.skip)
    size = os.fstat(fd).st_size
    members: dict[str, _Member] = {}
    for entry in reader:
        name = os.path.normpath(os.fsdecode(entry.name))
        if entry.kind == tar.FILE and entry.segments is None:
            if reader.offset + entry.size > size:
                raise InvalidError(f"the archive ends in the middle of {name[:200]!r}")
            members[name] = _Member(reader.offset, entry.size, "")
        elif entry.kind == tar.SYMLINK:
            members[name] = _Member(0, 0, os.path.join(os.path.dirname(name), os.fsdecode(entry.target)))
        elif entry.kind == tar.LINK:
            members[name] = _Member(0, 0, os.fsdecode(entry.target))
        if len(members) > _MEMBERS_MAX:
            raise InvalidError("the archive has too many files")
    return members
