"""Changing a running QEMU's mount namespace: sharing more folders, and taking them away again."""

import os
from collections.abc import Callable

from runv import linux
from runv.errors import HostError
from runv.processes import Identity
from runv.vm.qemu import Bind, attach

_MNT_DETACH = 2


def add_binds(qemu: Identity, share: str, binds: list[Bind]) -> None:
    """Shows more of the host in a running sandbox's share folder.

    :raise HostError: a source is missing, or QEMU is gone
    """
    try:
        trees = [(linux.open_tree(bind.source, recursive=bind.recursive), bind) for bind in binds]
    except OSError as error:
        raise HostError(f"share {error.filename}", error) from error
    _inside(qemu, lambda: attach(trees, share))
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

    _inside(qemu, remove)


def _remove_bind(path: str) -> None:
    linux.umount2(path, _MNT_DETACH)
    if os.path.isdir(path):
        os.rmdir(path)
    else:
        os.unlink(path)


def _inside(qemu: Identity, work: Callable[[], None]) -> None:
    """Runs ``work`` in a child that has joined QEMU's mount namespace; its ``OSError`` becomes ours."""
    try:
        namespace = os.open(f"/proc/{qemu.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise HostError("enter the sandbox: it has ended", error) from error
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
        raise HostError(f"share {what}", OSError(code, os.strerror(code)))
