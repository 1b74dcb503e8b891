"""Waiting for a process in the foreground: signals are passed on, the terminal is put back, the exit status is the process's."""

import os

from runv.processes import Identity
from runv.quick import signal, suppress

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from typing import Any

_NOT_FORWARDED = {signal.SIGCHLD, signal.SIGURG, signal.SIGPIPE, signal.SIGTTIN, signal.SIGTTOU}
_SIGNALLED = 128


class held_signals:  # noqa: N801 - called like a function
    """Keeps signals pending while a process is made, so that none gets lost before somebody can pass it on."""

    def __enter__(self) -> None:
        self._before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())

    def __exit__(self, *_: object) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._before)


class raw_terminal:  # noqa: N801 - called like a function
    """Puts the terminal on standard input into raw mode, and back."""

    def __init__(self, wanted: bool) -> None:
        self._wanted = wanted
        self._before: list[Any] = []

    def __enter__(self) -> None:
        if self._wanted:
            import termios
            import tty

            self._before = termios.tcgetattr(0)
            tty.setraw(0)

    def __exit__(self, *_: object) -> None:
        if self._wanted:
            import termios

            termios.tcsetattr(0, termios.TCSADRAIN, self._before)


def wait(process: Identity, *, terminal: bool) -> int:
    """Waits for a stand-in of ours and returns the exit status a shell would give: 128 and the number for a signal.

    Signals must be held (``held_signals``). With ``terminal`` the stand-in gets the terminal's own signals by itself.
    """
    skipped = _NOT_FORWARDED | ({signal.SIGWINCH} if terminal else set())
    while True:
        pid, status = os.waitpid(process.pid, os.WNOHANG)
        if pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else _SIGNALLED - code
        number = signal.sigwaitinfo(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}).si_signo
        if number not in skipped:
            with suppress(ProcessLookupError):
                os.kill(process.pid, number)
