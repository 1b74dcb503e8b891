"""Passwords of registries, kept where Docker keeps them: ``config.json``, or a credential helper that it names."""

import base64
import binascii
import json
import os
import subprocess
from typing import Any

from hyperctl.errors import CtlError

HUB = "https://index.docker.io/v1/"
_HUB_NAMES = ("docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com")
_HELPER_TIMEOUT_S = 60
# What a helper stores in place of a name where the secret is a token.
_TOKEN_USER = "<token>"


def config_path(environ: dict[str, str]) -> str:
    return os.path.join(environ.get("DOCKER_CONFIG") or os.path.join(environ.get("HOME") or "/", ".docker"), "config.json")


def registry_of(reference: str) -> str:
    """The registry that an image's name names: ``docker.io`` where it names none."""
    first, slash, _ = reference.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return "docker.io" if first in _HUB_NAMES else first
    return "docker.io"


def key_of(registry: str) -> str:
    """What a registry is called in the file."""
    plain = registry.removeprefix("https://").removeprefix("http://").rstrip("/")
    return HUB if plain.partition("/")[0] in _HUB_NAMES else plain


def find(registry: str, path: str) -> dict[str, str] | None:
    """Credentials as the API takes them; None where none are known. Raises CtlError."""
    config = _load(path)
    key = key_of(registry)
    helper = _helper(config, key)
    if helper:
        return _ask_helper(helper, key)
    entries = config.get("auths") or {}
    entry = next((entries[name] for name in entries if key_of(name) == key), None)
    return _decode(entry, key) if isinstance(entry, dict) else None


def store(registry: str, username: str, password: str, path: str) -> str:
    """Keeps a password; where, for the user to know. Raises CtlError."""
    config = _load(path)
    key = key_of(registry)
    helper = _helper(config, key)
    if helper:
        _call(helper, "store", json.dumps({"ServerURL": key, "Username": username, "Secret": password}))
        return f"docker-credential-{helper}"
    auth = base64.b64encode(f"{username}:{password}".encode()).decode()
    config.setdefault("auths", {})[key] = {"auth": auth}
    _save(config, path)
    return path


def forget(registry: str, path: str) -> bool:
    """Whether there was something to forget. Raises CtlError."""
    config = _load(path)
    key = key_of(registry)
    helper = _helper(config, key)
    if helper:
        known = _ask_helper(helper, key) is not None
        _call(helper, "erase", key)
        return known
    entries = config.get("auths") or {}
    names = [name for name in entries if key_of(name) == key]
    for name in names:
        del entries[name]
    if names:
        _save(config, path)
    return bool(names)


def _helper(config: dict[str, Any], key: str) -> str:
    named = config.get("credHelpers") or {}
    return str(named.get(key) or named.get(key.removeprefix("https://").partition("/")[0]) or config.get("credsStore") or "")


def _ask_helper(helper: str, key: str) -> dict[str, str] | None:
    answer = _call(helper, "get", key, missing_ok=True)
    if answer is None:
        return None
    try:
        found = json.loads(answer)
        user, secret = str(found["Username"]), str(found["Secret"])
    except (ValueError, KeyError, TypeError):
        raise CtlError(f"docker-credential-{helper}: its answer is not understood") from None
    return {"identity_token": secret} if user == _TOKEN_USER else {"username": user, "password": secret}


def _call(helper: str, action: str, text: str, *, missing_ok: bool = False) -> str | None:
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run([program, action], input=text, capture_output=True, text=True, timeout=_HELPER_TIMEOUT_S, check=False)
    except OSError as error:
        raise CtlError(f"cannot run {program}: {error.strerror}", hint="config.json names it as credsStore or credHelpers") from None
    except subprocess.TimeoutExpired:
        raise CtlError(f"{program} {action}: no answer in {_HELPER_TIMEOUT_S} s") from None
    if done.returncode == 0:
        return done.stdout
    said = (done.stdout + done.stderr).strip()
    if missing_ok and "not found" in said.lower():
        return None
    raise CtlError(f"{program} {action}: {said or f'status {done.returncode}'}")


def _decode(entry: dict[str, Any], key: str) -> dict[str, str] | None:
    if entry.get("identitytoken"):
        return {"identity_token": str(entry["identitytoken"])}
    if not entry.get("auth"):
        plain = {name: str(entry.get(name) or "") for name in ("username", "password")}
        return plain if all(plain.values()) else None
    try:
        user, colon, password = base64.b64decode(str(entry["auth"]), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        colon = ""
    if not colon:
        raise CtlError(f"config.json: the entry of {key} is damaged", hint=f"hyperctl login {key} writes it anew")
    return {"username": user, "password": password.rstrip("\0")}


def _load(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise CtlError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise CtlError(f"cannot read {path}: {error}") from None
    if not isinstance(found, dict):
        raise CtlError(f"cannot read {path}: it is not an object")
    return found


def _save(config: dict[str, Any], path: str) -> None:
    """All or nothing, and for no other eyes."""
    real = os.path.realpath(path)
    try:
        os.makedirs(os.path.dirname(real), 0o700, exist_ok=True)
        new = f"{real}.{os.getpid()}.new"
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump(config, file, indent="\t")
            file.write("\n")
        os.rename(new, real)
    except OSError as error:
        raise CtlError(f"cannot write {path}: {error.strerror}") from None
