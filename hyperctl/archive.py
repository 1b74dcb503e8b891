"""Tar streams of ``cp``. What a container sends is not trusted: it is put below the target and nowhere else, whatever its names and links say."""

import os
import posixpath
import stat
import tarfile
from collections.abc import Iterator
from typing import IO, Any, NamedTuple, Protocol, cast

from hyperctl.errors import CtlError

_CHUNK = 1 << 16
_MODE_MASK = 0o7777


class Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


class Writable(Protocol):
    def write(self, data: bytes, /) -> int: ...


class Entry(NamedTuple):
    """The first of a stream. ``link``: where it points, empty for what is no link."""

    folder: bool
    link: str


class Packed(NamedTuple):
    """What to send: ``name`` is what the source is called there, empty for the contents of a folder."""

    source: str
    name: str
    follow_link: bool = False
    owners: bool = False


def first_entry(stream: Readable) -> Entry | None:
    """None for a stream without any. Raises CtlError."""
    with _opened(stream) as archive:
        for member in _members(archive):
            return Entry(member.isdir(), member.linkname if member.issym() else "")
    return None


def pack(packed: Packed, target: Writable) -> None:
    """Writes a stream. Raises CtlError for what cannot be read."""

    def owner(member: tarfile.TarInfo) -> tarfile.TarInfo:
        if not packed.owners:
            member.uid = member.gid = 0
            member.uname = member.gname = ""
        return member

    source = os.path.realpath(packed.source) if packed.follow_link else packed.source
    try:
        with tarfile.open(fileobj=cast("IO[bytes]", target), mode="w|", format=tarfile.PAX_FORMAT) as archive:
            if packed.name:
                archive.add(source, packed.name, filter=owner)
                return
            for name in sorted(os.listdir(source)):
                archive.add(os.path.join(source, name), name, filter=owner)
    except OSError as error:
        raise CtlError(f"cannot copy {error.filename or packed.source}: {error.strerror}") from None


def unpack(stream: Readable, target: str, *, contents_only: bool, owners: bool) -> None:
    """Puts what a stream has where ``docker cp`` would: into a folder that is there, else under the target's name. Raises CtlError."""
    with _opened(stream) as archive:
        members = _members(archive)
        first = next(members, None)
        if first is None:
            raise CtlError(f"cannot copy to {target}: nothing came")
        root = _parts(first.name)
        into = _destination(first, target, contents_only=contents_only, name=root[-1] if root else "")
        work = _Unpacking(archive, into, len(root), owners)
        work.take(first)
        for member in members:
            if _parts(member.name)[: len(root)] != root:
                raise CtlError(f"cannot copy: the container sent {member.name!r}, which was not asked for")
            work.take(member)
        work.finish()


class _Unpacking:
    """``into`` is the path that the first entry becomes; the first ``depth`` parts of each name stand for it.

    Links are made last, when no file is written any more, and none is followed below the target: neither one that came, nor one that an earlier copy left.
    """

    def __init__(self, archive: tarfile.TarFile, into: str, depth: int, owners: bool) -> None:
        self._archive = archive
        self._into = into
        self._depth = depth
        self._owners = owners
        self._folders: list[tuple[str, tarfile.TarInfo]] = []
        self._links: list[tarfile.TarInfo] = []
        self._made: set[str] = set()

    def take(self, member: tarfile.TarInfo) -> None:
        path = self._path(member.name)
        try:
            if member.isdir():
                self._folder(path, member)
            elif member.isreg():
                self._file(path, member)
            elif member.issym() or member.islnk():
                self._links.append(member)
            # Devices, sockets and pipes are nothing to have elsewhere.
        except OSError as error:
            raise CtlError(f"cannot write {path}: {error.strerror}") from None

    def finish(self) -> None:
        try:
            for member in self._links:
                self._link(self._path(member.name), member)
            for path, member in reversed(self._folders):
                self._dress(path, member)
        except OSError as error:
            raise CtlError(f"cannot write {error.filename2 or error.filename}: {error.strerror}") from None

    def _path(self, name: str) -> str:
        """Where an entry goes. No folder on the way to it, below the target itself, is a link."""
        path = self._into
        for number, part in enumerate(_parts(name)[self._depth :]):
            if number and os.path.islink(path):
                raise CtlError(f"cannot copy {name}: {path} is a link")
            path = os.path.join(path, part)
        return path

    def _folder(self, path: str, member: tarfile.TarInfo) -> None:
        if path != self._into and os.path.islink(path):
            os.unlink(path)
        if not os.path.isdir(path):
            os.mkdir(path, 0o700)
        self._made.add(path)
        self._folders.append((path, member))

    def _file(self, path: str, member: tarfile.TarInfo) -> None:
        source = self._archive.extractfile(member)
        if os.path.lexists(path) and not os.path.isdir(path):
            os.unlink(path)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "wb") as file:
                while source is not None and (data := source.read(_CHUNK)):
                    file.write(data)
        except BaseException as error:
            os.unlink(path)  # no half of a file under its name
            if isinstance(error, tarfile.TarError):
                raise _damaged(error) from None
            raise
        self._made.add(path)
        self._dress(path, member)

    def _link(self, path: str, member: tarfile.TarInfo) -> None:
        if os.path.lexists(path) and not os.path.isdir(path):
            os.unlink(path)
        if member.issym():
            os.symlink(member.linkname, path)
            return
        first = self._path(member.linkname)
        if first not in self._made or not stat.S_ISREG(os.lstat(first).st_mode):
            raise CtlError(f"cannot copy {member.name}: it is a hard link to {member.linkname}, which is not part of it")
        os.link(first, path, follow_symlinks=False)

    def _dress(self, path: str, member: tarfile.TarInfo) -> None:
        if self._owners and os.geteuid() == 0:
            os.chown(path, member.uid, member.gid, follow_symlinks=False)
        # Set-id bits of somebody else's program are not for this host unless its owner comes along.
        os.chmod(path, member.mode & (_MODE_MASK if self._owners else 0o777))
        os.utime(path, (member.mtime, member.mtime))


def _destination(first: tarfile.TarInfo, target: str, *, contents_only: bool, name: str) -> str:
    if os.path.isdir(target):
        return target if first.isdir() and (contents_only or not name) else os.path.join(target, name)
    if first.isdir() and os.path.lexists(target):
        raise CtlError(f"cannot copy a folder to {target}: Not a directory")
    plain = target.rstrip("/")
    if (target.endswith("/") and not first.isdir()) or not os.path.isdir(os.path.dirname(plain) or "."):
        raise CtlError(f"cannot copy to {target}: No such directory")
    return plain


def _parts(name: str) -> list[str]:
    """Of a name in a stream. Raises CtlError for one that leads upwards."""
    parts = [part for part in posixpath.normpath(name).split("/") if part not in ("", ".")]
    if ".." in name.split("/"):
        raise CtlError(f"cannot copy: the container sent the name {name!r}")
    return parts


def _opened(stream: Readable) -> tarfile.TarFile:
    try:
        return tarfile.open(fileobj=cast("Any", stream), mode="r|")
    except tarfile.ReadError as error:
        raise CtlError(f"cannot copy: what came is no tar stream: {error}") from None


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    try:
        yield from archive
    except tarfile.TarError as error:
        raise _damaged(error) from None


def _damaged(error: tarfile.TarError) -> CtlError:
    return CtlError(f"cannot copy: the tar stream is damaged: {error}")
