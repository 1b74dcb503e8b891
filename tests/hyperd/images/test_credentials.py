"""Passwords of registries that the daemon keeps are sealed, and those that it kept in clear become so."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from hyperd.errors import UnavailableError
from hyperd.images.credentials import Credentials, Keyring
from hyperd.images.settings import ImageSettings
from hyperd.sealing import Seal

OLD = {"auths": {"old.example": {"auth": "bWU6b2xkLXNlY3JldA=="}}}


@pytest.fixture
def seal(tmp_path: Path) -> Seal:
    found = Seal(tmp_path / "secrets.key")
    found.make()
    return found


def find(keyring: Keyring, host: str) -> Credentials | None:
    return asyncio.run(keyring.find(host))


def test_passwords_are_sealed(tmp_path: Path, seal: Seal) -> None:
    own = tmp_path / "auth.json"
    own.write_text(json.dumps(OLD))
    keyring = Keyring(own, ImageSettings(), seal)
    assert find(keyring, "old.example") == Credentials("me", "old-secret"), "in clear as it is"
    keyring.seal_up()
    assert list(json.loads(own.read_text())) == ["sealed"] and own.stat().st_mode & 0o777 == 0o600
    keyring.keep("new.example", Credentials("you", "new-secret"))
    assert find(keyring, "old.example") == Credentials("me", "old-secret")
    assert find(Keyring(own, ImageSettings(), seal), "new.example") == Credentials("you", "new-secret")
    assert keyring.forget("new.example") and not keyring.forget("new.example")
    assert list(json.loads(own.read_text())) == ["sealed"]


def test_nothing_to_seal(tmp_path: Path, seal: Seal) -> None:
    Keyring(tmp_path / "auth.json", ImageSettings(), seal).seal_up()
    assert not (tmp_path / "auth.json").exists()


def test_a_file_that_others_read_stays_as_they_know_it(tmp_path: Path, seal: Seal) -> None:
    shared = tmp_path / "shared.json"
    shared.write_text(json.dumps(OLD))
    keyring = Keyring(tmp_path / "auth.json", ImageSettings(auth_file=str(shared)), seal)
    keyring.seal_up()
    keyring.keep("new.example", Credentials("you", "x"))
    assert json.loads(shared.read_text())["auths"].keys() == {"old.example", "new.example"}


@pytest.mark.parametrize("text", ['{"sealed": "AAAA"}', '{"sealed": "%"}', '{"sealed": "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}'])
def test_a_damaged_file(tmp_path: Path, seal: Seal, text: str) -> None:
    own = tmp_path / "auth.json"
    own.write_text(text)
    with pytest.raises(UnavailableError):
        find(Keyring(own, ImageSettings(), seal), "old.example")
