"""Waiting for a process in the foreground: signals are passed on, the terminal is put back, the exit status is the process's."""

import contextlib
import os
import signal
from collections.abc import Iterator

from runv.processes import Identity

_NOT_FORWARDED = {signal.SIGCHLD, signal.SIGURG, signal.SIGPIPE, signal.SIGTTIN, signal.SIGTTOU}
_SIGNALLED = 128


@contextlib.contextmanager
def held_signals() -> Iterator[None]:
    """Keeps signals pending while a process is made, so that none gets lost before somebody can pass it on."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def raw_terminal(wanted: bool) -> Iterator[None]:
    """Puts the terminal on standard input into raw mode, and back."""
    if not wanted:
        yield
        return
    import termios
    import tty

    before = termios.tcgetattr(0)
    tty.setraw(0)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


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
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, number)
