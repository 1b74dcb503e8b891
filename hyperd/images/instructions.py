"""What instructions of a Dockerfile change in an image's configuration, as ``commit --change`` takes them. Pure.

They are those that make no layer: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR.
"""

import posixpath
import re
import shlex
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from hyperd.errors import InvalidError
from hyperd.images.documents import ImageConfig

_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?")
_NAME = re.compile(r"[^\s=]+")
_SHELL = ["/bin/sh", "-c"]
_INSTRUCTIONS_MAX = 256
_HEALTH_TIMES = {"interval": "Interval", "timeout": "Timeout", "start-period": "StartPeriod", "start-interval": "StartInterval"}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ns|us|ms|[smh])")
_NANOSECONDS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}


def changes_of(config: ImageConfig, instructions: Sequence[str]) -> dict[str, Any]:
    """The fields that are other than in ``config``, as Docker names them, with their whole new values.

    :raise InvalidError: an instruction is unknown, or not understood
    """
    if len(instructions) > _INSTRUCTIONS_MAX:
        raise InvalidError(f"{len(instructions)} changes are more than {_INSTRUCTIONS_MAX}")
    now: dict[str, Any] = msgspec.to_builtins(config)
    changed: dict[str, Any] = {}
    for text in instructions:
        word, _, rest = text.strip().partition(" ")
        apply = _APPLY.get(word.upper())
        if apply is None:
            raise InvalidError(f"change {text[:60]!r}: unknown instruction", hint=f"there are {', '.join(_APPLY)}")
        if not rest.strip():
            raise InvalidError(f"change {text[:60]!r}: it says nothing")
        found = apply(now | changed, rest.strip())
        changed |= found
    return changed


def _words(text: str) -> list[str]:
    """The JSON list, or the words of a shell."""
    if text.startswith("["):
        try:
            return msgspec.json.decode(text, type=list[str])
        except msgspec.MsgspecError:
            raise InvalidError(f"change {text[:60]!r}: it must be a JSON list of texts") from None
    try:
        return shlex.split(text)
    except ValueError as error:
        raise InvalidError(f"change {text[:60]!r}: {error}") from None


def _program(text: str) -> list[str]:
    """A list as it is; anything else is for the shell."""
    return _words(text) if text.startswith("[") else [*_SHELL, text]


def _pairs(text: str) -> dict[str, str]:
    """``A=1 B="2 3"``, or the old ``A 1``."""
    first = text.split(None, 1)
    if "=" not in first[0]:
        if len(first) != 2:
            raise InvalidError(f"change {text[:60]!r}: it is written NAME=VALUE")
        return {first[0]: first[1]}
    pairs = {}
    for word in _words(text):
        name, equals, value = word.partition("=")
        if not equals or not _NAME.fullmatch(name):
            raise InvalidError(f"change {word[:60]!r}: it is written NAME=VALUE")
        pairs[name] = value
    return pairs


def _env(now: dict[str, Any], text: str) -> dict[str, Any]:
    known = dict(entry.partition("=")[::2] for entry in now.get("Env") or [])
    return {"Env": [f"{name}={value}" for name, value in (known | _pairs(text)).items()]}


def _labels(now: dict[str, Any], text: str) -> dict[str, Any]:
    return {"Labels": (now.get("Labels") or {}) | _pairs(text)}


def _expose(now: dict[str, Any], text: str) -> dict[str, Any]:
    ports = dict(now.get("ExposedPorts") or {})
    for word in text.split():
        found = _PORT.fullmatch(word)
        low, high = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
        if found is None or not 0 < low <= high < 65536:
            raise InvalidError(f"change EXPOSE {word[:60]!r}: not a port", hint="write 80, 53/udp or 8000-8010")
        ports |= {f"{port}/{found[3] or 'tcp'}": {} for port in range(low, high + 1)}
    return {"ExposedPorts": ports}


def _volume(now: dict[str, Any], text: str) -> dict[str, Any]:
    paths = _words(text)
    if not all(path.startswith("/") for path in paths):
        raise InvalidError(f"change VOLUME {text[:60]!r}: a volume is at a path from the root")
    return {"Volumes": (now.get("Volumes") or {}) | {path: {} for path in paths}}


def _healthcheck(_now: dict[str, Any], text: str) -> dict[str, Any]:
    """``[--interval=30s ...] CMD ...``, or NONE."""
    found: dict[str, Any] = {}
    while text.startswith("--"):
        flag, _, text = text.partition(" ")
        name, _, value = flag[2:].partition("=")
        text = text.lstrip()
        if name in _HEALTH_TIMES:
            found[_HEALTH_TIMES[name]] = _nanoseconds(value)
        elif name == "retries" and value.isdecimal():
            found["Retries"] = int(value)
        else:
            raise InvalidError(f"change HEALTHCHECK {flag[:60]!r}: not understood", hint=f"there are {', '.join(_HEALTH_TIMES)} and retries")
    kind, _, rest = text.partition(" ")
    if kind.upper() == "NONE" and not rest.strip() and not found:
        return {"Healthcheck": {"Test": ["NONE"]}}
    rest = rest.strip()
    if kind.upper() != "CMD" or not rest:
        raise InvalidError(f"change HEALTHCHECK {text[:60]!r}: it is written CMD COMMAND, or NONE")
    return {"Healthcheck": {"Test": ["CMD", *_words(rest)] if rest.startswith("[") else ["CMD-SHELL", rest], **found}}


def _nanoseconds(text: str) -> int:
    parts = _SPAN.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise InvalidError(f"change HEALTHCHECK {text[:60]!r}: not a span of time", hint="write 30s or 1m30s")
    return sum(int(float(number) * _NANOSECONDS[unit]) for number, unit in parts)


def _workdir(now: dict[str, Any], text: str) -> dict[str, Any]:
    return {"WorkingDir": posixpath.normpath(posixpath.join("/", now.get("WorkingDir") or "", text))}


_APPLY: dict[str, Callable[[dict[str, Any], str], dict[str, Any]]] = {
    "CMD": lambda _, text: {"Cmd": _program(text)},
    "ENTRYPOINT": lambda _, text: {"Entrypoint": _program(text)},
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _labels,
    "STOPSIGNAL": lambda _, text: {"StopSignal": text},
    "USER": lambda _, text: {"User": text},
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
