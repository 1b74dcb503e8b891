"""The kernel's list format, which the specification uses for CPUs and memory nodes: ``0-2,7``. Pure."""

from runv.errors import ConfigError

_MOST = 1 << 16


def number_list(text: str, path: str) -> set[int]:
    """``text`` as a set; ``path`` is the JSON path that messages name.

    :raise ConfigError: it is not of this format
    """
    found: set[int] = set()
    for part in text.split(",") if text.strip() else []:
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or int(last or first) > _MOST:
            raise ConfigError(f"config.json: {path}: invalid list {text!r}")
        found |= set(range(int(first), int(last or first) + 1))
    return found
