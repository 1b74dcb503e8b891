"""The process that turns a layer into an EROFS image: ``hyperd.images.layers`` starts one for each.

What strangers packed is unpacked away from the daemon, with limits on memory and files, and is gone with it. Reading and hashing, inflating and
hashing, and parsing run in three threads: all but the last spend their time outside the interpreter's lock.

A job is a line of JSON on the standard input; lines of JSON come out: ``{"done": bytes}`` now and then, ``{"need": "lower"}``, which is answered by
a line with the paths of the images below, and in the end ``{"result": {...}}`` or ``{"error": "...", "kind": "..."}``.
"""

import contextlib
import ctypes
import hashlib
import json
import os
import queue
import resource
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hyperd.errors import HyperError, InvalidError
from hyperd.images.compression import plain
from hyperd.images.lower import Stack
from hyperd.images.merging import merge
from hyperd.images.paths import LayerError
from hyperd.images.tar import CHUNK, Reader, Source
from hyperd.images.tree import Tree
from hyperd.images.writer import Writer

MEMORY_MAX = 2 << 30
_REPORT_EVERY = 4 << 20
_AHEAD = 8
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38


class _File:
    """``size`` bytes of a file from ``offset``."""

    def __init__(self, fd: int, offset: int, size: int) -> None:
        self._fd = fd
        self._at = offset
        self._end = offset + size

    def read(self, size: int, /) -> bytes:
        data = os.pread(self._fd, min(size, self._end - self._at), self._at)
        self._at += len(data)
        return data


class _Hashed:
    """Hashes what is read, and copies it."""

    def __init__(self, source: Source, copy: int | None = None, report: Callable[[int], None] | None = None) -> None:
        self.size = 0
        self._source = source
        self._copy = copy
        self._hash = hashlib.sha256()
        self._report = report
        self._reported = 0

    def read(self, size: int, /) -> bytes:
        data = self._source.read(size)
        self._hash.update(data)
        self.size += len(data)
        if self._copy is not None:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._copy, rest) :]
        if self._report is not None and (self.size - self._reported >= _REPORT_EVERY or not data):
            self._reported = self.size
            self._report(self.size)
        return data

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


class _Ahead:
    """Reads in a thread of its own, a few pieces ahead. Errors come out where they would have."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._queue: queue.Queue[bytes | BaseException] = queue.Queue(_AHEAD)
        self._rest = b""
        self._ended = False
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            while data := self._source.read(CHUNK):
                self._queue.put(data)
            self._queue.put(b"")
        except BaseException as error:
            self._queue.put(error)

    def read(self, size: int, /) -> bytes:
        if not self._rest and not self._ended:
            got = self._queue.get()
            if isinstance(got, BaseException):
                raise got
            self._rest, self._ended = got, not got
        if size >= len(self._rest):
            piece, self._rest = self._rest, b""
        else:
            piece, self._rest = self._rest[:size], self._rest[size:]
        return piece


def convert(
    job: dict[str, Any], say: Callable[[dict[str, Any]], None], lower: Callable[[], list[str]]
) -> dict[str, Any]:
    """Does one job: ``source``, ``offset``, ``size``; ``image``, the file to make; ``blob``, where a copy goes, or None;
    ``digest`` and ``diff_id``, as they have to be, or None; ``entries_max``, ``bytes_max``.

    :raise InvalidError: the layer is not what it should be
    """
    with contextlib.ExitStack() as stack:

        def opened(path: str, flags: int) -> int:
            fd = os.open(path, flags | os.O_CLOEXEC, 0o600)
            stack.callback(os.close, fd)
            return fd

        source = _File(opened(job["source"], os.O_RDONLY), job["offset"], job["size"])
        image = opened(job["image"], os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        copy = opened(job["blob"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC) if job["blob"] else None
        packed = _Hashed(source, copy, lambda done: say({"done": done}))
        inner, kind = plain(_Ahead(packed))
        unpacked = _Hashed(inner) if kind else packed
        reader = Reader(_Ahead(unpacked) if kind else inner)
        tree = Tree(Writer(image), entries_max=job["entries_max"], bytes_max=job["bytes_max"])
        for entry in reader:
            tree.add(entry, reader)
        if packed.size != job["size"]:
            raise LayerError(f"the layer has {packed.size} bytes and not {job['size']}")
        _check("digest", packed.digest, job["digest"])
        _check("diff id", unpacked.digest, job["diff_id"])
        tree.finish(lambda: Stack(Path(path) for path in lower()))
        for fd in (image, copy):
            if fd is not None:
                os.fsync(fd)
        return {
            "digest": packed.digest,
            "diff_id": unpacked.digest,
            "compression": kind,
            "disk_size": os.fstat(image).st_blocks * 512,
            "dependent": tree.dependent,
        }


def join(job: dict[str, Any]) -> dict[str, Any]:
    """Does the other kind of job: the layers ``merge``, bottom first, become the one ``image``."""
    image = os.open(job["image"], os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with Stack(map(Path, job["merge"])) as stack:
            merge(stack, Writer(image))
        os.fsync(image)
        return {"disk_size": os.fstat(image).st_blocks * 512}
    finally:
        os.close(image)


def _check(what: str, actual: str, wanted: str | None) -> None:
    if wanted is not None and actual != wanted:
        raise LayerError(f"the {what} of the layer is {actual} and not {wanted}")


def _say(message: dict[str, Any]) -> None:
    os.write(1, json.dumps(message).encode() + b"\n")


def _lower() -> list[str]:
    _say({"need": "lower"})
    line = sys.stdin.readline()
    if not line:
        raise LayerError("nobody waits for the layer any more")
    paths: list[str] = json.loads(line)
    return paths


def _confine(bytes_max: int) -> None:
    """Limits, and an end together with the daemon."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_MAX, MEMORY_MAX))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    largest = 2 * bytes_max + (1 << 30)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))


def main() -> None:
    """Does one job and ends."""
    job = json.loads(sys.stdin.readline() or "null")
    if job is None:
        return
    _confine(job["bytes_max"])
    try:
        _say({"result": join(job) if "merge" in job else convert(job, _say, _lower)})
    except InvalidError as error:
        _say({"error": error.message, "kind": "invalid"})
    except HyperError as error:
        _say({"error": error.message, "kind": error.kind})
    except MemoryError:
        _say({"error": "the layer needs too much memory", "kind": "invalid"})
    except OSError as error:
        _say({"error": f"cannot write the layer: {error.strerror}", "kind": "unavailable"})
