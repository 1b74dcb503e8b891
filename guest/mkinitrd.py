#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write the guest's initramfs: init and the few nodes that it starts from, as a cpio archive.

The same init gives the same bytes: no times, no owners, no inode numbers of this machine.
"""

import argparse
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# The kernel opens /dev/console for init before anything is mounted.
CONSOLE = (5, 1)
FOLDERS = ("dev", "proc", "sys", "run")


@dataclass(frozen=True)
class Entry:
    """One member of the archive; ``mode`` has the file type in it."""

    name: str
    mode: int
    content: bytes = b""
    device: tuple[int, int] = (0, 0)


def newc(entry: Entry, inode: int) -> bytes:
    """The bytes of one member in the format "newc" (the kernel's Documentation/driver-api/early-userspace)."""
    name = entry.name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    numbers = (inode, entry.mode, 0, 0, links, 0, len(entry.content), 0, 0, *entry.device, len(name), 0)
    header = b"070701" + b"".join(b"%08X" % number for number in numbers) + name
    return padded(header) + padded(entry.content)


def padded(part: bytes) -> bytes:
    """Up to the next multiple of four."""
    return part + bytes(-len(part) % 4)


def entries(init: bytes) -> Iterator[Entry]:
    """What the guest starts from; a folder comes before what is in it."""
    for folder in FOLDERS:
        yield Entry(folder, stat.S_IFDIR | 0o755)
    yield Entry("dev/console", stat.S_IFCHR | 0o600, device=CONSOLE)
    yield Entry("init", stat.S_IFREG | 0o755, init)


def archive(init: bytes) -> bytes:
    """The whole archive."""
    members = [*entries(init), Entry("TRAILER!!!", 0)]
    return b"".join(newc(entry, number) for number, entry in enumerate(members, 1))


def stripped(program: Path) -> bytes:
    """The program without its symbols: they would be unpacked into every guest's memory."""
    with tempfile.NamedTemporaryFile(prefix="runv-init-") as copy:
        subprocess.run(["strip", "-o", copy.name, str(program)], check=True)
        return Path(copy.name).read_bytes()


def write_if_changed(path: Path, content: bytes) -> None:
    """Write the file whole or not at all; keep the old one, and its time, where it says the same."""
    if path.exists() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temp = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temp.write_bytes(content)
        temp.replace(path)
    finally:
        temp.unlink(missing_ok=True)


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Write the guest's initramfs.")
    parser.add_argument("--init", type=Path, required=True, metavar="PROGRAM", help="becomes /init, without symbols")
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    try:
        write_if_changed(options.output, archive(stripped(options.init)))
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"mkinitrd: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
