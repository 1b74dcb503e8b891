"""Translations: what an emulated processor has made of the guest's code, kept in a file from which later machines take it.

::

    FOLDER/translations-[<name>-]<kind>-<programs>     written by QEMU; it maps it privately, and takes a block where the guest's code is byte for byte what it was

Folder and owner are those of templates. One file serves machines of any size: QEMU looks at the code and not at the machine. It checks the file against
itself and the host's processor, and does without one that does not fit; one whose machine does not start is removed. What machines of a certain use have
translated has a name, as they take other ways than a rehearsal.
"""

import os
import zlib

from runv import VERSION
from runv.quick import NamedTuple, dumps, suppress
from runv.vm import template
from runv.vm.machine import Machine

# Each takes some 45 MB of tmpfs. Those that were not used for longest make room.
TRANSLATIONS_MAX = 4

_PREFIX = "translations-"


class Translations(NamedTuple):
    """One file. ``size``: the bytes that it takes; ``used``: when it was used last, in seconds since the epoch."""

    path: str
    name: str
    size: int
    used: float


def path_of(folder: str, machine: Machine, name: str = "") -> str:
    """Where the translations for machines like ``machine`` are, or go: same programs, same kind of threads. ``name``: of their use; empty for any."""
    files = [template.signature(path) for path in (machine.qemu, machine.kernel, machine.initrd)]
    kind = "parallel" if machine.parallel else "single"
    use = f"{name}-" if name else ""
    return os.path.join(folder, f"{_PREFIX}{use}{kind}-{zlib.crc32(dumps([VERSION, files]).encode()):08x}")


def find(folder: str, machine: Machine, *names: str) -> str:
    """The path of the translations for ``machine`` with the first of ``names`` (none: those of any use) of which there are some; empty where there are none."""
    if not template.is_ours(folder):
        return ""
    for name in names or ("",):
        path = path_of(folder, machine, name)
        with suppress(FileNotFoundError):
            os.utime(path)  # when they were last used
            return path
    return ""


def publish(new: str, path: str) -> Translations:
    """Gives a complete file its name (``path_of``), and removes those that are too many.

    :raise OSError: it is not there any more
    """
    os.rename(new, path)
    for old in listed(os.path.dirname(path))[TRANSLATIONS_MAX:]:
        discard(old.path)
    return _about(path)


def listed(folder: str) -> list[Translations]:
    """All there are, the one used last first."""
    if not template.is_ours(folder):
        return []
    found = []
    for name in os.listdir(folder):
        if name.startswith(_PREFIX):
            with suppress(FileNotFoundError):  # removed since
                found.append(_about(os.path.join(folder, name)))
    return sorted(found, key=lambda entry: entry.used, reverse=True)


def _about(path: str) -> Translations:
    status = os.stat(path)
    return Translations(path, os.path.basename(path), status.st_blocks * 512, status.st_mtime)


def discard(path: str) -> None:
    """Removes a file that did not do, if there is one. Machines that use it keep what they have mapped."""
    with suppress(FileNotFoundError):
        if path:
            os.unlink(path)


def destroy(folder: str) -> int:
    """Removes all of them; returns how many there were."""
    found = listed(folder)
    for entry in found:
        discard(entry.path)
    return len(found)
