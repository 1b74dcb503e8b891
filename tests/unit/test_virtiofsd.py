"""Which virtiofsd it is, and what it is told."""

from pathlib import Path

import pytest

from runv.errors import VmError
from runv.vm.virtiofsd import Virtiofsd, find


def program(folder: Path, text: str) -> str:
    path = folder / "virtiofsd"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("said", "rust"), [("virtiofsd version 7.2.22 (Debian 1:7.2+dfsg-7)\nCopyright (c)", False), ("virtiofsd 1.14.0", True)]
)
def test_the_two(tmp_path: Path, said: str, rust: bool) -> None:
    path = program(tmp_path, f"echo '{said}'")
    assert find(path) == Virtiofsd(path, rust)


def test_what_is_none(tmp_path: Path) -> None:
    with pytest.raises(VmError, match="cannot run virtiofsd /nowhere: no such file or directory"):
        find("/nowhere")
    with pytest.raises(VmError, match="it does not call itself that"):
        find(program(tmp_path, "exit 1"))


def test_arguments() -> None:
    assert Virtiofsd("v", rust=False).arguments(7, "/x")[:4] == ["v", "--fd=7", "-o", "source=/x"]
    assert Virtiofsd("v", rust=True).arguments(7, "/x")[:3] == ["v", "--fd=7", "--shared-dir=/x"]
