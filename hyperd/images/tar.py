"""Tar archives as a stream: ustar, GNU and pax, with GNU's and pax's sparse files and extended attributes.

The archives are strangers': every length is checked before it is used, and extended headers are limited. What the entries mean for a layer is
:mod:`hyperd.images.tree`'s matter.
"""

import base64
import binascii
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol
from urllib.parse import unquote_to_bytes

from hyperd.errors import InvalidError

BLOCK = 512
CHUNK = 1 << 20
PATH_MAX = 4096
# Of one extended header, and of the map of one sparse file.
_EXTENDED_MAX = 2 << 20
_SEGMENTS_MAX = 1 << 16
_SIZE_MAX = 1 << 62

FILE, LINK, SYMLINK, CHAR, BLOCK_DEVICE, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
_GNU_SPARSE = b"S"
# Go's archive/tar, which wrote most layers, takes no data after the others either, whatever their size says.
_WITH_DATA = (FILE, _GNU_SPARSE)
_KINDS = {b"\0": FILE, b"7": FILE, b"D": DIRECTORY}
_ZERO = bytes(BLOCK)
_DIGITS = re.compile(rb"-?[0-9]+")


class TarError(InvalidError):
    """The archive is damaged, or asks for what is not supported."""


class Source(Protocol):
    """Where the bytes come from: at most ``size`` of them, none at the end."""

    def read(self, size: int, /) -> bytes: ...


class Entry(NamedTuple):
    """One member. ``kind`` is the type flag; ``size`` that of the file as it is read, ``stored`` of its data in the archive.

    ``segments``: (offset, length) of the parts of a sparse file that are stored, in order; None for other files.
    """

    name: bytes
    kind: bytes
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int
    stored: int
    target: bytes
    device: tuple[int, int]
    xattrs: tuple[tuple[bytes, bytes], ...]
    segments: tuple[tuple[int, int], ...] | None


class Reader:
    """Iterates over the entries; :meth:`data` gives the current one's bytes, and what is left of them is skipped."""

    def __init__(self, source: Source, skip: Callable[[int], None] | None = None) -> None:
        """``skip``: passes over bytes of the source without reading them, where it can do that."""
        self._source = source
        self._skip = skip
        self._chunk = memoryview(b"")
        self._at = 0
        self._left = 0
        self._padding = 0
        self._offset = 0
        self._globals: dict[bytes, bytes] = {}

    @property
    def offset(self) -> int:
        """How many bytes of the archive were read: at an entry, where its data begins."""
        return self._offset

    def __iter__(self) -> Iterator[Entry]:
        """:raise TarError: as the class says"""
        while (entry := self._next()) is not None:
            self._left = entry.stored
            self._padding = -entry.stored % BLOCK
            if entry.segments == () and entry.kind == _GNU_SPARSE:
                entry = self._with_inner_map(entry)
            if entry.kind == _GNU_SPARSE:
                entry = entry._replace(kind=FILE)
            yield entry
            self._skip_data()
        self._drain()

    def data(self) -> Iterator[memoryview]:
        """What is left of the current entry's stored data, in pieces as they come.

        :raise TarError: the archive ends before it
        """
        while self._left:
            piece = self._some(self._left)
            self._left -= len(piece)
            yield piece

    def _skip_data(self) -> None:
        ahead = self._left - (len(self._chunk) - self._at)
        if self._skip is not None and ahead > 0:
            self._skip(ahead)
            self._offset += self._left
            self._left, self._at = 0, len(self._chunk)
        for _ in self.data():
            pass
        self._take(self._padding)
        self._padding = 0

    def _fill(self) -> bool:
        if self._at == len(self._chunk):
            self._chunk, self._at = memoryview(self._source.read(CHUNK)), 0
        return len(self._chunk) > 0

    def _some(self, limit: int) -> memoryview:
        if not self._fill():
            raise TarError("the archive ends too early")
        piece = self._chunk[self._at : self._at + limit]
        self._at += len(piece)
        self._offset += len(piece)
        return piece

    def _take(self, size: int) -> bytes:
        end = self._at + size
        if end <= len(self._chunk):
            piece = self._chunk[self._at : end].tobytes()
            self._at = end
            self._offset += size
            return piece
        pieces = []
        while size:
            piece_ = self._some(size)
            size -= len(piece_)
            pieces.append(piece_.tobytes())
        return b"".join(pieces)

    def _drain(self) -> None:
        """What follows the end belongs to the digest all the same."""
        while self._fill():
            self._offset += len(self._chunk) - self._at
            self._at = len(self._chunk)

    def _next(self) -> Entry | None:
        local: dict[bytes, bytes] = {}
        sparse: list[tuple[int, int]] = []
        while True:
            if not self._fill():
                return None
            header = self._take(BLOCK)
            if header == _ZERO:
                return None
            _check_sum(header)
            kind = header[156:157]
            if kind in (b"x", b"g"):
                text = self._extended(header)
                if kind == b"g":
                    self._globals.update(_records(text, []))
                else:
                    local.update(_records(text, sparse))
            elif kind in (b"L", b"K"):
                key = b"path" if kind == b"L" else b"linkpath"
                local[key] = self._extended(header).split(b"\0", 1)[0]
            else:
                return self._entry(header, self._globals | local if self._globals else local, sparse)

    def _extended(self, header: bytes) -> bytes:
        size = _number(header[124:136])
        if not 0 <= size <= _EXTENDED_MAX:
            raise TarError(f"an extended header of {size} bytes")
        text = self._take(size)
        self._take(-size % BLOCK)
        return text

    def _entry(self, header: bytes, pax: dict[bytes, bytes], sparse: list[tuple[int, int]]) -> Entry:
        kind = _KINDS.get(header[156:157], header[156:157])
        name = pax.get(b"GNU.sparse.name") or pax.get(b"path") or _name(header)
        if kind == FILE and header[156:157] == b"\0" and name.endswith(b"/"):
            kind = DIRECTORY
        if not (b"0" <= kind <= b"6" or kind == _GNU_SPARSE):
            raise TarError(f"{shown(name)} is of type {shown(kind)}, which is not known")
        size = _decimal(pax[b"size"]) if b"size" in pax else _number(header[124:136])
        if not 0 <= size < _SIZE_MAX:
            raise TarError(f"{shown(name)} has a size of {size} bytes")
        stored = size if kind in _WITH_DATA or header[156:157] == b"D" else 0
        segments: tuple[tuple[int, int], ...] | None = None
        if kind == _GNU_SPARSE:
            segments = self._old_map(header)
            size = _number(header[483:495])
        elif kind == FILE and b"GNU.sparse.major" in pax:
            kind, segments = _GNU_SPARSE, ()
            size = _decimal(pax.get(b"GNU.sparse.realsize", b"0"))
        elif kind == FILE and b"GNU.sparse.size" in pax:
            segments = tuple(_flat_map(pax[b"GNU.sparse.map"]) if b"GNU.sparse.map" in pax else sparse)
            size = _decimal(pax[b"GNU.sparse.size"])
        inner = kind == _GNU_SPARSE and segments == () and header[156:157] != _GNU_SPARSE
        if segments is not None and not inner:
            _check_map(name, segments, size, stored)
        if kind == _GNU_SPARSE and not inner:
            kind = FILE
        return Entry(
            name,
            kind,
            _number(header[100:108]) & 0o7777,
            _decimal(pax[b"uid"]) if b"uid" in pax else _number(header[108:116]),
            _decimal(pax[b"gid"]) if b"gid" in pax else _number(header[116:124]),
            _time_ns(pax[b"mtime"]) if b"mtime" in pax else _number(header[136:148]) * 1_000_000_000,
            size if stored or segments is not None else 0,
            stored,
            (pax.get(b"linkpath") or _text(header[157:257])) if kind in (LINK, SYMLINK) else b"",
            (_number(header[329:337]), _number(header[337:345])) if kind in (CHAR, BLOCK_DEVICE) else (0, 0),
            _xattrs(pax) if pax else (),
            segments,
        )

    def _old_map(self, header: bytes) -> tuple[tuple[int, int], ...]:
        """GNU's first form: four segments in the header, and more in the blocks after it."""
        segments = _slots(header[386:482])
        more = header[482]
        while more:
            block = self._take(BLOCK)
            segments += _slots(block[:504])
            more = block[504]
            if len(segments) > _SEGMENTS_MAX:
                raise TarError("a sparse file of too many parts")
        return tuple(segments)

    def _with_inner_map(self, entry: Entry) -> Entry:
        """pax's form 1.0: decimal numbers, a line each, before the data and padded to a block."""
        numbers: list[int] = []
        wanted, text, read = 1, b"", 0
        while len(numbers) < wanted:
            if self._left < BLOCK:
                raise TarError(f"the map of {shown(entry.name)}, a sparse file, is cut off")
            self._left -= BLOCK
            read += BLOCK
            *lines, text = (text + self._take(BLOCK)).split(b"\n")
            for line in lines:
                if len(numbers) < wanted:
                    numbers.append(_decimal(line))
                if len(numbers) == 1:
                    wanted = 1 + 2 * numbers[0]
            if wanted > 2 * _SEGMENTS_MAX or len(text) > BLOCK:
                raise TarError(f"{shown(entry.name)}: a sparse file of too many parts")
        segments = tuple(zip(numbers[1::2], numbers[2::2], strict=True))
        _check_map(entry.name, segments, entry.size, entry.stored - read)
        return entry._replace(segments=segments, stored=entry.stored - read)


def shown(name: bytes) -> str:
    """A name of an archive as it may be printed."""
    text = name[:300].decode(errors="backslashreplace")
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _check_sum(header: bytes) -> None:
    field = header[148:156].split(b"\0", 1)[0].strip()
    wanted = int(field, 8) if field.isdigit() and not set(field) & set(b"89") else -1
    plain = sum(header) - sum(header[148:156]) + 8 * 32
    if wanted == plain:
        return
    signed = plain - 256 * sum(byte > 127 for byte in header[:148] + header[156:])
    if wanted != signed:
        raise TarError("a header with a wrong checksum: this is no tar archive, or it is damaged")


def _number(field: bytes) -> int:
    if field[0] & 0x80:
        return (
            int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
            if field[0] != 0xFF
            else int.from_bytes(field, "big", signed=True)
        )
    text = field.split(b"\0", 1)[0].strip()
    try:
        return int(text, 8) if text else 0
    except ValueError as error:
        raise TarError(f"a header with {shown(text)} for a number") from error


def _decimal(text: bytes) -> int:
    if len(text) > 20 or not _DIGITS.fullmatch(text):
        raise TarError(f"an extended header with {shown(text)} for a number")
    return int(text)


def _time_ns(text: bytes) -> int:
    whole, _, fraction = text[:64].partition(b".")
    negative = whole.startswith(b"-")
    nanoseconds = int((fraction[:9] or b"0").ljust(9, b"0")) if not fraction or fraction.isdigit() else 0
    return _decimal(whole) * 1_000_000_000 + (-nanoseconds if negative else nanoseconds)


def _text(field: bytes) -> bytes:
    return field.split(b"\0", 1)[0]


def _name(header: bytes) -> bytes:
    name = _text(header[:100])
    if header[257:263] == b"ustar\0" and header[345]:
        return _text(header[345:500]) + b"/" + name
    return name


def _records(text: bytes, sparse: list[tuple[int, int]]) -> dict[bytes, bytes]:
    """The records of a pax header. The pairs of the sparse form 0.0, whose keys repeat, go to ``sparse``."""
    found: dict[bytes, bytes] = {}
    at, offset = 0, 0
    while at < len(text):
        space = text.find(b" ", at, at + 12)
        length = _decimal(text[at:space]) if space > 0 else 0
        record = text[space + 1 : at + length]
        key, equals, value = record[:-1].partition(b"=")
        if space < 0 or length <= space - at or at + length > len(text) or not equals or record[-1:] != b"\n":
            raise TarError("an extended header that is damaged")
        if key == b"GNU.sparse.offset":
            offset = _decimal(value)
        elif key == b"GNU.sparse.numbytes":
            sparse.append((offset, _decimal(value)))
        else:
            found[key] = value
        at += length
    return found


def _xattrs(pax: dict[bytes, bytes]) -> tuple[tuple[bytes, bytes], ...]:
    found = {}
    for key, value in pax.items():
        if key.startswith(b"SCHILY.xattr."):
            found[key[13:]] = value
        elif key.startswith(b"LIBARCHIVE.xattr."):
            try:
                found.setdefault(unquote_to_bytes(key[17:]), base64.b64decode(value + b"=" * (-len(value) % 4)))
            except binascii.Error as error:
                raise TarError(f"the extended attribute {shown(key[17:])} is not base64") from error
    return tuple(found.items())


def _slots(area: bytes) -> list[tuple[int, int]]:
    found = []
    for at in range(0, len(area), 24):
        if area[at] == 0:
            break
        found.append((_number(area[at : at + 12]), _number(area[at + 12 : at + 24])))
    return found


def _flat_map(text: bytes) -> list[tuple[int, int]]:
    numbers = [_decimal(each) for each in text.split(b",")] if text else []
    if len(numbers) % 2:
        raise TarError("the map of a sparse file is damaged")
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _check_map(name: bytes, segments: tuple[tuple[int, int], ...], size: int, stored: int) -> None:
    end = 0
    for offset, length in segments:
        if offset < end or length < 0:
            raise TarError(f"the map of {shown(name)}, a sparse file, is not in order")
        end = offset + length
    if not end <= size < _SIZE_MAX or sum(length for _, length in segments) != stored:
        raise TarError(f"the map of {shown(name)}, a sparse file, does not fit its size")
