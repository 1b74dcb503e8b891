"""What a registry asks for: the header WWW-Authenticate (RFC 9110, 11.6.1)."""

import re
from collections.abc import Iterable
from typing import NamedTuple

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf"\s*({_TOKEN})\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|({_TOKEN}[^\s,]*))\s*(?:,|$)")
_SCHEME = re.compile(rf"\s*,?\s*({_TOKEN})(?:\s+|$)")
_LENGTH_MAX = 8192


class Challenge(NamedTuple):
    """``scheme`` and the keys of ``parameters`` are in small letters."""

    scheme: str
    parameters: dict[str, str]


def parse(headers: Iterable[str]) -> list[Challenge]:
    """All challenges of these headers; what cannot be read is left out."""
    found = []
    for header in headers:
        at, header = 0, header[:_LENGTH_MAX]
        while match := _SCHEME.match(header, at):
            at = match.end()
            parameters = {}
            while pair := _PARAMETER.match(header, at):
                value = re.sub(r"\\(.)", r"\1", pair[2]) if pair[2] is not None else pair[3]
                parameters[pair[1].lower()] = value
                at = pair.end()
            found.append(Challenge(match[1].lower(), parameters))
    return found
