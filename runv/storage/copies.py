"""Copies of disk images and other large files: sparse, shared with the original where the file system can, and checked.

The checksum is of the blocks that are not all zeros, and of where they are: holes may come and go with the tools that move a file.
"""

import contextlib
import errno
import fcntl
import os
import zlib
from collections.abc import Iterator
from typing import NamedTuple

_BLOCK = 1 << 18
_ZEROS = bytes(_BLOCK)
_FICLONE = 0x40049409
# Of a file that is only referred to, this much is looked at: in as many places, as many bytes.
_SAMPLES, _SAMPLE = 64, 4096


class Content(NamedTuple):
    """What tells one file's bytes from another's."""

    size: int
    checksum: int


def copy(source: int, path: str) -> Content:
    """Copies all there is behind the descriptor ``source`` to a new file. Raises ``OSError``; what there is of the file stays then."""
    target = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        cloned = _clone(source, target)
        size = os.lseek(source, 0, os.SEEK_END)
        os.truncate(target, size)
        checksum = 0
        for position, block in _blocks(source, size):
            checksum = _sum(checksum, position, block)
            if not cloned:
                _write(target, position, block)
        os.fsync(target)
    finally:
        os.close(target)
    return Content(size, checksum)


def content(fd: int) -> Content:
    """Reads all of a file."""
    size = os.lseek(fd, 0, os.SEEK_END)
    checksum = 0
    for position, block in _blocks(fd, size):
        checksum = _sum(checksum, position, block)
    return Content(size, checksum)


def content_at(path: str) -> Content:
    """The same of the file at ``path``. Raises ``OSError``."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return content(fd)
    finally:
        os.close(fd)


def likeness(fd: int) -> Content:
    """Reads a little in many places: enough to see that an image is not the one it was, not to prove that it is."""
    size = os.lseek(fd, 0, os.SEEK_END)
    checksum = 0
    for number in range(_SAMPLES):
        position = (size - _SAMPLE) * number // (_SAMPLES - 1) if size > _SAMPLE else 0
        checksum = _sum(checksum, position, os.pread(fd, _SAMPLE, position))
    return Content(size, checksum)


def _clone(source: int, target: int) -> bool:
    with contextlib.suppress(OSError):  # another file system, or one without shared blocks
        fcntl.ioctl(target, _FICLONE, source)
        return True
    return False


def _sum(checksum: int, position: int, block: bytes) -> int:
    return zlib.crc32(block, zlib.crc32(position.to_bytes(8, "big"), checksum))


def _blocks(fd: int, size: int) -> Iterator[tuple[int, bytes]]:
    """The blocks that are not all zeros, each at a multiple of their length."""
    position = 0
    while position < size:
        try:
            position = os.lseek(fd, position, os.SEEK_DATA) // _BLOCK * _BLOCK
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but holes is left
                return
            raise
        block = os.pread(fd, _BLOCK, position)
        if not block:
            return
        if block != _ZEROS[: len(block)]:
            yield position, block
        position += _BLOCK


def _write(target: int, position: int, block: bytes) -> None:
    while block:
        written = os.pwrite(target, block, position)
        position, block = position + written, block[written:]
