"""Where the daemon is and how it is spoken to. An option goes before the environment, that before the file, that before the default."""

import os
from typing import NamedTuple

from hyperctl.errors import CtlError

DEFAULT_HOST = "unix:///run/hyperd/hyperd.sock"
DEFAULT_PORT = 8446
DEFAULT_DETACH_KEYS = "ctrl-p,ctrl-q"
DEFAULT_TIMEOUT_S = 600.0

# The names in the file, and those in the environment.
VARIABLES = {
    "host": "HYPER_HOST",
    "tlscacert": "HYPER_TLSCACERT",
    "tlscert": "HYPER_TLSCERT",
    "tlskey": "HYPER_TLSKEY",
    "detach_keys": "HYPER_DETACH_KEYS",
    "timeout_s": "HYPER_TIMEOUT_S",
}


class Settings(NamedTuple):
    """``host`` is ``unix:///path`` or ``tcp://name[:port]``. The three paths are of PEM files, or empty. ``timeout_s``: for one answer."""

    host: str = DEFAULT_HOST
    tlscacert: str = ""
    tlscert: str = ""
    tlskey: str = ""
    detach_keys: str = DEFAULT_DETACH_KEYS
    timeout_s: float = DEFAULT_TIMEOUT_S


class Endpoint(NamedTuple):
    """``path`` of a Unix socket, or ``name`` and ``port``."""

    path: str = ""
    name: str = ""
    port: int = 0


def load(options: dict[str, str | None], environ: dict[str, str]) -> Settings:
    """The settings in force. Raises CtlError for a file or a value that cannot be."""
    values: dict[str, object] = dict(_from_file(_config_path(environ)))
    for name, variable in VARIABLES.items():
        if environ.get(variable):
            values[name] = environ[variable]
        if options.get(name) is not None:
            values[name] = options[name]
    timeout = values.pop("timeout_s", DEFAULT_TIMEOUT_S)
    try:
        timeout_s = float(str(timeout))
    except ValueError:
        timeout_s = 0.0
    if not 0 < timeout_s < 1e9:
        raise CtlError(f"timeout_s {timeout}: it is a number of seconds above 0")
    texts = {name: os.path.expanduser(str(value)) for name, value in values.items()}
    settings = Settings(timeout_s=timeout_s, **texts)
    endpoint(settings.host)
    return settings


def endpoint(host: str) -> Endpoint:
    """What a host names. Raises CtlError."""
    if host.startswith("unix://"):
        path = host.removeprefix("unix://")
        if path.startswith("/"):
            return Endpoint(path=path)
    elif host.startswith("/"):
        return Endpoint(path=host)
    elif host.startswith("tcp://"):
        name, colon, port = host.removeprefix("tcp://").rstrip("/").rpartition(":")
        if not colon or port.endswith("]"):
            name, port = host.removeprefix("tcp://").rstrip("/"), str(DEFAULT_PORT)
        if name and port.isdecimal() and 0 < int(port) < 65536:
            return Endpoint(name=name.strip("[]"), port=int(port))
    raise CtlError(f"host {host!r}: not understood", hint="it is unix:///path/of/socket or tcp://name:port")


def _config_path(environ: dict[str, str]) -> str:
    if environ.get("HYPER_CONFIG"):
        return environ["HYPER_CONFIG"]
    base = environ.get("XDG_CONFIG_HOME") or os.path.join(environ.get("HOME") or "/", ".config")
    return os.path.join(base, "hyperctl", "config.toml")


def _from_file(path: str) -> dict[str, object]:
    try:
        with open(path, "rb") as file:
            data = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise CtlError(f"cannot read {path}: {error.strerror}") from None
    import tomllib

    try:
        values = tomllib.loads(data.decode())
    except ValueError as error:
        raise CtlError(f"cannot read {path}: {error}") from None
    unknown = sorted(set(values) - set(VARIABLES))
    if unknown:
        raise CtlError(f"{path}: unknown setting {unknown[0]}", hint=f"there are {', '.join(VARIABLES)}")
    for name, value in values.items():
        if not isinstance(value, str | int | float) or isinstance(value, bool):
            raise CtlError(f"{path}: {name}: it is a text or a number")
    return values
