# SPDX-License-Identifier: Apache-2.0
"""A guest that has the same kernel, shares, disks and cards as runv's, and nothing else of runv: its init does what a probe does in a container."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from bench import programs, usage
from bench.guest import Guest
from bench.timing import BenchError, parse_report
from runv.settings import Settings
from runv.vm import virtiofsd
from runv.vm.machine import Nic, Share

# As runv mounts it.
_9P_OPTIONS = "trans=virtio,version=9p2000.L,msize=512000,cache=mmap,posixacl"


class Plain:
    """Makes such guests; ``folder`` gets what they need."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self._settings = settings
        self._initrd = programs.build_initrd("plain", folder)

    @contextlib.contextmanager
    def shared(self, kind: str, folder: Path) -> Iterator["Files"]:
        """One that has a folder of the host's mounted, by 9p or virtiofs."""
        if kind == "9p":
            share = Share("data", str(folder), "9p")
            with self._running({"type": "9p", "source": "data", "options": _9P_OPTIONS}, share=share) as guest:
                yield Files(guest)
            return
        path = str(self.folder / "fs.sock")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen(1)
            server = self._virtiofsd(folder, listener)
        try:
            with self._running({"type": "virtiofs", "source": "data"}, share=Share("data", str(folder), kind, path)) as guest:
                yield Files(guest, server)
        finally:
            # It ends with QEMU, which has ended.
            os.waitpid(server, 0)
            os.unlink(path)

    def _virtiofsd(self, folder: Path, listener: socket.socket) -> int:
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            return virtiofsd.start(
                virtiofsd.find(self._settings.text("virtiofsd")),
                str(folder),
                listener,
                qemu_pid=os.getpid(),
                groups=[],
                pid_file=str(self.folder / "virtiofsd.pid"),
                null_fd=null,
            ).pid
        finally:
            os.close(null)

    @contextlib.contextmanager
    def with_disks(self, kind: str, *images: Path) -> Iterator["Files"]:
        """One that has images attached, as runv attaches them, and the first mounted if ``kind`` is ``ext4``; if it is ``layers``, the second over
        the first."""
        disks = ["-device", "virtio-scsi-pci,id=disks,bus=disks-port,num_queues=1"]
        for number, image in enumerate(images):
            fixed = "on" if kind == "layers" and number == 0 else "off"
            file = f"file.driver=file,file.filename={image},file.aio=threads,file.discard=unmap,file.read-only={fixed}"
            node = f"driver=raw,node-name=disk{number},discard=unmap,read-only={fixed},{file}"
            disks += ["-blockdev", node, "-device", f"scsi-hd,bus=disks.0,scsi-id=0,lun={number},drive=disk{number},rotation_rate=1"]
        with self._running({"type": kind, "source": "/dev/sda"}, *disks) as guest:
            yield Files(guest)

    @contextlib.contextmanager
    def with_card(self, card: Nic, address: str) -> Iterator[Guest]:
        """One that serves probes on port 7000 of its card's IPv4 address."""
        with self._running({"type": "net", "address": address}, card=card) as guest:
            yield guest

    @contextlib.contextmanager
    def _running(self, words: dict[str, str], *more: str, share: Share | None = None, card: Nic | None = None) -> Iterator[Guest]:
        with Guest(self.folder) as guest:
            machine = programs.machine(self._settings, self._initrd, guest.wires)._replace(
                kernel_parameters=" ".join(f"probe_{name}={value}" for name, value in words.items()),
                shares=(share,) if share else (),
                nics=(card,) if card else (),
            )
            guest.start(machine, *more)
            yield guest


class Files:
    """Asks a guest for its measures of files. ``servers``: processes that work for it."""

    def __init__(self, guest: Guest, *servers: int) -> None:
        self._guest = guest
        self._processes = [guest.pid, *servers]

    def measure(self, megabytes: int, count: int) -> dict[str, float]:
        """What ``probe files`` says, and ``cpu``.

        :raise BenchError: the guest cannot, or does not answer
        """
        return usage.with_cpu(self._processes, lambda: self._ask(megabytes, count))

    def _ask(self, megabytes: int, count: int) -> dict[str, float]:
        self._guest.near.send(f"{megabytes} {count}\n".encode())
        said = b""
        while not said.endswith(b"\n\n"):
            data = self._guest.receive(4096)
            if not data:
                raise BenchError("the plain guest does not answer")
            said += data
        return parse_report(said.decode().strip())
