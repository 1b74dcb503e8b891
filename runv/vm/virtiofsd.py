"""virtiofsd: shares a folder with a guest from a process of its own, in QEMU's mount namespace."""

import os
import socket

from runv import cgroups, linux
from runv.processes import Identity, spawn


def start(
    program: str, folder: str, listener: socket.socket, *, qemu_pid: int, groups: list[str], pid_file: str, null_fd: int
) -> Identity:
    """Starts virtiofsd on ``folder`` as QEMU's mount namespace has it.

    :raise HostError: it could not be started
    """
    namespace = os.open(f"/proc/{qemu_pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)

    def prepare() -> None:
        cgroups.enter(groups)
        linux.setns(namespace, linux.CLONE_NEWNS)

    argv = [program, f"--fd={listener.fileno()}", "-o", f"source={folder}", "-o", "cache=none,xattr,announce_submounts"]
    try:
        return spawn(
            argv,
            env={"PATH": os.defpath},
            stdio=(null_fd, null_fd, null_fd),
            keep=[listener.fileno()],
            pid_file=pid_file,
            prepare=prepare,
        )
    finally:
        os.close(namespace)
