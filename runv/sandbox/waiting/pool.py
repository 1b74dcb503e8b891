"""Machines that wait: ``runv factory serve`` keeps them, ``create`` takes one by renaming its folder. Light: ``create`` imports it.

::

    POOL/ready/<name>/             the folder of a sandbox (``runv.sandbox.layout``) that nobody has yet, with
                      shape        what shaped its machine (``runv.sandbox.machine.shape.describe``); only an equal one is taken
    POOL/@sandboxes/<name>/        one that is being made, or removed

A machine that waits has claimed agent, its shares mounted, its ways to a container walked once, a network namespace of its own with a spare card in it, and
stands still (SIGSTOP). Who renames its folder into a state root has it: of two only one can. What is below POOL is nobody's.
"""

import errno
import os
import stat

from runv import cgroups
from runv.errors import HostError, StateError
from runv.files import locked_folder, read_text
from runv.processes import Identity
from runv.quick import signal, suppress
from runv.sandbox.layout import PROCESSES, SandboxFolder, sandboxes
from runv.sandbox.remove import end_sandbox
from runv.state import SANDBOXES

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from collections.abc import Callable

READY, SHAPE = "ready", "shape"


def is_ours(folder: str) -> bool:
    """Whether nobody else could have put a machine there."""
    try:
        status = os.lstat(folder)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022


def waiting(pool: str) -> list[str]:
    """The names of the machines that wait."""
    try:
        return sorted(os.listdir(os.path.join(pool, READY))) if is_ours(pool) else []
    except FileNotFoundError:
        return []


def path_of(pool: str, name: str, *names: str) -> str:
    """A file of a machine that waits."""
    return os.path.join(pool, READY, name, *names)


def shape_of(pool: str, name: str) -> str:
    """What shaped a machine that waits; empty when it was taken meanwhile."""
    try:
        return read_text(path_of(pool, name, SHAPE))
    except OSError:
        return ""


def take(pool: str, sandbox: SandboxFolder, describe: "Callable[[], str]") -> bool:
    """Makes ``sandbox``, which there is not yet, of a machine that waits. False when there is none that does.

    :param describe: what must have shaped it; asked only where one waits
    :raise StateError: a dead one cannot be removed
    """
    shape = ""
    for name in waiting(pool):
        shape = shape or describe()
        if shape_of(pool, name) != shape:
            continue
        try:
            os.rename(path_of(pool, name), sandbox.folder)
        except OSError as error:
            if error.errno == errno.EXDEV:  # the state root is on another file system
                return False
            continue  # somebody else has it
        if sandbox.alive():
            os.unlink(sandbox.path(SHAPE))
            return True
        end_sandbox(sandbox)
    return False


def wake(sandbox: SandboxFolder, container: str, groups: list[str]) -> Identity:
    """Lets a machine that was taken go on, as that of a container: in its cgroups. Returns QEMU.

    :raise StateError: it has ended
    :raise HostError: the kernel does not let it into a cgroup
    """
    qemu = sandbox.process("qemu.pid")
    if qemu is None:
        raise StateError("the machine that waited has ended")
    for name in PROCESSES:
        process = sandbox.process(name)
        if process is not None:
            cgroups.move(groups, process.pid)
    record = sandbox.load()
    record.container = container
    sandbox.save(record)
    with suppress(ProcessLookupError):
        os.kill(qemu.pid, signal.SIGCONT)
    return qemu


def remove(pool: str, name: str) -> bool:
    """Ends a machine that waits. False when somebody has taken it.

    :raise StateError: it does not die
    """
    taken = SandboxFolder(pool, name)
    try:
        os.rename(path_of(pool, name), taken.folder)
    except FileNotFoundError:
        return False
    end_sandbox(taken)
    return True


def clear(pool: str) -> int:
    """Ends all that wait; and those that nobody will ever finish, if no server is at work. Returns how many there were.

    :raise StateError: one does not die
    """
    count = sum(remove(pool, name) for name in waiting(pool))
    if is_ours(pool):
        with suppress(StateError, FileNotFoundError), locked_folder(pool, 0):
            count += remove_halves(pool)
    return count


def remove_halves(pool: str) -> int:
    """Removes what a server that was killed has left. The caller holds the lock of the pool."""
    found = sandboxes(pool)
    for sandbox in found:
        end_sandbox(sandbox)
    return len(found)


def is_served(pool: str) -> bool:
    """Whether somebody keeps machines there."""
    if not is_ours(pool):
        return False
    try:
        with locked_folder(pool, 0):
            return False
    except StateError:
        return True
    except FileNotFoundError:
        return False


def make_folder(pool: str) -> None:
    """:raise HostError: it cannot be made, or is not ours alone"""
    try:
        for folder in (pool, os.path.join(pool, READY), os.path.join(pool, SANDBOXES)):
            os.makedirs(folder, 0o700, exist_ok=True)
    except OSError as error:
        raise HostError(f"create pool folder {pool}", error) from error
    if not is_ours(pool):
        raise HostError(f"use pool folder {pool}", PermissionError(1, "it belongs to somebody else"))
