"""Roots of layers and infra containers, as config.json names them."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from runv.errors import ConfigError
from runv.spec.config import parse_config
from runv.spec.infra import settle_infra
from runv.storage import plan as storage
from runv.storage.layers import LAYERS_MAX, read_layers
from runv.storage.plan import GuestDisk

LAYERS, UPPER = "run.runv.rootfs.layers", "run.runv.rootfs.upper"


def image(path: Path, offset: int, mark: bytes) -> str:
    path.write_bytes(bytes(offset) + mark + bytes(64))
    return str(path)


@pytest.fixture
def layers(tmp_path: Path) -> list[str]:
    return [image(tmp_path / f"{number}.erofs", 1024, b"\xe2\xe1\xf5\xe0") for number in range(LAYERS_MAX + 1)]


@pytest.fixture
def upper(tmp_path: Path) -> str:
    return image(tmp_path / "upper.img", 1080, b"\x53\xef")


def annotations(layers: object, upper: str = "") -> dict[str, str]:
    return {LAYERS: json.dumps(layers)} | ({UPPER: upper} if upper else {})


def document(**members: Any) -> bytes:
    return json.dumps({"ociVersion": "1.0.2", "process": {"cwd": "/", "args": ["x"]}, "linux": {"namespaces": [{"type": "network"}]}, **members}).encode()


def test_a_root_of_layers_becomes_disks(tmp_path: Path, layers: list[str], upper: str) -> None:
    config = parse_config(document(root={"path": "rootfs"}, annotations=annotations(layers[:2], upper)), "config.json").config
    found = storage.plan("one", str(tmp_path), config, {})
    assert found.rootfs == str(tmp_path / "rootfs") and found.shared == ()
    assert [(wish.path, wish.read_only, wish.alone) for wish in found.disks] == [
        (layers[0], True, False),
        (layers[1], True, False),
        (upper, False, True),
    ]
    nodes = {wish.serial: GuestDisk(f"/dev/sd{letter}", 8, 0, "") for wish, letter in zip(found.disks, "abc", strict=True)}
    assert storage.placed_root(found, nodes) == {"readonly": False, "layers": ["/dev/sda", "/dev/sdb"], "upper": "/dev/sdc"}


def test_the_uppermost_of_the_same_layers_stays(layers: list[str], tmp_path: Path) -> None:
    one, two, three = layers[:3]
    os.link(one, tmp_path / "same")
    found = read_layers(annotations([one, two, str(tmp_path / "same"), three, two]))
    assert found is not None and [wish.path for wish in found.layers] == [one, three, two]


def test_as_many_as_the_guest_takes(layers: list[str]) -> None:
    found = read_layers(annotations(layers[:LAYERS_MAX] * 2))
    assert found is not None and len(found.layers) == LAYERS_MAX and found.upper is None
    with pytest.raises(ConfigError, match="has 65 layers; a guest takes at most 64"):
        read_layers(annotations(layers))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"run.runv.rootfs.layer": "[]"}, "unknown annotation 'run.runv.rootfs.layer'"),
        ({UPPER: "/x"}, "means nothing without"),
        ({LAYERS: "{"}, "is not JSON"),
        ({LAYERS: "{}"}, "must be a JSON list of paths"),
        ({LAYERS: "[1]"}, "must be a JSON list of paths"),
        ({LAYERS: '["a\\u0000"]'}, "must be an absolute path"),
        ({LAYERS: '["/dev/null"]'}, "cannot attach disk /dev/null: neither a block device nor an image file"),
        ({LAYERS: "UPPER"}, "there is no EROFS on it"),
    ],
)
def test_what_is_refused(given: dict[str, str], message: str, upper: str) -> None:
    given = {name: json.dumps([upper]) if value == "UPPER" else value for name, value in given.items()}
    with pytest.raises(ConfigError, match=message.replace("[", r"\[")):
        read_layers(given)


def test_an_upper_that_is_a_layer_or_no_ext4(layers: list[str]) -> None:
    with pytest.raises(ConfigError, match="there is no ext4 on it"):
        read_layers(annotations(layers[:1], layers[0]))


def test_an_infra_container_needs_no_root_and_no_program(tmp_path: Path) -> None:
    given = parse_config(document(annotations={"run.runv.infra": "true"}, process={"cwd": "/", "args": ["/x"], "terminal": True, "oomScoreAdj": -998}), "config.json")
    settled = settle_infra(given)
    assert settled.config.process is not None and not settled.config.process.terminal
    assert settled.raw["process"] == {"args": ["pause"], "cwd": "/", "noNewPrivileges": True, "capabilities": {}, "oomScoreAdj": -998}
    found = storage.plan("one", str(tmp_path), settled.config, settled.raw)
    assert (found.root["type"], len(found.shared), len(found.disks)) == ("tmpfs", 0, 0)


def test_every_other_container_needs_a_root() -> None:
    for word in ("false", "yes"):
        with pytest.raises(ConfigError, match="needs a root file system"):
            parse_config(document(annotations={"run.runv.infra": word}), "config.json")
    with pytest.raises(ConfigError, match='must be "true" or "false", not \'yes\''):
        settle_infra(parse_config(document(root={"path": "x"}, annotations={"run.runv.infra": "yes"}), "config.json"))




def test_a_copied_root_is_a_disk_without_a_name(tmp_path: Path) -> None:
    (tmp_path / "rootfs").mkdir()
    config = parse_config(document(root={"path": "rootfs"}, annotations={"run.runv.rootfs.copy": "true"}), "config.json").config
    found = storage.plan("one", str(tmp_path), config, {})
    (disk,), (fd,) = found.disks, found.held
    assert found.shared == () and disk.alone and not disk.read_only and os.fstat(fd).st_nlink == 0
    assert storage.placed_root(found, {disk.serial: GuestDisk("/dev/sda", 8, 0, "")}) == {"readonly": False, "path": "/dev/sda", "type": "ext4"}
    os.close(fd)


@pytest.mark.parametrize(("value", "more"), [("yes", {}), ("true", {"run.runv.infra": "true"}), ("true", None)])
def test_copies_that_are_refused(tmp_path: Path, layers: list[str], value: str, more: dict[str, str] | None) -> None:
    (tmp_path / "rootfs").mkdir()
    named = {"run.runv.rootfs.copy": value, **(annotations(layers[:1]) if more is None else more)}
    config = parse_config(document(root={"path": "rootfs"}, annotations=named), "config.json").config
    with pytest.raises(ConfigError, match=r"run\.runv\.rootfs\.copy (must be true or false|means nothing)"):
        storage.plan("one", str(tmp_path), config, {})
    assert sorted(os.listdir(tmp_path))[-1] == "rootfs"
