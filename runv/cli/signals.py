"""Signals by name or number, as ``kill`` takes them. Numbers are the guest's, which are the host's on one architecture."""

import signal

from runv.errors import UsageError

_LAST = 64


def signal_number(text: str) -> int:
    """``9``, ``KILL``, ``SIGKILL``, ``kill``: 9.

    :raise UsageError: there is no such signal
    """
    if text.isascii() and text.isdigit() and 0 <= int(text) <= _LAST:
        return int(text)
    name = text.upper()
    found = getattr(signal, name if name.startswith("SIG") else f"SIG{name}", None)
    if isinstance(found, signal.Signals):
        return int(found)
    raise UsageError(f'unknown signal "{text}"')
