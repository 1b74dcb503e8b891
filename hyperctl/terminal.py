"""The user's terminal: raw while a process of a container has it, and as it was on every way out."""

import os
import signal
import sys
import termios
import tty
from types import FrameType, TracebackType
from typing import Any

from hyperctl.errors import CtlError, Exit

_ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)
_NAMED = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}


def is_terminal(descriptor: int) -> bool:
    try:
        return os.isatty(descriptor)
    except OSError:
        return False


def size(descriptor: int) -> tuple[int, int] | None:
    """Rows and columns; None where it is no terminal, or does not know."""
    try:
        columns, rows = os.get_terminal_size(descriptor)
    except OSError:
        return None
    return (rows, columns) if rows and columns else None


def parse_keys(text: str) -> bytes:
    """The bytes of ``ctrl-p,ctrl-q`` or ``a,ctrl-]``; empty text is no keys at all. Raises CtlError."""
    keys = bytearray()
    for word in filter(None, text.split(",")):
        name = word.removeprefix("ctrl-")
        if name == word and len(word) == 1 and word.isascii():
            keys.append(ord(word))
        elif name != word and len(name) == 1 and "a" <= name.lower() <= "z":
            keys.append(ord(name.lower()) - ord("a") + 1)
        elif name != word and name in _NAMED:
            keys.append(_NAMED[name])
        else:
            raise CtlError(f"detach keys {text!r}: {word!r} is no key", hint="write letters or ctrl- and a letter, with commas between them")
    return bytes(keys)


class DetachKeys:
    """Looks for a sequence of keys in what is typed, whatever pieces it comes in."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._seen = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What the process is to get, and whether the sequence is complete. A beginning is held back until it is clear that it is none."""
        if not self._keys:
            return data, False
        passed = bytearray()
        for byte in data:
            if byte == self._keys[self._seen]:
                self._seen += 1
                if self._seen == len(self._keys):
                    self._seen = 0
                    return bytes(passed), True
                continue
            passed += self._keys[: self._seen]
            self._seen = 1 if byte == self._keys[0] else 0
            if not self._seen:
                passed.append(byte)
        return bytes(passed), False


class Raw:
    """Within it the terminal passes every key on. Signals that end the command raise Exit, so that it is put back; a stop puts it back until it goes on.

    To be used in the main thread alone.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._before: list[Any] = []
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> "Raw":
        self._before = termios.tcgetattr(self._descriptor)
        for number in _ENDING:
            self._handlers[number] = signal.signal(number, _end)
        self._handlers[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, self._stop)
        self._set_raw()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._restore()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _set_raw(self) -> None:
        tty.setraw(self._descriptor, termios.TCSANOW)

    def _restore(self) -> None:
        try:
            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)
        except termios.error:
            pass  # it was hung up: nothing is left to be put right

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._restore()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._set_raw()


def _end(number: int, _frame: FrameType | None) -> None:
    raise Exit(128 + number)


def write(descriptor: int, data: bytes) -> None:
    """All of it, also where somebody made the descriptor one that does not block."""
    if descriptor == 1:
        sys.stdout.flush()
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            import select

            select.select([], [descriptor], [])
