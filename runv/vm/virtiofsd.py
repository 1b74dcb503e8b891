"""virtiofsd: shares a folder with a guest from a process of its own, in QEMU's mount namespace."""

import os

from runv import cgroups, linux
from runv.errors import VmError, reason
from runv.processes import Identity, spawn
from runv.quick import NamedTuple, socket

# With cache=none no file could be mapped shared. This way what is cached of a file's data lasts until its time of change or size is another,
# which is looked at each time; the one in Rust has no say in how often, and looks once a second.
_C_OPTIONS = "cache=auto,timeout=0,xattr,posix_acl,announce_submounts"
_RUST_OPTIONS = ("--cache=auto", "--xattr", "--posix-acl", "--announce-submounts", "--log-level=error")
_VERSION_TIMEOUT_S = 10.0


class Virtiofsd(NamedTuple):
    """A virtiofsd. ``rust``: it is the one of the virtio-fs project, and not QEMU's own, which ended with QEMU 7.2."""

    program: str
    rust: bool

    def arguments(self, fd: int, folder: str) -> list[str]:
        """Its command line, to serve ``folder`` to whoever connects to ``fd``. Pure."""
        if self.rust:
            return [self.program, f"--fd={fd}", f"--shared-dir={folder}", *_RUST_OPTIONS]
        return [self.program, f"--fd={fd}", "-o", f"source={folder}", "-o", _C_OPTIONS]


def find(program: str) -> Virtiofsd:
    """Asks a virtiofsd which of the two it is.

    :raise VmError: it is not there, or none
    """
    import subprocess

    try:
        done = subprocess.run([program, "--version"], capture_output=True, timeout=_VERSION_TIMEOUT_S, check=False)
    except OSError as error:
        hint = "on Debian: apt-get install qemu-system-common, or virtiofsd from 13 on; the setting virtiofsd says where it is"
        raise VmError(f"cannot run virtiofsd {program}: {reason(error)}", hint=hint) from error
    except subprocess.TimeoutExpired as error:
        raise VmError(f"cannot run virtiofsd {program}: it does not tell its version") from error
    words = done.stdout.decode(errors="replace").split()[:2]
    if words[:1] != ["virtiofsd"] or len(words) == 1:
        raise VmError(f"cannot use {program} as virtiofsd: it does not call itself that")
    return Virtiofsd(program, rust=words[1] != "version")


def start(
    program: Virtiofsd, folder: str, listener: socket.socket, *, qemu_pid: int, groups: list[str], pid_file: str, null_fd: int, shim: str = ""
) -> Identity:
    """Starts virtiofsd on ``folder`` as QEMU's mount namespace has it.

    :param shim: a library to load into it; empty for none
    :raise HostError: it could not be started
    """
    namespace = os.open(f"/proc/{qemu_pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return spawn(
            program.arguments(listener.fileno(), folder),
            env={"PATH": os.defpath} | ({"LD_PRELOAD": shim} if shim else {}),
            stdio=(null_fd, null_fd, null_fd),
            keep=[listener.fileno()],
            pid_file=pid_file,
            entry=cgroups.Entry(groups),
            prepare=lambda: linux.setns(namespace, linux.CLONE_NEWNS),
        )
    finally:
        os.close(namespace)
