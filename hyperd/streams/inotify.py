"""inotify(7) for asyncio, of which only that something happened is of interest."""

import asyncio
import contextlib
import os
from typing import Self

from runv import linux

_IN_MODIFY = 0x002
_IN_MOVED_FROM = 0x040
_IN_MOVED_TO = 0x080
_IN_CREATE = 0x100
_IN_DELETE = 0x200
_IN_DELETE_SELF = 0x400
_NAMES = _IN_MOVED_FROM | _IN_MOVED_TO | _IN_CREATE | _IN_DELETE | _IN_DELETE_SELF
_EVENTS_ROOM = 1 << 16


class Watcher:
    """``changed`` is set whenever something of what is watched has changed; whoever looks clears it *before* looking."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self._fd = linux.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        asyncio.get_running_loop().add_reader(self._fd, self._drain)

    def _drain(self) -> None:
        self.changed.set()
        with contextlib.suppress(BlockingIOError):
            while os.read(self._fd, _EVENTS_ROOM):
                pass

    def folder(self, path: str) -> None:
        """Names that come and go in it. Raises ``OSError``."""
        self._add(path, _NAMES)

    def file(self, fd: int) -> None:
        """Writes to an open file. Raises ``OSError``."""
        self._add(f"/proc/self/fd/{fd}", _IN_MODIFY)

    def _add(self, path: str, mask: int) -> None:
        linux.inotify_add_watch(self._fd, path, mask)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
