"""qemu-config/ and the setting `qemu`: the key covers what shapes a QEMU, what got lost is noticed, and only our own is told to give code back."""

import importlib
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from runv.cli.report import outdated
from runv.errors import VmError
from runv.settings import OWN_QEMU, load
from runv.vm import choice

DIRECTORY = Path(__file__).resolve().parents[2] / "qemu-config"


def module() -> ModuleType:
    """The program of qemu-config/, which is no package."""
    sys.path.insert(0, str(DIRECTORY))
    try:
        return importlib.import_module("build_qemu")
    finally:
        sys.path.remove(str(DIRECTORY))


build = module()
INPUTS = build.Inputs("1:7.2", "gcc 12", ("libc6-dev 1",), "CONFIG_Q35=y\n", (("a.patch", "text"),), "int x;")


@pytest.mark.parametrize(
    "change",
    [
        {"version": "1:7.3"}, {"compiler": "gcc 13"}, {"libraries": ("libc6-dev 2",)}, {"devices": "CONFIG_MICROVM=y\n"},
        {"patches": (("a.patch", "other"),)}, {"patches": ()}, {"shim": "int y;"},
    ],
)  # fmt: skip
def test_all_that_shapes_it_is_in_the_key(change: dict[str, object]) -> None:
    assert replace(INPUTS, **change).key != INPUTS.key


def test_what_is_said_about_devices_is_not_in_the_key() -> None:
    assert replace(INPUTS, devices="# A board\nCONFIG_Q35=y\n").key == INPUTS.key


def test_a_lost_symbol_is_noticed() -> None:
    assert build.lost("CONFIG_Q35=y\nCONFIG_VIRTIO_9P=y\n", "CONFIG_Q35=y\nCONFIG_PCI=y\n") == ["CONFIG_VIRTIO_9P"]


def test_a_missing_device_is_noticed() -> None:
    says = {option: "\n".join(f'name "{name}", bus PCI' for name in names) for option, names in build.NEEDED.items()}
    assert build.missing(says) == []
    assert build.missing(says | {"-device": says["-device"].replace("virtio-9p-pci", "virtio-9p-pci-non")}) == ["-device virtio-9p-pci"]


def test_every_patch_says_what_it_is_for() -> None:
    for path in (DIRECTORY / "patches").glob("*.patch"):
        head = path.read_text().partition("\n---")[0].splitlines()
        assert ": " in head[0] and not head[1] and len(head) >= 3


def test_own_is_looked_for_where_it_is_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "qemu-system-x86_64"
    monkeypatch.setattr(choice, "OWN_QEMU", str(program))
    settings = load({"RUNV_QEMU": "own", "RUNV_CONFIG": "/dev/null"})
    with pytest.raises(VmError, match=f"cannot find QEMU: {program}") as caught:
        choice.qemu_program(settings)
    assert "make qemu" in caught.value.hint
    program.touch(0o755)
    assert choice.qemu_program(settings) == str(program)


def test_our_own_goes_first_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own, debian = tmp_path / "own", tmp_path / choice.DEBIAN_QEMU
    debian.touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(choice, "OWN_QEMU", str(own))
    settings = load({"RUNV_CONFIG": "/dev/null"})
    assert choice.qemu_program(settings) == str(debian)
    own.touch(0o755)
    assert choice.qemu_program(settings) == str(own)


def test_check_tells_of_one_that_is_older_than_debians() -> None:
    said = "QEMU emulator version 7.2.22 (runv, of Debian 1:7.2+dfsg-7+deb12u18); from default"
    assert outdated(said, "1:7.2+dfsg-7+deb12u18") == ""
    assert outdated(said, "1:7.2+dfsg-7+deb12u19") == "; Debian has 1:7.2+dfsg-7+deb12u19 by now: `make qemu install`"
    assert outdated("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)", "1:8.0") == ""


def test_only_our_own_gives_translated_code_back() -> None:
    settings = load({"RUNV_TCG_RELEASE_S": "7", "RUNV_CONFIG": "/dev/null"})
    assert choice.tcg_release_s(settings, OWN_QEMU) == 7
    assert choice.tcg_release_s(settings, "/usr/bin/qemu-system-x86_64") == 0
