"""The files of a rotated log: PATH, before it PATH.1, before that PATH.2, and so on. Known by their inodes, since names move."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

_TRIES = 100
_BLOCK = 1 << 16


class LogFile:
    """An open file of a log. It stays readable when it is renamed or removed."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.identity = identity_of(os.fstat(fd))

    def size(self) -> int:
        return os.fstat(self.fd).st_size

    def mark(self) -> tuple[int, ...]:
        """What tells it, when it is closed and gets no more entries, from a later file with the same inode."""
        status = os.fstat(self.fd)
        return (*self.identity, status.st_size, status.st_mtime_ns)

    def backwards(self, size: int) -> Iterator[tuple[int, bytes]]:
        """Its whole entries below ``size``, the last one first, without their newlines: where each begins, and what it is.

        The first that comes is empty, at the end of the last whole one: what follows is still being written.
        """
        rest = b""
        is_whole = False
        end = size
        while end > 0:
            start = max(0, end - _BLOCK)
            parts = (os.pread(self.fd, end - start, start) + rest).split(b"\n")
            at = end + len(rest)
            for part in reversed(parts[1:]):
                at -= len(part)
                yield (at, part) if is_whole else (at, b"")
                is_whole = True
                at -= 1
            rest = parts[0]
            end = start
        yield (0, rest if is_whole else b"")

    def close(self) -> None:
        os.close(self.fd)


def identity_of(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def current_identity(path: Path) -> tuple[int, int] | None:
    """Of the file that is at the path now."""
    try:
        return identity_of(os.stat(path))
    except FileNotFoundError:
        return None


def _names(path: Path) -> list[Path]:
    """Oldest first."""
    pattern = re.compile(re.escape(path.name) + r"\.(\d+)")
    try:
        numbers = [int(found[1]) for name in os.listdir(path.parent) if (found := pattern.fullmatch(name))]
    except FileNotFoundError:
        return []
    return [*(path.with_name(f"{path.name}.{number}") for number in sorted(numbers, reverse=True)), path]


def open_all(path: Path) -> list[LogFile]:
    """All files of the log, oldest first; none when there is none. What the monitor renames meanwhile is neither missed nor there twice."""
    files: list[LogFile] = []
    for _ in range(_TRIES):
        names = _names(path)
        files = _open(names)
        if names == _names(path) and [file.identity for file in files] == _identities(names):
            return files
        for file in files:
            file.close()
    raise OSError(f"cannot open {path}: it is rotated faster than it can be opened")


def _open(names: list[Path]) -> list[LogFile]:
    files = []
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            files.append(LogFile(os.open(name, os.O_RDONLY | os.O_CLOEXEC)))
    return files


def _identities(names: list[Path]) -> list[tuple[int, int]]:
    return [found for name in names if (found := current_identity(name)) is not None]
