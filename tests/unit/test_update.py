"""What `update` changes: flags, files, and how they join what was there."""

from pathlib import Path

import pytest

from runv.cli.parse import parse
from runv.cli.update import resources_of
from runv.errors import ConfigError, UsageError
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
