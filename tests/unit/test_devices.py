"""The host's devices as the guest is to see them."""

import os
import re
from pathlib import Path
from typing import Any

import pytest

from runv.errors import ConfigError
from runv.spec.config import Config, parse_config
from runv.spec.process import Process
from runv.storage import devices
from runv.storage.devices import DevicePlan, is_privileged, marked_rule, place_devices, plan_devices
from runv.storage.images import Wish, device_serial
from runv.storage.plan import GuestDisk

ALL = {"allow": True, "access": "rwm"}
NONE = {"allow": False, "access": "rwm"}
SERIAL = device_serial(7, 0)
DISKS = {SERIAL: GuestDisk("/dev/sda", 8, 0, "ext4")}
FUSE = {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}


def privileged_config(*capabilities: str) -> Config:
    return Config(oci_version="1.0.0", process=Process({"cwd": "/", "capabilities": {"bounding": list(capabilities)}}, "$"))


@pytest.mark.parametrize(
    ("capabilities", "rules", "expected"),
    [
        (("CAP_SYS_ADMIN", "CAP_SYS_RAWIO", "CAP_MKNOD"), [NONE, ALL], True),
        (("CAP_SYS_ADMIN", "CAP_SYS_RAWIO", "CAP_MKNOD"), [{"allow": True, "type": "a", "major": -1, "minor": -1}], True),
        (("CAP_SYS_ADMIN", "CAP_SYS_RAWIO", "CAP_MKNOD"), [NONE], False),
        (("CAP_SYS_ADMIN", "CAP_SYS_RAWIO", "CAP_MKNOD"), [{"allow": True, "type": "c"}], False),
        (("CAP_SYS_ADMIN", "CAP_SYS_RAWIO", "CAP_MKNOD"), [{"allow": True, "major": 1}], False),
        (("CAP_SYS_ADMIN", "CAP_SYS_RAWIO", "CAP_MKNOD"), [{"allow": True, "access": "rw"}], False),
        (("CAP_SYS_ADMIN",), [ALL], False),
    ],
)
def test_who_is_privileged(capabilities: tuple[str, ...], rules: list[dict[str, Any]], expected: bool) -> None:
    assert is_privileged(privileged_config(*capabilities), rules) is expected


def test_rules_about_one_device_follow_it() -> None:
    disk = {"allow": True, "type": "b", "major": 7, "minor": 0, "access": "r"}
    assert marked_rule(disk, {SERIAL}, {}) == {**disk, "disk": SERIAL}
    fuse = {"allow": True, "type": "c", "major": 10, "minor": 229}
    assert marked_rule(fuse, set(), {(10, 229): "fuse"}) == {**fuse, "name": "fuse"}
    for other in (ALL, {"allow": True, "type": "b", "major": 7}, {**disk, "minor": 1}):
        assert marked_rule(other, {SERIAL}, {}) == other


def test_disks_get_the_guests_numbers() -> None:
    node = {"path": "/dev/xvda", "type": "b", "major": 7, "minor": 0, "uid": 5, "disk": SERIAL}
    rule = {"allow": True, "type": "b", "major": 7, "minor": 0, "access": "rw", "disk": SERIAL}
    placed = place_devices(DevicePlan((node,), (NONE, rule)), DISKS, {})
    assert placed.devices == [{"path": "/dev/xvda", "type": "b", "major": 8, "minor": 0, "uid": 5}]
    assert placed.rules == [NONE, {"allow": True, "type": "b", "major": 8, "minor": 0, "access": "rw"}]


def test_a_rule_about_a_disk_that_is_not_there_is_dropped() -> None:
    """In the guest its numbers may be those of somebody else's disk."""
    rule = {"allow": True, "type": "b", "major": 8, "minor": 0, "access": "rw"}
    wide = {"allow": True, "type": "b", "major": 8, "access": "rw"}
    assert place_devices(DevicePlan((), (NONE, rule, wide)), {}, {}).rules == [NONE, wide]


def test_character_devices_go_by_name() -> None:
    placed = place_devices(DevicePlan(({**FUSE, "name": "fuse"},)), {}, {"fuse": (10, 77)})
    assert placed.devices == [{**FUSE, "minor": 77}]


def test_what_the_guest_lacks() -> None:
    plan = DevicePlan(({**FUSE, "name": "fuse"},))
    with pytest.raises(ConfigError, match=re.escape("cannot create device /dev/fuse: the guest has no character device fuse (10:229")):
        place_devices(plan, {}, {})
    placed = place_devices(plan._replace(privileged=True), {}, {})
    assert (placed.devices, placed.left_out) == ([], ["/dev/fuse"])


def parsed(*entries: dict[str, Any], rules: list[dict[str, Any]] | None = None) -> DevicePlan:
    raw = {
        "ociVersion": "1.0.0",
        "root": {"path": "x"},
        "linux": {"namespaces": [{"type": "network"}], "devices": list(entries), "resources": {"devices": rules or []}},
    }
    import json

    document = parse_config(json.dumps(raw).encode(), "config.json")
    return plan_devices(document.config, document.raw)


def test_common_devices_need_no_asking() -> None:
    null = {"path": "/dev/null", "type": "c", "major": 1, "minor": 3}
    pipe = {"path": "/dev/initctl", "type": "p"}
    plan = parsed(null, pipe)
    assert plan.devices == (null, pipe) and not plan.asks_guest
    assert place_devices(plan, {}, {}).devices == [null, pipe]


def test_devices_that_the_host_has_not() -> None:
    """Nodes as they were asked for, and no rule: in the guest the numbers may be another's."""
    block = {"path": "/dev/x", "type": "b", "major": 4094, "minor": 3}
    char = {"path": "/dev/y", "type": "c", "major": 4094, "minor": 3}
    rules = [{"allow": True, "type": kind, "major": 4094, "minor": 3, "access": "rwm"} for kind in "bc"]
    plan = parsed(block, char, rules=rules)
    assert not plan.disks
    assert not plan.asks_guest
    placed = place_devices(plan, {}, {})
    assert (placed.devices, placed.rules) == ([block, char], [])


def test_devices_of_an_iommu_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {(10, 196): "vfio/vfio", (240, 0): "vfio/12"}
    monkeypatch.setattr(devices, "host_name", lambda kind, numbers: names.get(numbers, ""))
    monkeypatch.setattr(devices, "group_addresses", lambda group: [f"0000:{group}:00.0"])
    control = {"path": "/dev/vfio/vfio", "type": "c", "major": 10, "minor": 196}
    group = {"path": "/dev/vfio/12", "type": "c", "major": 240, "minor": 0}
    plan = parsed(control, group)
    assert (plan.devices, plan.pci) == ((), ("0000:12:00.0",))


def test_the_bridges_of_a_group_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, kind in (("0000:01:00.0", "0x030000\n"), ("0000:00:01.0", "0x060400\n")):
        (tmp_path / "12/devices" / name).mkdir(parents=True)
        (tmp_path / "12/devices" / name / "class").write_text(kind)
    monkeypatch.setattr(devices, "IOMMU_GROUPS", str(tmp_path))
    assert devices.group_addresses("12") == ["0000:01:00.0"]
    with pytest.raises(ConfigError, match="cannot pass IOMMU group 13 through: no such file or directory"):
        devices.group_addresses("13")


def test_serials() -> None:
    assert device_serial(7, 0) == f"b{os.makedev(7, 0):x}"
    assert len(Wish(device_serial(4095, 1048575), "", False).serial) <= 30
