"""Copies of files that are mostly holes. Blocking; sizes in bytes."""

import errno
import fcntl
import os

_FICLONE = 0x40049409
_NO_CLONE = {errno.EOPNOTSUPP, errno.EXDEV, errno.ENOTTY, errno.EINVAL, errno.ENOSYS}


def copy(source: str, target: str) -> None:
    """Makes ``target``, mode 0600, a copy of ``source``: one that shares its blocks where the file system can, else without its holes. It is on the disk then.

    :raise OSError: it exists already, or there is no space; it is removed then
    """
    made = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(source, "rb") as file:
            if not _clone(made, file.fileno()):
                _copy_data(made, file.fileno())
        os.fsync(made)
    except BaseException:
        os.unlink(target)
        raise
    finally:
        os.close(made)


def _clone(target: int, source: int) -> bool:
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno not in _NO_CLONE:
            raise
        return False
    return True


def _copy_data(target: int, source: int) -> None:
    size = os.fstat(source).st_size
    os.truncate(target, size)
    position = 0
    while position < size:
        try:
            position = os.lseek(source, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return  # nothing but a hole is left
        end = os.lseek(source, position, os.SEEK_HOLE)
        while position < end:
            copied = os.copy_file_range(source, target, end - position, position, position)
            if copied == 0:
                raise OSError(errno.EIO, "the file became shorter while it was copied")
            position += copied
