"""Network namespaces that pods live in: bind mounts of them, and work inside, in threads that never come out again."""

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from hyperd.errors import HyperError
from runv import linux

_MNT_DETACH = 2
_OWN = "/proc/thread-self/ns/net"

_T = TypeVar("_T")


def make(path: Path) -> None:
    """A new namespace, kept by a mount at ``path``; one that is there already is kept.

    :raise HyperError: the kernel refused
    """
    if alive(str(path)):
        return

    def work() -> None:
        path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        path.touch(mode=0o400)
        linux.unshare(linux.CLONE_NEWNET)
        linux.mount(_OWN, str(path), None, linux.MS_BIND)

    try:
        _in_thread(work)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise HyperError(f"cannot make the network namespace {path}: {error.strerror}") from error


def remove(path: Path) -> None:
    """Takes the mount and its file away; the namespace goes with its last process. Nothing there is fine."""
    while True:
        try:
            linux.umount2(str(path), _MNT_DETACH)
        except OSError as error:
            if error.errno == errno.EINVAL:  # not, or no longer, a mount point
                break
            if error.errno == errno.ENOENT:
                return
            raise HyperError(f"cannot remove the network namespace {path}: {error.strerror}") from error
    path.unlink(missing_ok=True)


def alive(path: str) -> bool:
    """Whether there is a network namespace at ``path``."""
    try:
        inside(path, lambda: None)
    except OSError:
        return False
    return True


def is_ours(path: str) -> bool:
    """Whether it is the namespace that we are in ourselves."""
    return os.path.samefile(path, _OWN)


def inside(path: str, work: Callable[[], _T]) -> _T:
    """What ``work`` returns in the namespace at ``path``. :raise OSError: it is none, or what ``work`` raised"""

    def joined() -> _T:
        linux.join(path, linux.CLONE_NEWNET)
        return work()

    return _in_thread(joined)


def _in_thread(work: Callable[[], _T]) -> _T:
    """A thread that has changed its namespace must serve nobody else, so it ends."""
    results: list[_T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, name="netns")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]
