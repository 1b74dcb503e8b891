"""Signals by name or number, as ``kill`` takes them. Numbers are the guest's, which are the host's on one architecture."""

from runv.errors import UsageError
from runv.quick import signal

_LAST = 64


def signal_number(text: str) -> int:
    """``9``, ``KILL``, ``SIGKILL``, ``kill``: 9.

    :raise UsageError: there is no such signal
    """
    if text.isascii() and text.isdigit() and 0 <= int(text) <= _LAST:
        return int(text)
    name = text.upper()
    name = name if name.startswith("SIG") else f"SIG{name}"
    # The others beside them are called SIG_BLOCK and so on.
    found = getattr(signal, name, None) if not name.startswith("SIG_") else None
    if isinstance(found, int):
        return int(found)
    raise UsageError(f'unknown signal "{text}"')
