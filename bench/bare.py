# SPDX-License-Identifier: Apache-2.0
"""The floors: the same kernel and QEMU with nothing of runv around them. How long until a guest answers a byte, booted and cloned."""

import os
import socket
import threading
import time
from pathlib import Path

from bench import programs
from bench.guest import Guest
from bench.timing import BenchError
from runv.settings import Settings
from runv.vm import qmp, template
from runv.vm.machine import Machine, Memory, Restore, Share


class Bare:
    """A machine with a trivial init. Everything it needs is made below ``folder``."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.folder = folder
        self.templates = folder / "templates"
        (folder / "share").mkdir(parents=True)
        self.initrd = programs.build_initrd("bare", folder)
        self._settings = settings

    def _machine(self, guest: Guest) -> Machine:
        share = Share("share", str(self.folder / "share"), "9p")
        return programs.machine(self._settings, self.initrd, guest.wires)._replace(shares=(share,))

    def boot(self) -> float:
        """Seconds from the start of QEMU to the first answer of a guest that boots."""
        with Guest(self.folder) as guest:
            return guest.start(self._machine(guest))

    def echo(self, megabytes: int) -> float:
        """Megabytes a second through the serial port of a booted guest, there and back."""
        with Guest(self.folder) as guest:
            guest.start(self._machine(guest))
            begin = time.monotonic()
            _echo(guest, megabytes << 20)
            return megabytes / (time.monotonic() - begin)

    def make_template(self) -> None:
        """Keeps a booted guest for ``clone``."""
        memory = os.memfd_create("bench-memory", os.MFD_CLOEXEC)
        state = os.memfd_create("bench-state", os.MFD_CLOEXEC)
        with Guest(self.folder) as guest:
            machine = self._machine(guest)._replace(memory=Memory(f"/proc/self/fd/{memory}", fd=memory))
            os.truncate(memory, machine.memory_mib << 20)
            guest.start(machine)
            folder = str(self.templates)
            qmp.save_state(guest.qmp_path, state, lambda: template.save(folder, machine, memory, state))
        os.close(memory)
        os.close(state)

    def clone(self) -> float:
        """Seconds from the start of QEMU to the first answer of a guest that a template holds."""
        with Guest(self.folder) as guest:
            booted = self._machine(guest)
            found = template.find(str(self.templates), booted)
            if found is None:
                raise BenchError("the template of the bare machine is not to be found")
            state = os.open(found.state, os.O_RDONLY | os.O_CLOEXEC)
            ours, theirs = socket.socketpair()
            ours.sendall(template.orders(state))
            machine = booted._replace(memory=Memory(found.memory, private=True), restore=Restore(theirs.fileno(), state))
            with ours, theirs:
                took = guest.start(machine)
            os.close(state)
            return took


def _echo(guest: Guest, count: int) -> None:
    """Sends ``count`` bytes and waits until as many have come back."""
    sender = threading.Thread(target=guest.near.sendall, args=(bytes(count),), daemon=True)
    sender.start()
    while count:
        data = guest.receive(min(count, 1 << 16))
        if not data:
            raise BenchError("the bare guest has ended")
        count -= len(data)
    sender.join()
