"""Signals by name or number, as Docker and Kubernetes take them."""

import re
import signal

from hyperd.errors import InvalidError

_NAMES = {item.name: item.value for item in signal.Signals} | {"SIGIOT": 6, "SIGPOLL": 29, "SIGCLD": 17}
_REALTIME = re.compile(r"SIGRT(MIN\+|MAX-)([0-9]{1,2})")


def name_of(text: str, path: str) -> str:
    """``TERM``, ``sigterm`` or ``15`` -> ``SIGTERM``.

    :raise InvalidError: it is no signal
    """
    number = number_of(text)
    if number is None:
        raise InvalidError(f"{path}: {text[:80]!r} is not a signal")
    for name, value in _NAMES.items():
        if value == number:
            return name
    return f"SIGRTMIN+{number - signal.SIGRTMIN}"


def number_of(text: str) -> int | None:
    """1 to 64, or None when it is no signal."""
    if text.isascii() and text.isdecimal():
        number = int(text[:4])
        return number if 1 <= number <= 31 or signal.SIGRTMIN <= number <= signal.SIGRTMAX else None
    name = text.upper() if text.upper().startswith("SIG") else f"SIG{text.upper()}"
    if found := _REALTIME.fullmatch(name):
        number = signal.SIGRTMIN + int(found[2]) if found[1] == "MIN+" else signal.SIGRTMAX - int(found[2])
        return number if signal.SIGRTMIN <= number <= signal.SIGRTMAX else None
    return _NAMES.get(name)
