"""Copies of disks that are being made: who makes which, so that what somebody leaves who is killed can be found and ended.

``@sandboxes/<sandbox>/copying/<disk>`` has the maker's pid and start time, and the container.
"""

import os
from typing import NamedTuple

from runv.files import read_text, write_atomic
from runv.processes import Identity, identify
from runv.sandbox.layout import SandboxFolder, sandboxes

_FOLDER = "copying"


class Copy(NamedTuple):
    """One copy. ``serial``: the disk's."""

    serial: str
    maker: Identity
    container: str


def note(sandbox: SandboxFolder, serial: str, container: str) -> None:
    """Writes down that this process begins one."""
    os.makedirs(sandbox.path(_FOLDER), 0o700, exist_ok=True)
    own = identify(os.getpid())
    write_atomic(sandbox.path(_FOLDER, serial), f"{own.pid} {own.start} {container}")


def forget(sandbox: SandboxFolder, serial: str) -> None:
    """It was ended; that it was is fine."""
    try:
        os.unlink(sandbox.path(_FOLDER, serial))
    except FileNotFoundError:
        pass  # by somebody else


def abandoned(sandbox: SandboxFolder) -> list[Copy]:
    """Those whose makers are dead."""
    found = []
    try:
        names = sorted(os.listdir(sandbox.path(_FOLDER)))
    except FileNotFoundError:
        return []
    for serial in names:
        try:
            pid, start, container = read_text(sandbox.path(_FOLDER, serial)).split(" ", 2)
            copy = Copy(serial, Identity(int(pid), int(start)), container)
        except (FileNotFoundError, ValueError):
            continue  # ended meanwhile, or a temporary file
        if not copy.maker.alive():
            found.append(copy)
    return found


def abandoned_below(root: str) -> list[str]:
    """The containers below a state root with a disk of which somebody who is dead was making a copy."""
    return sorted({copy.container for sandbox in sandboxes(root) for copy in abandoned(sandbox)})
