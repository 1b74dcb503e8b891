"""A root file system of the container's own: a folder of the host, copied into an ext4 image that has no name. The machine has it, and with the machine it is gone."""

import os
import tempfile

from runv.errors import ConfigError, HostError, reason

_PROGRAM = "mkfs.ext4"
# Nobody mounts it after a crash: it needs no journal.
_OPTIONS = ["-q", "-F", "-m", "0", "-O", "^has_journal,^resize_inode", "-E", "lazy_itable_init=1,nodiscard"]
_TIMEOUT_S = 600.0
_BLOCK = 4096
# What a container may write, beyond what it was given: the file is sparse.
_ROOM = 1 << 30


def nameless_file(folder: str) -> int:
    """A file in ``folder`` that is gone with its last descriptor. Raises ``OSError``."""
    fd, path = tempfile.mkstemp(prefix=".runv-", dir=folder)
    os.unlink(path)
    return fd


def copied_root(rootfs: str) -> int:
    """A descriptor of an ext4 image with all that is in the folder ``rootfs``, and room for more. It is beside that folder.

    :raise ConfigError: it cannot be made
    """
    try:
        fd = nameless_file(os.path.dirname(rootfs))
    except OSError as error:
        raise ConfigError(f"cannot copy rootfs {rootfs}: {reason(error)}", hint="the image is made beside it") from error
    try:
        os.truncate(fd, (_size(rootfs) * 5 // 4 + _ROOM) // _BLOCK * _BLOCK)
        _fill(fd, rootfs)
    except OSError as error:
        os.close(fd)
        raise HostError(f"copy rootfs {rootfs}", error) from error
    except BaseException:
        os.close(fd)
        raise
    return fd


def _size(folder: str) -> int:
    """What a tree takes, in whole blocks. Raises ``OSError``."""
    found = _BLOCK
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            found += _size(entry.path)
        else:
            found += entry.stat(follow_symlinks=False).st_size + _BLOCK
    return found


def _fill(fd: int, rootfs: str) -> None:
    import subprocess

    command = [_PROGRAM, *_OPTIONS, "-d", rootfs, f"/proc/self/fd/{fd}"]
    try:
        done = subprocess.run(command, pass_fds=[fd], capture_output=True, timeout=_TIMEOUT_S, check=False)
    except FileNotFoundError:
        raise ConfigError(f"cannot copy rootfs {rootfs}: {_PROGRAM}: no such program", hint="on Debian: apt-get install e2fsprogs") from None
    except subprocess.TimeoutExpired:
        raise ConfigError(f"cannot copy rootfs {rootfs}: {_PROGRAM} did not end within {_TIMEOUT_S:.0f} s") from None
    if done.returncode:
        said = " ".join(done.stderr.decode(errors="replace").split())
        raise ConfigError(f"cannot copy rootfs {rootfs}: {said or f'{_PROGRAM} failed'}")
