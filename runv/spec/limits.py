"""What a document may have to be carried into a guest: the agent's parser has limits (docs/agent-protocol.md, "Frames"), and closes the connection above them."""

from runv.errors import ConfigError

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from typing import Any

# A little less than the agent's: the request around the document has values and levels too.
VALUES_MAX = 65000
DEPTH_MAX = 56
BYTES_MAX = 4_000_000

_INTEGERS = (range(-(2**63), 2**63), range(10**19, 2**64))


def check_size(data: bytes, name: str) -> None:
    """:raise ConfigError: the text is too long for a guest"""
    if len(data) > BYTES_MAX:
        raise ConfigError(f"{name} has {len(data)} bytes; a guest takes at most {BYTES_MAX}")


def check_limits(document: "Any", name: str, path: str) -> None:
    """Checks a decoded JSON value, which ``name`` and ``path`` call.

    :raise ConfigError: it is too large or too deep, or has an integer or a text that the guest cannot take
    """
    count = 0
    level: list[tuple[str, Any]] = [(path, document)]
    for _ in range(DEPTH_MAX):
        count += sum(_weight(value) for _, value in level)
        if count > VALUES_MAX:
            raise ConfigError(f"{name}: {path} has more than {VALUES_MAX} values")
        level = [member for where, value in level for member in _members(value, name, where)]
        if not level:
            return
    raise ConfigError(f"{name}: {level[0][0]} is nested deeper than {DEPTH_MAX} levels")


def _weight(value: "Any") -> int:
    """As the agent counts, without parsing: brackets that open, and commas."""
    return max(len(value), 1) if isinstance(value, (dict, list)) else 0


def _members(value: "Any", name: str, path: str) -> "list[tuple[str, Any]]":
    if isinstance(value, dict):
        for key in value:
            _check_text(key, name, path)
        return [(f"{path}.{key}", member) for key, member in value.items()]
    if isinstance(value, list):
        return [(f"{path}[{index}]", member) for index, member in enumerate(value)]
    if isinstance(value, str):
        _check_text(value, name, path)
    elif isinstance(value, int) and not any(value in allowed for allowed in _INTEGERS):
        raise ConfigError(f"{name}: {path}: {value} does not fit 64 bits")
    return []


def _check_text(text: str, name: str, path: str) -> None:
    if "\0" in text:
        raise ConfigError(f"{name}: {path}: {text!r} contains a zero byte")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise ConfigError(f"{name}: {path}: {text!r} contains half a character")
