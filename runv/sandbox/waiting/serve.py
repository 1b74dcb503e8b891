"""``factory serve``: keeps machines waiting (``runv.sandbox.waiting.pool``), makes new ones when some were taken, and removes them at its end."""

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterator

from runv import linux
from runv.errors import ConfigError, RunvError, StateError
from runv.files import locked_folder, write_atomic
from runv.log import Log
from runv.processes import read_identity
from runv.sandbox.layout import SandboxFolder
from runv.sandbox.machine.factory import default_wanted
from runv.sandbox.machine.shape import describe
from runv.sandbox.machine.wanted import Wanted, waiting
from runv.sandbox.rehearsal.machine import rehearsed
from runv.sandbox.waiting import pool
from runv.settings import Settings

# A new one is made when nothing was taken for so long: until then the processors are the containers'.
_QUIET_S = 1.0
_AGAIN_S = 30.0
# `factory status` holds the lock for a moment, to see whether it can.
_LOCK_S = 1.0
_IN_MOVED_FROM = 0x40


def serve(settings: Settings, log: Log) -> None:
    """Keeps as many machines of the settings' size as the settings say, until SIGTERM or SIGINT; then removes them.

    :raise RunvError: there is a server already, or something that every machine needs is missing
    """
    folder, wanted = settings.text("pool_folder"), waiting(default_wanted(settings))
    if not folder:
        raise ConfigError(f"{settings.sources['pool_folder']}: there is no folder for machines that wait")
    if not limit(settings):
        raise ConfigError(f"{settings.sources['pool_memory_mib']}: pool_memory_mib is less than the memory of one machine, {wanted.memory_mib} MiB")
    pool.make_folder(folder)
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locked_folder(folder, _LOCK_S))
        except StateError as error:
            raise StateError(f"cannot keep machines in {folder}: another server does") from error
        _Server(folder, wanted, limit(settings), log).run()


def limit(settings: Settings) -> int:
    """How many machines may wait: the number that is wanted, or that for which there is memory."""
    return min(settings.number("pool_size"), settings.number("pool_memory_mib") // settings.number("memory_mib"))


class _Server:
    """The loop. It makes one machine at a time, and is told of machines that were taken or have died."""

    def __init__(self, folder: str, wanted: Wanted, most: int, log: Log) -> None:
        self._folder = folder
        self._wanted = wanted
        self._shape = describe(wanted)
        self._most = most
        self._log = log
        self._over = False
        self._not_before = 0.0

    def run(self) -> None:
        pool.remove_halves(self._folder)
        for name in pool.waiting(self._folder):
            pool.remove(self._folder, name)
        try:
            with self._events() as events:
                while not self._over:
                    self._reap()
                    if len(self._sound()) >= self._most:
                        self._wait(events, None)
                    elif (rest := self._not_before - time.monotonic()) > 0:
                        self._wait(events, rest)
                    else:
                        self._make()
        finally:
            for name in pool.waiting(self._folder):
                pool.remove(self._folder, name)
            self._reap()

    @contextlib.contextmanager
    def _events(self) -> Iterator[list[int]]:
        """Descriptors that can be read when something has happened: a signal, or that a machine was taken."""
        read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        watch = linux.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        linux.inotify_add_watch(watch, os.path.join(self._folder, pool.READY), _IN_MOVED_FROM)
        # Not by an exception: one between the steps of a start would leave what is not written down yet.
        handlers = {number: signal.signal(number, self._end) for number in (signal.SIGTERM, signal.SIGINT)}
        handlers[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
        before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        try:
            yield [read, watch]
        finally:
            signal.set_wakeup_fd(before)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            for fd in (read, write, watch):
                os.close(fd)

    def _end(self, *_: object) -> None:
        self._over = True

    def _wait(self, events: list[int], seconds: float | None) -> None:
        found, _, _ = select.select(events, [], [], seconds)
        for fd in found:
            os.read(fd, 65536)
        if events[1] in found:
            self._not_before = time.monotonic() + _QUIET_S

    def _reap(self) -> None:
        """What was started here stays our child, whoever has it now."""
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass

    def _sound(self) -> list[str]:
        """Those that wait and live. One that has died is removed."""
        sound = []
        for name in pool.waiting(self._folder):
            qemu = read_identity(pool.path_of(self._folder, name, "qemu.pid"))
            if qemu is not None and qemu.alive():
                sound.append(name)
            elif pool.remove(self._folder, name):
                self._log.warning(f"machine {name} has ended while it waited")
        return sound

    def _make(self) -> None:
        try:
            name = make(self._folder, self._wanted, self._shape, self._log)
        except RunvError as error:
            self._log.warning(f"cannot make a machine that waits: {error}; once more in {_AGAIN_S:.0f} s")
            self._not_before = time.monotonic() + _AGAIN_S
        else:
            self._log.debug(f"machine {name} waits")


def make(folder: str, wanted: Wanted, shape: str, log: Log) -> str:
    """Makes a machine and leaves it waiting, standing still; its name. It moves the calling process into the machine's network namespace.

    :raise RunvError: it cannot be made; nothing of it is left then
    """
    return rehearsed(folder, wanted, log, lambda sandbox: _leave_waiting(folder, sandbox, shape)).name


def _leave_waiting(folder: str, sandbox: SandboxFolder, shape: str) -> None:
    qemu = sandbox.process("qemu.pid")
    if qemu is None or not qemu.alive():
        raise StateError("the machine has ended")
    os.kill(qemu.pid, signal.SIGSTOP)
    write_atomic(sandbox.path(pool.SHAPE), shape)
    os.rename(sandbox.folder, pool.path_of(folder, sandbox.name))
