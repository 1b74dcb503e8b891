"""virtiofsd: shares a folder with a guest from a process of its own, in QEMU's mount namespace."""

import os
import socket

from runv import cgroups, linux
from runv.processes import Identity, spawn

# With cache=none no file could be mapped shared. This way what is cached of a file's data lasts until its time of change or size is another,
# which is looked at each time.
_OPTIONS = "cache=auto,timeout=0,xattr,posix_acl,announce_submounts"


def start(
    program: str, folder: str, listener: socket.socket, *, qemu_pid: int, groups: list[str], pid_file: str, null_fd: int, shim: str = ""
) -> Identity:
    """Starts virtiofsd on ``folder`` as QEMU's mount namespace has it.

    :param shim: a library to load into it; empty for none
    :raise HostError: it could not be started
    """
    namespace = os.open(f"/proc/{qemu_pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)

    def prepare() -> None:
        cgroups.enter(groups)
        linux.setns(namespace, linux.CLONE_NEWNS)

    argv = [program, f"--fd={listener.fileno()}", "-o", f"source={folder}", "-o", _OPTIONS]
    try:
        return spawn(
            argv,
            env={"PATH": os.defpath} | ({"LD_PRELOAD": shim} if shim else {}),
            stdio=(null_fd, null_fd, null_fd),
            keep=[listener.fileno()],
            pid_file=pid_file,
            prepare=prepare,
        )
    finally:
        os.close(namespace)
