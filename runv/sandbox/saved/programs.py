"""What a machine that was saved must find again: the same QEMU, kernel and initramfs, and, where the guest sees the host's processor, such a one."""

import zlib
from collections.abc import Mapping

from runv.errors import ConfigError, HostError
from runv.files import read_text
from runv.storage.copies import Content, content_at

NAMES = ("qemu", "kernel", "initrd")
_WORDS = {"qemu": "QEMU", "kernel": "kernel", "initrd": "initramfs"}


def contents(paths: Mapping[str, object]) -> dict[str, Content]:
    """What the programs at these paths are, by ``NAMES``.

    :raise HostError: one cannot be read
    """
    found = {}
    for name in NAMES:
        try:
            found[name] = content_at(str(paths[name]))
        except OSError as error:
            raise HostError(f"read {paths[name]}", error) from error
    return found


def check(folder: str, paths: Mapping[str, object], wanted: Mapping[str, Content]) -> None:
    """:raise ConfigError: one is another than the checkpoint in ``folder`` was made with"""
    for name, found in contents(paths).items():
        if found != wanted.get(name):
            raise ConfigError(f"cannot restore from {folder}: it was made with another {_WORDS[name]} than {paths[name]}")


def processor(accelerator: str) -> str:
    """What the guest sees of the host's processor: nothing where it is emulated."""
    if accelerator != "kvm":
        return ""
    lines = read_text("/proc/cpuinfo").partition("\n\n")[0].splitlines()
    wanted = [line for line in lines if line.startswith(("vendor_id", "cpu family", "model", "flags"))]
    return f"{zlib.crc32(chr(10).join(wanted).encode()):08x}"
