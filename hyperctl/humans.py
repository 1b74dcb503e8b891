"""Sizes and times as people read and write them. Pure."""

import re
from datetime import UTC, datetime, timedelta

from hyperctl.errors import CtlError

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)(i?b?)", re.IGNORECASE)
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdw])")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_AGES = ((86400 * 730, 86400 * 365, "y"), (86400 * 3, 86400, "d"), (3600 * 3, 3600, "h"), (60 * 3, 60, "m"))


def size(text: str, what: str = "size") -> int:
    """Bytes of ``512m``, ``1.5G``, ``64KiB`` or ``4096``: powers of 1024, as everywhere here. Raises CtlError."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise CtlError(f"{what} {text!r}: not a size", hint="write 4096, 512k, 64m or 1.5g")
    return int(float(found[1]) * _UNITS[found[2].lower()])


def mebibytes(text: str, what: str = "memory") -> int:
    """MiB of a size; a number alone is MiB already."""
    if text.strip().isdecimal():
        return int(text)
    number = size(text, what)
    if number < 1 << 20:
        raise CtlError(f"{what} {text}: a machine has at least 1 MiB", hint="a number alone is MiB")
    return number >> 20


def show_size(number: float) -> str:
    """``12.5 MiB``: three digits that count."""
    value = float(number)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1000 or unit == "TiB":
            break
        value /= 1024
    digits = f"{value:.0f}" if unit == "B" or value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
    return f"{digits} {unit}"


def parse_time(text: str) -> datetime | None:
    """An RFC 3339 time; None for none."""
    if not text:
        return None
    try:
        found = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def age(text: str, now: datetime) -> str:
    """``5m`` since a time; ``-`` where there is none."""
    then = parse_time(text)
    return "-" if then is None else show_span((now - then).total_seconds())


def show_span(seconds: float) -> str:
    """``47s``, ``12m``, ``30h``, ``5d``, ``3y``."""
    seconds = max(seconds, 0)
    for least, unit, letter in _AGES:
        if seconds >= least:
            return f"{int(seconds // unit)}{letter}"
    return f"{int(seconds)}s"


def span_s(text: str, what: str = "time") -> float:
    """Seconds of ``90``, ``1.5h`` or ``1h30m``. Raises CtlError."""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    parts = _SPAN.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise CtlError(f"{what} {text!r}: not a span of time", hint="write 90, 10m or 1h30m")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def moment(text: str, now: datetime) -> str:
    """The RFC 3339 time of ``10m`` (that long ago), of seconds since 1970, or of a date or time. Raises CtlError."""
    if re.fullmatch(r"\d{9,}(\.\d+)?", text):
        return stamp(datetime.fromtimestamp(float(text), UTC))
    parsed = parse_time(text) if "-" in text else None
    if parsed is None:
        try:
            return stamp(now - timedelta(seconds=span_s(text)))
        except (CtlError, OverflowError):
            raise CtlError(f"time {text!r}: not understood", hint="write 10m, 2026-01-31T12:00:00Z or seconds since 1970") from None
    if ("T" not in text and " " not in text) or not re.search(r"(Z|[+-]\d\d:?\d\d)$", text):
        parsed = parsed.replace(tzinfo=None).astimezone()  # as written where the user sits
    return stamp(parsed.astimezone(UTC))


def stamp(time: datetime) -> str:
    """A time as the API has it."""
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
