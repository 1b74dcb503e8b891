"""Changing the mount namespace of a process that runs: sharing more folders with a QEMU, and taking them away again."""

import os

from runv import linux
from runv.errors import HostError
from runv.processes import Identity
from runv.vm.qemu import Bind, attach

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from collections.abc import Callable

_MNT_DETACH = 2


def add_binds(qemu: Identity, share: str, binds: list[Bind]) -> None:
    """Shows more of the host in a running sandbox's share folder.

    :raise HostError: a source is missing, or QEMU is gone
    """
    try:
        trees = [(bind.open(), bind) for bind in binds]
        for tree, _ in trees:
            # Copies of shared mounts are their peers: unmounting one later would unmount what is below the host's own.
            linux.make_slave(tree)
    except OSError as error:
        raise HostError(f"share {error.filename}", error) from error
    inside(qemu, lambda: attach(trees, share), "share")
    for tree, _ in trees:
        os.close(tree)


def remove_binds(qemu: Identity, share: str, container: str) -> None:
    """Takes a container's binds out of the share folder. What is still open in the guest stays until it is closed."""
    folder = os.path.join(share, container)

    def remove() -> None:
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            if os.path.ismount(path):  # the rootfs; other binds have a folder of their own around them
                _remove_bind(path)
                continue
            for entry in os.listdir(path):
                _remove_bind(os.path.join(path, entry))
            os.rmdir(path)
        os.rmdir(folder)

    inside(qemu, remove, "share")


def _remove_bind(path: str) -> None:
    linux.umount2(path, _MNT_DETACH)
    if os.path.isdir(path):
        os.rmdir(path)
    else:
        os.unlink(path)


def inside(process: Identity, work: "Callable[[], None]", action: str) -> None:
    """Runs ``work`` in a child that has joined the mount namespace of ``process``.

    :raise HostError: it has ended; or the ``OSError`` that ``work`` raised, as a failure to ``action``
    """
    try:
        namespace = os.open(f"/proc/{process.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise HostError(f"{action}: process {process.pid} has ended", error) from error
    report_read, report_write = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            linux.setns(namespace, linux.CLONE_NEWNS)
            work()
            status = 0
        except OSError as error:
            os.write(report_write, f"{error.errno or 5} {error.filename}".encode(errors="surrogateescape"))
        finally:
            os._exit(status)
    os.close(report_write)
    os.close(namespace)
    with os.fdopen(report_read, "rb") as report:
        failure = report.read().decode(errors="surrogateescape")
    _, status = os.waitpid(pid, 0)
    if failure or status:
        number, _, what = failure.partition(" ")
        code = int(number or 5)
        raise HostError(f"{action} {what}", OSError(code, os.strerror(code)))
