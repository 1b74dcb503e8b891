"""Durations as Go writes them, and so runc's users."""

import re

from runv.errors import UsageError

_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(text: str) -> float:
    """``1m30s``, ``500ms``, ``0``: how many seconds.

    :raise UsageError: it is no duration
    """
    if text == "0":
        return 0.0
    parts = list(_PART.finditer(text))
    if not parts or "".join(part[0] for part in parts) != text:
        raise UsageError(f"invalid duration {text!r}", hint="it has units, as in 500ms or 1m30s")
    return sum(float(part[1]) * _UNITS_S[part[2]] for part in parts)
