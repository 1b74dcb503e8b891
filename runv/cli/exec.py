"""What ``exec`` runs: the process of a file, or the container's own with the flags' changes."""

import os

from runv.cli.parse import Parsed
from runv.errors import ConfigError, NotFoundError, UsageError, reason
from runv.quick import dumps, loads
from runv.sandbox.process import Options
from runv.spec.process import Process, parse_process
from runv.state import Container

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from typing import Any

_CAPABILITY_SETS = ("bounding", "effective", "permitted")


def process_of(container: Container, parsed: Parsed) -> "tuple[Process, dict[str, Any]]":
    """The process, checked, and as the guest is to get it.

    :raise ConfigError: the file is missing or wrong
    :raise NotFoundError: there is no such container
    """
    container.load()
    path = parsed.text("process")
    if path:
        return parse_process(read_file(path), os.path.basename(path))
    if len(parsed.arguments) < 2:
        raise ConfigError("process args cannot be empty")
    raw = _from_flags(_own_process(container), parsed)
    return parse_process(dumps(raw).encode(), "exec")


def read_file(path: str) -> bytes:
    """:raise ConfigError: it cannot be read"""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {reason(error)}") from error


def _own_process(container: Container) -> "dict[str, Any]":
    try:
        config = loads(read_file(container.path("config.json")).decode())
    except ConfigError:
        raise NotFoundError("container does not exist") from None
    return dict(config["process"])


def _from_flags(raw: "dict[str, Any]", parsed: Parsed) -> "dict[str, Any]":
    raw["args"] = parsed.arguments[1:]
    raw["terminal"] = parsed.on("tty")
    raw.pop("consoleSize", None)
    raw["env"] = [*(raw.get("env") or []), *parsed.many("env")]
    if parsed.text("cwd"):
        raw["cwd"] = parsed.text("cwd")
    if parsed.text("user"):
        raw["user"] = _user(parsed.text("user"))
    if parsed.many("additional-gids"):
        gids = [_id(gid) for gid in parsed.many("additional-gids")]
        raw["user"] = dict(raw.get("user") or {}) | {"additionalGids": gids}
    if parsed.on("no-new-privs"):
        raw["noNewPrivileges"] = True
    if parsed.many("cap"):
        raw["capabilities"] = _with_capabilities(raw.get("capabilities") or {}, parsed.many("cap"))
    return raw


def _user(text: str) -> dict[str, int]:
    uid, colon, gid = text.partition(":")
    return {"uid": _id(uid), "gid": _id(gid) if colon else 0}


def _id(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise UsageError(f"invalid id {text!r}: a number is needed")
    return int(text)


def _with_capabilities(held: "dict[str, Any]", added: list[str]) -> "dict[str, Any]":
    result = dict(held)
    for name in _CAPABILITY_SETS:
        result[name] = list(dict.fromkeys([*(held.get(name) or []), *added]))
    return result


def options_of(parsed: Parsed, process: Process) -> Options:
    """:raise ConfigError: flags that exclude each other, a terminal where there is none"""
    detach = parsed.on("detach")
    console_socket = parsed.text("console-socket")
    if process.terminal and detach and not console_socket:
        raise ConfigError("cannot allocate tty if runv will detach without setting console socket")
    if console_socket and not (process.terminal and detach):
        raise ConfigError("cannot use console socket if runv will not detach or allocate tty")
    if process.terminal and not detach and not os.isatty(0):
        raise ConfigError("cannot allocate tty: standard input is not a terminal")
    return Options(
        bundle="",
        pid_file=os.path.abspath(parsed.text("pid-file")) if parsed.text("pid-file") else "",
        console_socket=os.path.abspath(console_socket) if console_socket else "",
        foreground=not detach,
    )
