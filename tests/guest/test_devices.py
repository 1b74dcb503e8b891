"""What init tells of the machine's devices. Disks are the machine's; here there are only those of whoever runs the tests."""

from __future__ import annotations

import pytest

from .client import AgentError, Json
from .harness import Guest, oci_spec


def test_character_devices_by_name(guest: Guest) -> None:
    answer = guest.control.call("devices", characters=True)
    assert answer["disks"] == {}
    assert answer["characters"]["null"] == [1, 3] and answer["characters"]["ptmx"] == [5, 2]
    assert not [name for name in answer["characters"] if name.startswith("vport")]
    assert guest.control.call("devices")["characters"] == {}


@pytest.mark.parametrize("disks", ["x", [7], [""], ["x" * 37], ["x"] * 257])
def test_bad_serials(guest: Guest, disks: object) -> None:
    with pytest.raises(AgentError) as refused:
        guest.control.call("devices", disks=disks)
    assert refused.value.kind == "invalid"


def test_a_root_on_a_disk_that_is_not_there(guest: Guest) -> None:
    oci = oci_spec("true")
    oci["root"] = {"path": "/dev/absent", "type": "ext4"}
    with pytest.raises(AgentError, match="cannot mount the rootfs as ext4: no such file or directory"):
        guest.control.call("create", container="c", oci=oci)


def test_a_root_of_an_unknown_file_system(guest: Guest) -> None:
    oci = oci_spec("true")
    oci["root"] = {"path": "/dev/null", "type": "no-such-fs"}
    with pytest.raises(AgentError, match="the guest's kernel has no file system no-such-fs"):
        guest.control.call("create", container="c", oci=oci)


def test_a_root_may_be_a_new_file_system(guest: Guest) -> None:
    """Any type will do; here one that needs no disk, with nothing to run on it."""
    oci = oci_spec("true", mounts=[])
    oci["root"] = {"path": "tmpfs", "type": "tmpfs", "options": ["size=1m"]}
    with pytest.raises(AgentError, match="must be an absolute path of the guest"):
        guest.control.call("create", container="c", oci=oci)


def test_the_filter_also_holds_for_the_first_process(guest: Guest) -> None:
    """It is attached when the root is set up, before the program runs."""
    linux = {"resources": {"devices": [{"allow": False, "access": "rwm"}]}}
    capabilities = {name: ["CAP_MKNOD"] for name in ("bounding", "effective", "permitted")}
    mounts = [{"destination": "/t", "type": "tmpfs", "source": "tmpfs"}]
    done = guest.run(oci_spec("sh", "-c", "mknod /t/kmsg c 1 11; exec 3</t/kmsg", linux=linux, capabilities=capabilities, mounts=mounts))
    assert b"/t/kmsg: Operation not permitted" in done.stderr


NOTHING = {"allow": False, "access": "rwm"}
KMSG = {"type": "c", "major": 1, "minor": 11}
CONSOLE = {"allow": True, "type": "c", "major": 5, "minor": 1, "access": "rwm"}


@pytest.mark.parametrize(
    ("rules", "opened"),
    [
        ([], "null"),
        ([NOTHING, {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"}, CONSOLE], "null"),
        ([{"allow": False, "type": "c", "major": 1, "minor": 3, "access": "rwm"}], "null"),
        ([{"allow": True, "access": "rwm"}], "null read write"),
        ([{"allow": True, "access": "rwm"}, NOTHING, CONSOLE], "null"),
        ([NOTHING, {"allow": True, **KMSG, "access": "r"}, CONSOLE], "null read"),
        ([{"allow": True, "type": "c", "access": "rw"}, {"allow": False, **KMSG, "access": "w"}], "null read"),
        ([{"allow": True, "type": "c", "major": 1, "access": "rw"}, {"allow": False, "type": "b", "access": "rw"}], "null read write"),
        ([{"allow": True, **KMSG, "access": "rw"}, {"allow": False, "type": "c", "minor": 11, "access": "r"}], "null write"),
        ([{"allow": True, **KMSG, "access": "rw"}, {"allow": False, "type": "c", "major": 1, "minor": 12, "access": "r"}], "null read write"),
    ],
)
def test_rules(guest: Guest, rules: list[Json], opened: str) -> None:
    """The last one that fits decides, and none takes away what every container has."""
    script = "mknod /t/kmsg c 1 11; (: </dev/null) && echo null; (: </t/kmsg) && echo read; (: >/t/kmsg) && echo write; true"
    capabilities = {name: ["CAP_MKNOD", "CAP_SYSLOG", "CAP_DAC_OVERRIDE"] for name in ("bounding", "effective", "permitted")}
    mounts = [{"destination": "/t", "type": "tmpfs", "source": "tmpfs"}]
    oci = oci_spec("sh", "-c", script, linux={"resources": {"devices": rules}}, capabilities=capabilities, mounts=mounts)
    assert guest.run(oci).text.split() == opened.split()
