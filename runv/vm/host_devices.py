"""What a machine needs of the host's kernel, opened for it: vhost devices, and the speed of the time stamp counter."""

import fcntl
import os
import struct

from runv.errors import HostError, VmError
from runv.files import read_text

_CID_TRIES = 32
_CID_FIRST = 3
_VHOST_VSOCK_SET_GUEST_CID = 0x4008AF60


def tsc_khz() -> int:
    """The speed of the host's time stamp counter, which TCG hands to the guest; 0 when it is not known.

    On a host that is itself a guest, and on processors with a constant counter, /proc/cpuinfo has it.
    """
    for line in read_text("/proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "cpu MHz":
            return int(float(value) * 1000)
    return 0


def open_vhost_net() -> int:
    """vhost-net for one card; -1 where the host's kernel has none, and QEMU carries the packets."""
    try:
        return os.open("/dev/vhost-net", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return -1


def claim_cid() -> tuple[int, int]:
    """An open vhost-vsock device that holds a free CID."""
    try:
        device = os.open("/dev/vhost-vsock", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise HostError("open /dev/vhost-vsock", error, hint="set transport to serial or auto") from error
    for _ in range(_CID_TRIES):
        # Not of the module secrets: its import takes longer than all of this.
        cid = _CID_FIRST + int.from_bytes(os.urandom(8), "big") % (2**32 - 2 - _CID_FIRST)
        try:
            fcntl.ioctl(device, _VHOST_VSOCK_SET_GUEST_CID, struct.pack("Q", cid))
            return device, cid
        except OSError:
            continue
    os.close(device)
    raise VmError("cannot find a free vsock context id")
