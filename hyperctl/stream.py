"""The streams of a process in a container, over a WebSocket: stdin, stdout, stderr, sizes of the terminal, and its end.

Each binary frame begins with a byte that says what it is; see ``docs/hyperd.md``.
"""

import json
import os
import queue
import select
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

from hyperctl import terminal
from hyperctl.client import api_error
from hyperctl.errors import ConnectError, CtlError, Exit, Unread
from hyperctl.output import note

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

STDIN, STDOUT, STDERR, CONTROL = range(4)
FORWARDED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM)

_INPUT = 1 << 16
# So many times may an impatient user press ctrl-c before the command gives up forwarding it.
_PATIENCE = 3


class Outcome(NamedTuple):
    """``code`` of the process; None where the user detached."""

    code: int | None


class Wanted(NamedTuple):
    """``send_signal``: what forwards one by its name; None: signals end the command as usual."""

    tty: bool
    stdin: bool
    detach_keys: bytes
    send_signal: Callable[[str], None] | None = None


def wants_input(tty: bool, interactive: bool) -> bool:
    """A terminal of the user's goes with one of the container; anything else is sent only when it was asked for."""
    return interactive or (tty and terminal.is_terminal(0))


class Session:
    """One WebSocket and what goes over it. ``fail`` may be called by any thread."""

    def __init__(self, connection: "ClientConnection", wanted: Wanted) -> None:
        self._socket = connection
        self._wanted = wanted
        self._detached = False
        self._failure: CtlError | None = None
        self._lost = 0
        self._raw = wanted.tty and wanted.stdin and terminal.is_terminal(0)

    def fail(self, error: CtlError) -> None:
        """Ends the session with an error."""
        self._failure = error
        self._socket.close()

    def run(self) -> Outcome:
        """Until the process ends or the user detaches. Raises CtlError, Unread where nobody reads the output, and Exit for a signal that ended the command."""
        with ExitStack() as stack:
            if self._raw:
                stack.enter_context(terminal.Raw(0))
            if self._wanted.tty:
                stack.enter_context(_handler(signal.SIGWINCH, lambda _number, _frame: self._resize()))
                self._resize()
            if not self._raw and self._wanted.send_signal is not None:
                stack.enter_context(_forwarding(self._wanted.send_signal))
            if self._wanted.stdin:
                stack.enter_context(self._sending())
            outcome = self._receive()
        if self._lost:
            note(f"hyperctl: {self._lost} bytes of output came too fast to be shown; `hyperctl logs` has them")
        return outcome

    def _receive(self) -> Outcome:
        from websockets.exceptions import ConnectionClosed

        code: int | None = None
        try:
            for message in self._socket:
                code = self._take(message)
                if code is not None:
                    return Outcome(code)
        except ConnectionClosed:
            pass
        if self._detached:
            return Outcome(None)
        if self._failure is not None:
            raise self._failure
        raise ConnectError("lost the stream to hyperd", hint="the process goes on without it; `hyperctl attach` and `hyperctl logs` find it again")

    def _take(self, message: str | bytes) -> int | None:
        """Writes what a frame brings; the code of the process if it is the last one."""
        data = message.encode() if isinstance(message, str) else message
        if not data:
            return None
        if data[0] in (STDOUT, STDERR):
            self._write(data[0], data[1:])
        elif data[0] == CONTROL:
            control = _control(data[1:])
            if isinstance(control.get("lost"), dict):
                self._lost += int(control["lost"].get("bytes") or 0)
            if isinstance(control.get("error"), dict):
                raise api_error(control["error"])
            if isinstance(control.get("exit"), dict):
                return exit_code(control["exit"])
        return None

    def _write(self, descriptor: int, data: bytes) -> None:
        """Raises Unread. The stream is given up then: a farewell would wait behind what else there is of it."""
        try:
            terminal.write(descriptor, data)
        except BrokenPipeError:
            with suppress(OSError):
                self._socket.socket.shutdown(socket.SHUT_RDWR)
            raise Unread from None

    def _resize(self) -> None:
        found = terminal.size(0) or terminal.size(1)
        if found is not None:
            self._send(bytes([CONTROL]) + json.dumps({"resize": list(found)}).encode())

    def _send(self, data: bytes) -> bool:
        from websockets.exceptions import ConnectionClosed

        try:
            self._socket.send(data)
        except (ConnectionClosed, OSError):
            return False
        return True

    @contextmanager
    def _sending(self) -> Iterator[None]:
        """Within it a thread sends what is typed. It ends with the block, even while nobody types."""
        reader, writer = os.pipe()
        thread = threading.Thread(target=self._send_input, args=(reader,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            os.close(writer)
            thread.join(1.0)  # a daemon thread: where the peer does not take what was typed, it is left
            if not thread.is_alive():
                os.close(reader)

    def _send_input(self, ended: int) -> None:
        keys = terminal.DetachKeys(self._wanted.detach_keys if self._raw else b"")
        while True:
            try:
                if ended in select.select([0, ended], [], [])[0]:
                    return
                typed = os.read(0, _INPUT)
            except BlockingIOError:
                continue
            except OSError:  # there is no stdin, or its terminal was hung up
                typed = b""
            passed, detach = keys.feed(typed)
            if (passed or not typed) and not self._send(bytes([STDIN]) + passed):
                return
            if detach:
                self._detached = True
                self._socket.close()
            if detach or not typed:
                return


def exit_code(found: dict[str, Any]) -> int:
    """That of a process, as a shell has it."""
    code = found.get("code")
    if isinstance(code, int):
        return code & 0xFF if 0 <= code < 256 else 1
    number = found.get("signal")
    return 128 + number if isinstance(number, int) else 1


def _control(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError:
        raise ConnectError("hyperd sent a control frame that is not JSON") from None
    return found if isinstance(found, dict) else {}


@contextmanager
def _handler(number: int, handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


@contextmanager
def _forwarding(send: Callable[[str], None]) -> Iterator[None]:
    """Within it signals go to ``send``, in their order, in a thread of their own."""
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    seen = {signal.SIGINT: 0, signal.SIGTERM: 0}

    def take(number: int, _frame: FrameType | None) -> None:
        if number in seen:
            seen[signal.Signals(number)] += 1
            if seen[signal.Signals(number)] >= _PATIENCE:
                raise Exit(128 + number)
        waiting.put(number)

    def forward() -> None:
        while number := waiting.get():
            try:
                send(signal.Signals(number).name.removeprefix("SIG"))
            except CtlError:
                pass  # not started yet, or ended: both are told otherwise

    threading.Thread(target=forward, daemon=True).start()
    with ExitStack() as stack:
        for number in FORWARDED:
            stack.enter_context(_handler(number, take))
        stack.callback(waiting.put, 0)
        yield
