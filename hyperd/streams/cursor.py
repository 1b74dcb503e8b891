"""A place in a log that is rotated while it is read."""

import os
from pathlib import Path
from typing import Self

from hyperd.streams.chain import LogFile, current_identity, open_all
from hyperd.streams.entries import Wanted, parse

_BLOCK = 1 << 16
_ENTRY_MAX = 1 << 20


class Cursor:
    """The file that is read and those after it, all open. A file that was renamed gets no more entries, so when it has been seen to be, its end is its end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files = open_all(path)
        self._sizes = [file.size() for file in self._files]
        self._past: set[tuple[int, ...]] = set()
        self._offset = 0
        self._rest = b""

    @property
    def newest(self) -> int | None:
        """The descriptor of the newest file; None when there is none."""
        return self._files[-1].fd if self._files else None

    def entries(self) -> list[bytes] | None:
        """Some of the next entries; None where there are no more now."""
        return self._next([file.size() for file in self._files])

    def entries_at_first(self) -> list[bytes] | None:
        """The same, but none that were written after the log was opened."""
        return self._next(self._sizes)

    def _next(self, sizes: list[int]) -> list[bytes] | None:
        while self._files:
            if self._files[0].size() < self._offset:  # it was cut, and begins anew
                self._offset, self._rest = 0, b""
            data = os.pread(self._files[0].fd, min(_BLOCK, max(0, sizes[0] - self._offset)), self._offset)
            if data:
                self._offset += len(data)
                *found, rest = (self._rest + data).split(b"\n")
                self._rest = rest[:_ENTRY_MAX]
                return found
            if len(self._files) == 1:
                break
            self._drop()
            sizes = sizes[1:]
        return None

    def _drop(self) -> None:
        """What is left of the oldest file is an entry that was torn."""
        file = self._files.pop(0)
        self._past.add(file.mark())
        file.close()
        self._sizes = self._sizes[1:]
        self._offset, self._rest = 0, b""

    def refresh(self) -> bool:
        """Looks for files that are newer than those we know. Raises ``OSError``."""
        known = self._files[-1].identity if self._files else None
        if known is not None and current_identity(self._path) == known:
            return False
        found = open_all(self._path)
        new = self._newer(found, known)
        for file in found:
            if file not in new:
                file.close()
        self._files += new
        self._sizes += [file.size() for file in new]
        return bool(new)

    def _newer(self, found: list[LogFile], known: tuple[int, int] | None) -> list[LogFile]:
        identities = [file.identity for file in found]
        self._past &= {file.mark() for file in found}
        if known in identities:
            return found[identities.index(known) + 1 :]
        # It was removed: as the oldest, while we were slow, or by somebody as the newest.
        return [file for file in found if file.mark() not in self._past]

    def seek_tail(self, count: int, wanted: Wanted) -> None:
        """To where the last ``count`` lines begin, of those that are wanted. For a log just opened."""
        if not self._files:
            return
        index, offset = self._tail(count, wanted)
        for _ in range(index):
            self._drop()
        self._offset = offset

    def _tail(self, count: int, wanted: Wanted) -> tuple[int, int]:
        place: tuple[int, int] | None = None
        lines = 0
        seen: set[str] = set()
        for index in reversed(range(len(self._files))):
            for offset, entry in self._files[index].backwards(self._sizes[index]):
                place = place or (index, offset)
                line = parse(entry)
                if line is None or line.stream not in wanted.streams or wanted.is_over(line):
                    continue
                # Parts of a line count once, and with its end if that has come.
                lines += line.text.endswith("\n") or line.stream not in seen
                if lines > count or line.time < wanted.since:
                    return place
                seen.add(line.stream)
                place = (index, offset)
        return place or (0, 0)

    def close(self) -> None:
        for file in self._files:
            file.close()
        self._files.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
