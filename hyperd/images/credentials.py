"""Who we are to registries: what ``login`` kept, Docker's and podman's files, and credential helpers."""

import asyncio
import base64
import binascii
import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from hyperd.errors import InvalidError, UnavailableError
from hyperd.images.references import DEFAULT_HOST
from hyperd.images.settings import ImageSettings
from hyperd.sealing import Seal

_DOCKER_HUB = ("https://index.docker.io/v1/", "index.docker.io", "docker.io", "registry-1.docker.io")
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HELPER_TIMEOUT_S = 15.0
_FILE_MAX = 1 << 20
_SEALED, _PURPOSE = "sealed", "hyperd credentials of registries"


class Credentials(NamedTuple):
    """A name with a password, or a token: ``identity_token`` is exchanged for others, ``registry_token`` is sent as it is."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""

    def __repr__(self) -> str:
        return f"Credentials({self.username!r})"  # secrets do not belong into logs


class Keyring:
    """Looks credentials up anew each time: files change, tokens of helpers expire.

    :param seal: for what ``keep`` writes, in a file of its own; a file that the settings name is Docker's in form, as others may read it
    """

    def __init__(self, own: Path, settings: ImageSettings, seal: Seal | None = None) -> None:
        self._own = Path(settings.auth_file) if settings.auth_file else own
        self._settings = settings
        self._seal = None if settings.auth_file else seal

    async def find(self, host: str, path: str = "") -> Credentials | None:
        """For a repository of a registry. None: nobody knows any.

        :raise UnavailableError: a file cannot be read, or a helper fails
        """
        for file in self._files():
            config = self._load(file)
            if config is None:
                continue
            found = await self._in_config(config, file, host, path)
            if found is not None:
                return found
        return None

    async def _in_config(self, config: dict[str, Any], file: Path, host: str, path: str) -> Credentials | None:
        helpers = _table(config, "credHelpers")
        for name in _names(host):
            helper = helpers.get(name) or config.get("credsStore")
            if isinstance(helper, str) and helper:
                found = await _ask_helper(helper, name)
                if found is not None:
                    return found
        entries = _table(config, "auths")
        plain = {_bare(key): value for key, value in entries.items()} | entries
        for key in _keys(host, path):
            if isinstance(plain.get(key), dict):
                found = _of_entry(plain[key], file, key)
                if found is not None:
                    return found
        return None

    def _files(self) -> Iterator[Path]:
        if self._settings.docker_config:
            yield Path(self._settings.docker_config)
        yield self._own
        if folder := os.environ.get("DOCKER_CONFIG"):
            yield Path(folder) / "config.json"
        else:
            with contextlib.suppress(RuntimeError):  # there is no home
                yield Path.home() / ".docker/config.json"
        if path := os.environ.get("REGISTRY_AUTH_FILE"):
            yield Path(path)
        if folder := os.environ.get("XDG_RUNTIME_DIR"):
            yield Path(folder) / "containers/auth.json"

    def keep(self, host: str, credentials: Credentials) -> None:
        """Remembers what was tried out."""
        text = base64.b64encode(f"{credentials.username}:{credentials.password}".encode()).decode()
        self._change(lambda entries: entries.update({_names(host)[0]: {"auth": text}}))

    def forget(self, host: str) -> bool:
        """Whether there was anything to forget. Only what ``keep`` wrote is."""
        gone: list[object] = []
        self._change(lambda entries: gone.append(entries.pop(_names(host)[0], None)))
        return gone != [None]

    def seal_up(self) -> None:
        """Seals what was kept in clear.

        :raise UnavailableError: the file cannot be read or written
        """
        if self._seal is not None and _SEALED not in (_read(self._own) or {_SEALED: ""}):
            self._change(lambda entries: None)

    def _load(self, file: Path) -> dict[str, Any] | None:
        config = _read(file)
        if config is None or self._seal is None or file != self._own or _SEALED not in config:
            return config
        try:
            found = json.loads(self._seal.open(base64.b64decode(str(config[_SEALED]), validate=True), _PURPOSE))
        except ValueError as error:
            raise UnavailableError(f"cannot read {file}: it is damaged", hint="remove it, and log in anew") from error
        return found if isinstance(found, dict) else {}

    def _document(self, config: dict[str, Any]) -> dict[str, Any]:
        """What is written of it."""
        if self._seal is None:
            return config
        return {_SEALED: base64.b64encode(self._seal.close(json.dumps(config).encode(), _PURPOSE)).decode()}

    def _change(self, change: Any) -> None:
        config = self._load(self._own) or {}
        entries = _table(config, "auths")
        change(entries)
        temporary = self._own.with_name(f".{self._own.name}.{os.getpid()}")
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(fd, "w") as file:
                json.dump(self._document(config | {"auths": entries}), file)
                file.flush()
                os.fsync(fd)
            temporary.rename(self._own)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise UnavailableError(f"cannot write {self._own}: {error.strerror}") from error


def _names(host: str) -> tuple[str, ...]:
    return _DOCKER_HUB if host == DEFAULT_HOST else (host,)


def _keys(host: str, path: str) -> Iterator[str]:
    """The longest first: podman has credentials for parts of a registry."""
    for name in _names(host):
        parts = path.split("/") if path else []
        for count in range(len(parts), 0, -1):
            yield f"{name}/{'/'.join(parts[:count])}"
        yield name


def _bare(key: str) -> str:
    """Docker's keys may be addresses."""
    if "://" not in key:
        return key
    return re.sub(r"/v[12]/?$", "", key.partition("://")[2]).rstrip("/")


def _read(path: Path) -> dict[str, Any] | None:
    try:
        with path.open("rb") as file:
            config = json.loads(file.read(_FILE_MAX))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UnavailableError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UnavailableError(f"cannot read {path}: it is no JSON") from error
    if not isinstance(config, dict):
        raise UnavailableError(f"cannot read {path}: it is no JSON object")
    return config


def _table(config: dict[str, Any], key: str) -> dict[str, Any]:
    value = config.get(key)
    return value if isinstance(value, dict) else {}


def _of_entry(entry: dict[str, Any], file: Path, key: str) -> Credentials | None:
    username, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if entry.get("auth"):
        try:
            username, _, password = (
                base64.b64decode(str(entry["auth"]), validate=True).decode().rstrip("\0").partition(":")
            )
        except (binascii.Error, UnicodeDecodeError) as error:
            raise UnavailableError(f"cannot read {file}: auth of {key} is no base64") from error
    found = Credentials(
        username, password, str(entry.get("identitytoken") or ""), str(entry.get("registrytoken") or "")
    )
    return found if any(found) else None


async def _ask_helper(helper: str, host: str) -> Credentials | None:
    """Docker's protocol of credential helpers: the host in, JSON out."""
    if not _HELPER.fullmatch(helper):
        raise InvalidError(f"{helper!r} is no name of a credential helper")
    program = f"docker-credential-{helper}"
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(program, "get", stdin=pipe, stdout=pipe, stderr=pipe)
    except OSError as error:
        raise UnavailableError(f"cannot run {program}: {error.strerror}") from error
    try:
        async with asyncio.timeout(_HELPER_TIMEOUT_S):
            out, err = await process.communicate(host.encode())
    except TimeoutError as error:
        raise UnavailableError(f"{program} did not answer within {_HELPER_TIMEOUT_S:.0f} s") from error
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await asyncio.shield(process.wait())
    if process.returncode:
        text = (out or err).decode(errors="replace").strip()
        if "not found" in text:
            return None
        raise UnavailableError(f"{program} failed: {text[:300] or process.returncode}")
    try:
        answer = json.loads(out)
        username, secret = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, KeyError, TypeError) as error:
        raise UnavailableError(f"{program} answered something else than credentials") from error
    return Credentials(identity_token=secret) if username == "<token>" else Credentials(username, secret)
