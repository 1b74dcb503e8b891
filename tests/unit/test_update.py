"""What `update` changes: flags, files, and how they join what was there."""

from pathlib import Path

import pytest

from runv.cli.parse import parse
from runv.cli.update import resources_of, size_of
from runv.errors import ConfigError, UsageError
from runv.sandbox.layout import SandboxRecord
from runv.sandbox.machine.resize import needed, settle
from runv.sandbox.machine.size import Size
from runv.sandbox.update import Raw, changes, merge


def given(*flags: str) -> Raw:
    return changes(resources_of(parse(["update", *flags, "c"])))


def test_flags() -> None:
    flags = "--memory 64M --memory-swap=128m --cpu-share 512 --cpu-quota 50000 --cpuset-cpus 0 --pids-limit 7 --blkio-weight 500"
    assert given(*flags.split()) == {
        "memory": {"limit": 64 << 20, "swap": 128 << 20},
        "cpu": {"shares": 512, "quota": 50000, "cpus": "0"},
        "pids": {"limit": 7},
        "blockIO": {"weight": 500},
    }


def test_nothing() -> None:
    assert given() == {}


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("1b", 1), ("2k", 2048), ("1.5G", 3 << 29), ("1 MiB", 1 << 20), ("3tb", 3 << 40), ("-1", -1)],
)
def test_sizes(text: str, size: int) -> None:
    assert given("--memory-reservation", text)["memory"]["reservation"] == size


@pytest.mark.parametrize(
    "flags",
    [("--memory", "lots"), ("--memory", "-5"), ("--memory", "5x"), ("--cpu-quota", "1e5"), ("--pids-limit", "--")],
)
def test_values_that_are_refused(flags: tuple[str, str]) -> None:
    with pytest.raises(UsageError, match=rf"^invalid value for {flags[0].strip('-')}: "):
        given(*flags)


@pytest.mark.parametrize("flag", ["--cpu-rt-runtime", "--l3-cache-schema"])
def test_what_a_guest_cannot_do(flag: str) -> None:
    with pytest.raises(ConfigError, match=r"^cannot set "):
        given(flag, "5")


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text('{"cpu": {"shares": 5, "quota": 0}, "memory": {"limit": 9}, "pids": null}')
    assert given("--resources", str(path), "--memory", "5") == {"cpu": {"shares": 5}, "memory": {"limit": 9}}
    path.write_text('{"cpu": {"shares": "many"}}')
    with pytest.raises(ConfigError, match=r"^resources: \$\.cpu\.shares: "):
        given("-r", str(path))


def test_unlimited_memory_brings_unlimited_swap() -> None:
    assert changes({"memory": {"limit": -1}}) == {"memory": {"limit": -1, "swap": -1}}
    assert changes({"memory": {"limit": -1, "swap": 5}})["memory"]["swap"] == 5


def test_changes_join_what_was_there() -> None:
    old = {"cpu": {"shares": 1, "quota": 2}, "devices": [{"allow": False}]}
    assert merge(old, {"cpu": {"quota": 5}, "pids": {"limit": 3}}) == {
        "cpu": {"shares": 1, "quota": 5},
        "devices": [{"allow": False}],
        "pids": {"limit": 3},
    }
    assert old["cpu"] == {"shares": 1, "quota": 2}


MOST = Size(4, 1280)


def machine(vcpus: int = 1, memory_mib: int = 256, most: Size = MOST) -> SandboxRecord:
    return SandboxRecord(
        secret="", transport="serial", cid=0, container="c", vcpus=vcpus, memory_mib=memory_mib, cloned=True, boot_mib=256, vcpus_max=most.vcpus, memory_max_mib=most.memory_mib
    )


def test_the_size_of_the_machine() -> None:
    def size(*flags: str) -> Size:
        return size_of(parse(["update", "--vm", *flags, "c"]))

    assert size("--memory", "1.5G", "--vcpus", "2") == Size(2, 1536)
    assert size("--memory", "1") == Size(0, 1)
    for flags in ((), ("--memory", "-1"), ("--vcpus", "-1"), ("--vcpus", "two"), ("--memory", "1G", "--pids-limit", "5")):
        with pytest.raises(UsageError):
            size(*flags)
    with pytest.raises(UsageError, match="goes with --vm"):
        given("--vcpus", "2")


def test_what_a_machine_can_become() -> None:
    assert settle(machine(), Size(0, 0)) == Size(1, 256)
    assert settle(machine(2, 512), Size(0, 257)) == Size(2, 260)
    assert settle(machine(), Size(4, 1280)) == Size(4, 1280)
    for wanted, message in (
        (Size(5, 0), r"5 virtual CPUs: it can grow to 4$"),
        (Size(0, 1281), r"1281 MiB of memory: it can grow to 1280 MiB$"),
        (Size(0, 255), r"255 MiB of memory: it was started with 256 MiB"),
    ):
        with pytest.raises(ConfigError, match=message):
            settle(machine(), wanted)
    with pytest.raises(ConfigError, match=r"it has 256 MiB and cannot grow$"):
        settle(machine(most=Size(1, 256)), Size(0, 512))


def limit(mib: int, cpus: float = 0) -> Raw:
    return {"memory": {"limit": mib << 20}, "cpu": {"quota": int(cpus * 1000), "period": 1000}}


def test_what_a_machine_needs_for_new_limits() -> None:
    assert needed(machine(), limit(512, 1.5), {}, []) == Size(2, 512 + 64 + 16)
    assert needed(machine(), limit(512, 3), limit(512, 2), [limit(256, 3)]) == Size(4, 256)  # a limit that stays asks for nothing
    assert needed(machine(), limit(512), {}, [limit(256), {}]) == Size(1, 768 + 64 + 24)
    assert needed(machine(), limit(1280), {}, []) == Size(1, 1280)  # as much as there can be
    assert needed(machine(2, 1000), limit(300, 1), limit(800, 2), []) == Size(2, 300 + 64 + 9)
    assert needed(machine(2, 1000), limit(300), limit(800), [{}]) == Size(2, 1000)  # others may use it
    assert needed(machine(), {"memory": {"limit": -1}}, limit(100), []) == Size(1, 256)
    assert needed(machine(most=Size(1, 256)), limit(1281), {}, []) == Size(1, 256)  # with a warning
    assert needed(machine(), limit(1 << 30), {}, []) == Size(1, 1280)  # more than the host has is no limit
    with pytest.raises(ConfigError, match=r"a memory limit of 1281 MiB: the machine can grow to 1280 MiB$"):
        needed(machine(), limit(1281), limit(300), [])
