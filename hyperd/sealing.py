"""Encryption of what is written down: AES-256-GCM with a key in a file of its own, which may lie on another disk or come from systemd's credentials."""

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from hyperd.errors import UnavailableError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_KEY_SIZE = 32
_NONCE_SIZE = 12
# What is sealed begins with the version of its form; what is not is JSON.
_MARK = b"\x01"


class Seal:
    """Seals and opens with one key. What is sealed for one purpose opens for no other: rows cannot be exchanged.

    :param path: 32 bytes, or their 64 hexadecimal digits; must be its owner's alone
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._cipher: AESGCM | None = None

    def make(self) -> None:
        """Makes the key unless it is there; it is on disk, whole, when this returns.

        :raise UnavailableError: it cannot be written
        """
        if self._path.exists():
            return
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with open(fd, "wb") as file:
                file.write(secrets.token_bytes(_KEY_SIZE))
                file.flush()
                os.fsync(fd)
            os.link(temporary, self._path)  # never over one that somebody else has just made
            folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except FileExistsError:
            pass  # then that is the key
        except OSError as error:
            raise UnavailableError(f"cannot write {self._path}: {error.strerror}", hint="secrets_key in the settings says where it is") from error
        finally:
            temporary.unlink(missing_ok=True)

    def close(self, plain: bytes, purpose: str) -> bytes:
        """``plain``, sealed.

        :raise UnavailableError: the key cannot be had
        """
        nonce = os.urandom(_NONCE_SIZE)
        return _MARK + nonce + self._key().encrypt(nonce, plain, purpose.encode())

    def open(self, data: bytes, purpose: str) -> bytes:
        """What was sealed; what is not sealed as it is.

        :raise UnavailableError: the key cannot be had or is another, or the data was changed
        """
        if not is_sealed(data):
            return data
        from cryptography.exceptions import InvalidTag

        start = len(_MARK) + _NONCE_SIZE
        try:
            return self._key().decrypt(data[len(_MARK) : start], data[start:], purpose.encode())
        except (InvalidTag, ValueError):
            message = f"cannot open what is sealed: {self._path} is not its key, or it was changed"
            raise UnavailableError(message, hint="secrets_key in the settings says where the key is") from None

    def _key(self) -> "AESGCM":
        if self._cipher is None:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM

            self._cipher = AESGCM(_read(self._path))
        return self._cipher


def is_sealed(data: bytes) -> bool:
    """Whether it was sealed, and not written before there were keys."""
    return data[:1] == _MARK


def _read(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            found = os.fstat(file.fileno())
            data = file.read(4 * _KEY_SIZE)
    except OSError as error:
        hint = "what is in the database was sealed with it: put it back, or name its place in secrets_key"
        raise UnavailableError(f"cannot read {path}: {error.strerror}", hint=hint) from error
    # Root's group is root; systemd shows a credential's access list as such a mode.
    if found.st_mode & 0o007 or (found.st_mode & 0o070 and found.st_gid):
        raise UnavailableError(f"cannot use {path}: others may read it (mode {found.st_mode & 0o777:04o})", hint=f"chmod 600 {path}")
    if len(data) == _KEY_SIZE:
        return data
    try:
        key = bytes.fromhex(data.decode())
    except (UnicodeDecodeError, ValueError):
        key = b""
    if len(key) != _KEY_SIZE:
        raise UnavailableError(f"cannot use {path}: it is no key", hint="32 bytes, or 64 hexadecimal digits")
    return key
