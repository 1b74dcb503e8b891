"""A part of a folder of the host, for a mount with ``sub_path``. The one module here that looks at the host."""

import os
import stat

from hyperd.errors import InvalidError


def part_of(folder: str, sub_path: str) -> str:
    """The path of ``sub_path`` in ``folder``; directories that are missing are made, as Kubernetes does.

    No symbolic link is followed: a container that writes to the volume may have put one there to get at the rest of the host. One that it puts there
    after this, while another container of its pod is made, is what this cannot see.

    :raise InvalidError: a part is a link, or no directory
    """
    try:
        current = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise InvalidError(f"cannot mount {sub_path} of {folder}: {os.strerror(error.errno or 0)}") from error
    try:
        for name in _names(sub_path):
            try:
                below = _below(current, name)
            except OSError as error:
                raise InvalidError(f"cannot mount {sub_path} of {folder}: {name}: {os.strerror(error.errno or 0)}") from error
            os.close(current)
            current = below
            if stat.S_ISLNK(os.fstat(current).st_mode):
                raise InvalidError(f"cannot mount {sub_path} of {folder}: {name} is a symbolic link")
    finally:
        os.close(current)
    return os.path.join(folder, *_names(sub_path))


def _names(sub_path: str) -> list[str]:
    names = [name for name in sub_path.split("/") if name not in ("", ".")]
    if ".." in names or sub_path.startswith("/"):
        raise InvalidError(f"{sub_path} does not stay in its volume")
    return names


def _below(folder: int, name: str) -> int:
    flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(name, flags, dir_fd=folder)
    except FileNotFoundError:
        os.mkdir(name, 0o755, dir_fd=folder)
        return os.open(name, flags, dir_fd=folder)
