# SPDX-License-Identifier: Apache-2.0
"""One QEMU with an init of the benchmark's, and the host's end of its serial port."""

import os
import socket
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from bench.runtimes import SLOW
from bench.timing import BenchError
from runv.vm.cmdline import qemu_arguments
from runv.vm.machine import Machine

_ANSWER_S = 60.0 * SLOW


class Wires(NamedTuple):
    """The descriptors of a machine that is about to be started: its serial port's, QMP's and the console's."""

    link: int
    monitor: int
    console: int


class Guest:
    """Killed at the end. ``near`` is what the guest reads and writes at its port; ``folder`` gets the sockets and the console."""

    def __init__(self, folder: Path) -> None:
        self.near, self._far = socket.socketpair()
        self.near.settimeout(_ANSWER_S)
        self.qmp_path = str(folder / "qmp.sock")
        self._log = folder / "console"
        self._monitor = socket.socket(socket.AF_UNIX)
        Path(self.qmp_path).unlink(missing_ok=True)
        self._monitor.bind(self.qmp_path)
        self._monitor.listen(1)
        self._console = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC)
        self.wires = Wires(self._far.fileno(), self._monitor.fileno(), self._console)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Guest":
        return self

    def start(self, machine: Machine, *more: str) -> float:
        """Starts QEMU, with ``more`` among its arguments; seconds until the guest has answered a byte.

        :raise BenchError: it does not
        """
        keep = [*self.wires, *(machine.restore or ()), *(fd for nic in machine.nics for fd in (*nic.fds, *nic.vhost_fds))]
        keep += [machine.memory.fd] if machine.memory.fd >= 0 else []
        begin = time.monotonic()
        self._process = subprocess.Popen(
            [*qemu_arguments(machine), *more], pass_fds=keep, stdin=subprocess.DEVNULL, stdout=self._console, stderr=self._console
        )
        self._far.close()  # so that the end of QEMU is the end of what comes
        # QEMU holds the byte back until the guest has opened its port.
        self.near.send(b"\n")
        if not self.receive(1):
            raise BenchError(f"the guest does not answer: {self._log.read_text(errors='replace').strip()[-500:]}")
        return time.monotonic() - begin

    def receive(self, size: int) -> bytes:
        """What the guest has written, at most ``size`` bytes; nothing when it has ended, or says nothing in time."""
        try:
            return self.near.recv(size)
        except (TimeoutError, ConnectionError):
            return b""

    @property
    def pid(self) -> int:
        """QEMU's."""
        assert self._process is not None
        return self._process.pid

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        for end in (self.near, self._far, self._monitor):
            end.close()
        os.close(self._console)
