"""Kubernetes' ``$(NAME)`` in commands and variables; ``$$`` is a dollar sign. Pure text."""

import re
from collections.abc import Collection, Mapping

from hyperd.errors import InvalidError

# execve(2) takes no longer argument or variable.
LENGTH_MAX = (128 << 10) - 1

# As Kubernetes has it: $$, or $( up to the next ); whatever else follows a $ stays. The bound is for a text of many $( and no ).
_REFERENCE = re.compile(r"\$(?:(\$)|\(([^)]{0,256})\))")


def expand(text: str, values: Mapping[str, str], path: str, late: Collection[str] = ()) -> str:
    """``text`` with references to ``values`` replaced. What refers to nothing stays as it is.

    ``late``: names of variables that are known at the start only. If there are any, ``values`` are templates and so is the result: references to those
    stay, for ``expand`` at that time, and every other dollar sign is doubled (``quote``).

    :raise InvalidError: the result would be longer than a program can be given
    """
    if len(text) > LENGTH_MAX:
        raise InvalidError(f"{path}: longer than {LENGTH_MAX} bytes, which no program can be given")
    parts: list[str] = []
    length = position = 0
    for found in [*_REFERENCE.finditer(text), None]:
        between = text[position : found.start() if found else len(text)]
        parts.append(quote(between) if late else between)
        if found:
            parts.append(_replacement(found, values, late))
            position = found.end()
            length += len(parts[-1])
        length += len(parts[-2] if found else parts[-1])
        if length > LENGTH_MAX:
            raise InvalidError(f"{path}: longer than {LENGTH_MAX} bytes, which no program can be given")
    return "".join(parts)


def _replacement(found: re.Match[str], values: Mapping[str, str], late: Collection[str]) -> str:
    name = found[2]
    if found[1]:
        return "$$" if late else "$"
    if name in values:
        return values[name]
    return quote(found[0]) if late and name not in late else found[0]


def quote(text: str) -> str:
    """``text`` such that ``expand`` gives it back."""
    return text.replace("$", "$$")
