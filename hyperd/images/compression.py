"""Compressed streams, told by their first bytes: gzip of any number of members, zstd of any number of frames, xz, bzip2."""

import bz2
import lzma
import zlib
from typing import Literal

from hyperd.errors import InvalidError
from hyperd.images.tar import Source

Kind = Literal["", "gzip", "zstd", "xz", "bzip2"]

_ZSTD = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE = b"\x2a\x4d\x18"
_INPUT = 256 << 10
# What zstd's own command allows without being asked.
_ZSTD_WINDOW_MAX = 128 << 20


class CompressionError(InvalidError):
    """The stream is damaged or cut off."""


def kind_of(start: bytes) -> Kind:
    """The compression of what begins with ``start``, six bytes or more."""
    if start.startswith(b"\x1f\x8b"):
        return "gzip"
    if start.startswith(_ZSTD) or (start[1:4] == _ZSTD_SKIPPABLE and start[:1] and start[0] >> 4 == 5):
        return "zstd"
    if start.startswith(b"\xfd7zXZ\0"):
        return "xz"
    return "bzip2" if start.startswith(b"BZh") else ""


class _Prefixed:
    """A source that was looked into."""

    def __init__(self, start: bytes, source: Source) -> None:
        self._start = start
        self._source = source

    def read(self, size: int, /) -> bytes:
        if self._start:
            piece, self._start = self._start[:size], self._start[size:]
            return piece
        return self._source.read(size)


def plain(source: Source) -> tuple[Source, Kind]:
    """What ``source`` is when it is unpacked, and how it was packed. Reading raises :class:`CompressionError`."""
    start = b""
    while len(start) < 6 and (piece := source.read(6 - len(start))):
        start += piece
    kind = kind_of(start)
    whole = _Prefixed(start, source)
    if kind == "gzip":
        return _Gzip(whole), kind
    if kind == "zstd":
        return _Zstd(whole), kind
    return (_Stdlib(whole, kind), kind) if kind else (whole, kind)


class _Gzip:
    def __init__(self, source: Source) -> None:
        self._source = source
        self._input = b""
        self._member = zlib.decompressobj(31)
        self._begun = True

    def read(self, size: int, /) -> bytes:
        while True:
            if not self._input:
                self._input = self._source.read(_INPUT)
            ended = not self._input
            if not self._begun:
                # Between members: padding with zeros is usual, anything else is the next one.
                self._input = self._input.lstrip(b"\0")
                if not self._input:
                    if not (more := self._source.read(_INPUT)):
                        return b""
                    self._input = more
                    continue
                self._member, self._begun = zlib.decompressobj(31), True
            try:
                data = self._member.decompress(self._input, size)
            except zlib.error as error:
                raise CompressionError(f"the gzip stream is damaged: {error}") from error
            self._input = self._member.unconsumed_tail
            if self._member.eof:
                self._input, self._begun = self._member.unused_data, False
            if data:
                return data
            if ended and self._begun:
                raise CompressionError("the gzip stream is cut off")


class _Zstd:
    def __init__(self, source: Source) -> None:
        import zstandard

        self._error = zstandard.ZstdError
        decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_MAX)
        self._reader = decompressor.stream_reader(source, read_size=_INPUT, read_across_frames=True)  # type: ignore[arg-type]

    def read(self, size: int, /) -> bytes:
        try:
            return self._reader.read(size)
        except self._error as error:
            raise CompressionError(f"the zstd stream is damaged: {error}") from error


class _Stdlib:
    """xz and bzip2: not what the specification names, but what Docker reads."""

    def __init__(self, source: Source, kind: Kind) -> None:
        self._source = source
        self._kind = kind
        self._input = b""
        self._member = self._fresh()

    def _fresh(self) -> "lzma.LZMADecompressor | bz2.BZ2Decompressor":
        return lzma.LZMADecompressor(memlimit=_ZSTD_WINDOW_MAX) if self._kind == "xz" else bz2.BZ2Decompressor()

    def read(self, size: int, /) -> bytes:
        while True:
            if self._member.eof:
                self._input = self._member.unused_data or self._source.read(_INPUT)
                if not self._input.strip(b"\0"):
                    return b""
                self._member = self._fresh()
            elif self._member.needs_input:
                self._input = self._source.read(_INPUT)
                if not self._input:
                    raise CompressionError(f"the {self._kind} stream is cut off")
            try:
                data = self._member.decompress(self._input, size)
            except (lzma.LZMAError, OSError, EOFError) as error:
                raise CompressionError(f"the {self._kind} stream is damaged: {error}") from error
            self._input = b""
            if data:
                return data
