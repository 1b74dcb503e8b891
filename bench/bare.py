# SPDX-License-Identifier: Apache-2.0
"""The floors: the same kernel and QEMU with nothing of runv around them. How long until a guest answers a byte, booted and cloned."""

import os
import socket
import subprocess
import threading
import time
from pathlib import Path

from bench import programs
from bench.runtimes import SLOW
from bench.timing import BenchError
from runv.settings import Settings
from runv.vm import qmp, template
from runv.vm.cmdline import qemu_arguments
from runv.vm.machine import Machine, Memory, Restore, Share

_ANSWER_S = 60.0 * SLOW


class Bare:
    """A machine with a trivial init. Everything it needs is made below ``folder``."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.folder = folder
        self.templates = folder / "templates"
        (folder / "share").mkdir(parents=True)
        self.initrd = programs.build_initrd("bare", folder)
        self._settings = settings

    def _machine(self, link: int, monitor: int, console: int) -> Machine:
        share = Share("share", str(self.folder / "share"), "9p")
        return programs.machine(
            self._settings, self.initrd, link=link, monitor=monitor, console=console, share=share
        )

    def boot(self) -> float:
        """Seconds from the start of QEMU to the first answer of a guest that boots."""
        with _Run(self) as run:
            return run.start(run.machine)

    def echo(self, megabytes: int) -> float:
        """Megabytes a second through the serial port of a booted guest, there and back."""
        with _Run(self) as run:
            run.start(run.machine)
            begin = time.monotonic()
            run.echo(megabytes << 20)
            return megabytes / (time.monotonic() - begin)

    def make_template(self) -> None:
        """Keeps a booted guest for ``clone``."""
        memory = os.memfd_create("bench-memory", os.MFD_CLOEXEC)
        state = os.memfd_create("bench-state", os.MFD_CLOEXEC)
        with _Run(self) as run:
            machine = run.machine._replace(memory=Memory(f"/proc/self/fd/{memory}", fd=memory))
            os.truncate(memory, machine.memory_mib << 20)
            run.start(machine)
            folder = str(self.templates)
            qmp.save_state(run.qmp_path, state, lambda: template.save(folder, machine, memory, state))
        os.close(memory)
        os.close(state)

    def clone(self) -> float:
        """Seconds from the start of QEMU to the first answer of a guest that a template holds."""
        with _Run(self) as run:
            found = template.find(str(self.templates), run.machine)
            if found is None:
                raise BenchError("the template of the bare machine is not to be found")
            state = os.open(found.state, os.O_RDONLY | os.O_CLOEXEC)
            ours, theirs = socket.socketpair()
            ours.sendall(template.orders(state))
            machine = run.machine._replace(
                memory=Memory(found.memory, private=True), restore=Restore(theirs.fileno(), state)
            )
            with ours, theirs:
                took = run.start(machine)
            os.close(state)
            return took


class _Run:
    """One QEMU, killed at the end."""

    def __init__(self, bare: Bare) -> None:
        self.near, self._far = socket.socketpair()
        self.qmp_path = str(bare.folder / "qmp.sock")
        self._monitor = socket.socket(socket.AF_UNIX)
        Path(self.qmp_path).unlink(missing_ok=True)
        self._monitor.bind(self.qmp_path)
        self._monitor.listen(1)
        self._console = os.open(bare.folder / "console", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC)
        self.machine = bare._machine(self._far.fileno(), self._monitor.fileno(), self._console)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "_Run":
        return self

    def start(self, machine: Machine) -> float:
        """Starts QEMU; seconds until the guest has answered."""
        keep = [self._far.fileno(), self._monitor.fileno(), self._console, *(machine.restore or ())]
        keep += [machine.memory.fd] if machine.memory.fd >= 0 else []
        begin = time.monotonic()
        self._process = subprocess.Popen(
            qemu_arguments(machine), pass_fds=keep, stdin=subprocess.DEVNULL, stdout=self._console, stderr=self._console
        )
        self._ask()
        return time.monotonic() - begin

    def _ask(self) -> None:
        # QEMU holds the byte back until the guest has opened its port.
        self.near.settimeout(_ANSWER_S)
        self.near.send(b"?")
        if not self.near.recv(1):
            raise BenchError("the bare guest does not answer")

    def echo(self, count: int) -> None:
        """Sends ``count`` bytes and waits until as many have come back."""
        sender = threading.Thread(target=self.near.sendall, args=(bytes(count),), daemon=True)
        sender.start()
        while count:
            data = self.near.recv(min(count, 1 << 16))
            if not data:
                raise BenchError("the bare guest has ended")
            count -= len(data)
        sender.join()

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        for end in (self.near, self._far, self._monitor):
            end.close()
        os.close(self._console)

