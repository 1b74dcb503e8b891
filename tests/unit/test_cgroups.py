"""Cgroup paths, without a cgroup."""

import os
from pathlib import Path

import pytest

from runv.cgroups import missing_folders, parse_mountinfo, relative_path, remove
from runv.errors import ConfigError

V2 = "31 24 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = """\
24 1 8:1 / / rw - ext4 /dev/sda1 rw
33 32 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:1 - cgroup cgroup rw,cpu,cpuacct
34 32 0:30 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset
35 32 0:31 / /sys/fs/cgroup/my\\040group rw - cgroup cgroup rw,name=systemd
36 32 0:32 / /proc rw - proc proc rw
"""


def found(text: str) -> list[tuple[str, bool]]:
    return [(hierarchy.mount, hierarchy.needs_cpuset) for hierarchy in parse_mountinfo(text)]


def test_v2() -> None:
    assert found(V2) == [("/sys/fs/cgroup", False)]


def test_v1() -> None:
    root = "/sys/fs/cgroup/"
    assert found(V1) == [(root + "cpu,cpuacct", False), (root + "cpuset", True), (root + "my group", False)]


def test_hybrid_has_both() -> None:
    assert len(found(V1 + V2.replace("/sys/fs/cgroup", "/sys/fs/cgroup/unified"))) == 4


def test_no_cgroups() -> None:
    assert found("") == []


@pytest.mark.parametrize(
    ("path", "expected"),
    [("", "one"), ("/a/b", "a/b"), ("a//b/", "a/b"), ("/a/./b", "a/b"), ("/..a/b..", "..a/b..")],
)
def test_plain_paths(path: str, expected: str) -> None:
    assert relative_path(path, "one", systemd=False) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", "system.slice/runv-one.scope"),
        ("user.slice:docker:one", "user.slice/docker-one.scope"),
        (":docker:one", "system.slice/docker-one.scope"),
        (
            "kubepods-besteffort-pod1.slice:cri:x",
            "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1.slice/cri-x.scope",
        ),
        ("a.slice::x", "a.slice/x.scope"),
        ("a.slice:p:x.slice", "a.slice/x.slice"),
        ("-.slice:p:x", "p-x.scope"),
    ],
)
def test_systemd_paths(path: str, expected: str) -> None:
    assert relative_path(path, "one", systemd=True) == expected


@pytest.mark.parametrize(
    ("path", "systemd"),
    [
        ("/", False),
        ("/../x", False),
        ("a/../../b", False),
        ("..", False),
        ("/a/b", True),
        ("a:b", True),
        ("a:b:c:d", True),
        ("a.slice:p:/../../../x", True),
    ],
)
def test_paths_that_are_refused(path: str, systemd: bool) -> None:
    with pytest.raises(ConfigError, match=r"^config\.json: \$\.linux\.cgroupsPath: "):
        relative_path(path, "one", systemd=systemd)


def test_missing_folders_come_outermost_first_and_once(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    base = str(tmp_path / "there")
    assert missing_folders([f"{base}/a/b", f"{base}/a/c", base]) == [f"{base}/a", f"{base}/a/b", f"{base}/a/c"]


def test_removing_takes_children_first_and_leaves_what_is_used(tmp_path: Path) -> None:
    folders = [str(tmp_path / name) for name in ("a", "a/b", "gone", "used")]
    for name in ("a/b", "used/by-others"):
        os.makedirs(tmp_path / name)
    remove(folders)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["used"]
