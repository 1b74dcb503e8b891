"""Files and descriptors: atomic writes, locks on folders, descriptors over unix sockets."""

import errno
import fcntl
import os
import time

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    import socket

from runv.errors import HostError, StateError
from runv.quick import Socket, socket, suppress

LOCK_TIMEOUT_S = 30.0
_LOCK_POLL_S = 0.01
_SOCKET_PATH_MAX = 100
_BACKLOG = 64


def write_atomic(path: str, text: str, mode: int = 0o600) -> None:
    """Writes ``path`` so that a reader sees the old text or the new one, never a part, also after a crash.

    :raise HostError: the file system refused (no space, no permission, ...)
    """
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.{os.getpid()}")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            _write_all(fd, text.encode())
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except OSError as error:
        with suppress(OSError):
            os.unlink(temporary)
        raise HostError(f"write {path}", error) from error


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def read_text(path: str, limit: int = 64 << 20) -> str:
    """The text of a file of at most ``limit`` bytes. Raises ``OSError`` as the kernel does."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        chunks = []
        while (chunk := os.read(fd, 1 << 16)) and limit > 0:
            chunks.append(chunk)
            limit -= len(chunk)
        return b"".join(chunks).decode(errors="surrogateescape")
    finally:
        os.close(fd)


class locked_folder:  # noqa: N801 - called like a function
    """Holds the exclusive lock of a folder. Yields the folder's descriptor, which carries the lock.

    A forked child shares the lock until it executes a program or ends: whoever waits for the lock knows that
    the processes started under it have written down their pids.

    :raise FileNotFoundError: there is no such folder, or it was removed while we waited
    :raise StateError: another process held it for ``timeout_s``
    """

    def __init__(self, path: str, timeout_s: float = LOCK_TIMEOUT_S) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._fd = -1

    def __enter__(self) -> int:
        fd = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _flock(fd, self._path, self._timeout_s)
            if os.fstat(fd).st_nlink == 0 or os.stat(self._path).st_ino != os.fstat(fd).st_ino:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self._path)
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        return fd

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def _flock(fd: int, path: str, timeout_s: float) -> None:
    # flock has no deadline of its own, and a signal to end it would need a handler in every caller: so we poll, but only when it is taken.
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise StateError(f"cannot lock {path}: another runv has held it for {timeout_s:.0f} s") from None
            time.sleep(_LOCK_POLL_S)


def remove_tree(path: str) -> None:
    """Removes a folder of ours and what is in it; one that is gone already is fine. It never follows links or crosses mounts.

    :raise HostError: something could not be removed
    """
    try:
        for entry in os.scandir(path):
            if entry.is_dir(follow_symlinks=False):
                remove_tree(entry.path)
            else:
                with suppress(FileNotFoundError):
                    os.unlink(entry.path)
        os.rmdir(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise HostError(f"remove {path}", error) from error


def connect_unix(link: "socket.socket", path: str) -> None:
    """Connects to a unix socket wherever it is: an address has 108 bytes, a state root may be deeper."""
    with short_path(path) as address:
        link.connect(address)


def listen_unix(path: str) -> Socket:
    """A socket that listens at ``path``.

    :raise HostError: it cannot be made
    """
    listener = Socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with short_path(path) as address:
            listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise HostError(f"listen on {path}", error) from error
    return listener


class short_path:  # noqa: N801 - called like a function
    """``path``, or, when it is too long for a socket's address, another name of it that works in this process."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._folder = -1

    def __enter__(self) -> str:
        if len(os.fsencode(self._path)) < _SOCKET_PATH_MAX:
            return self._path
        folder, name = os.path.split(self._path)
        self._folder = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._folder}/{name}"

    def __exit__(self, *_: object) -> None:
        if self._folder >= 0:
            os.close(self._folder)
