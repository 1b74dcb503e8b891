"""Cgroup paths, without a cgroup."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from runv.cgroups import Entry, Hierarchy, apply, create, own_folders, parse_mountinfo, plan, relative_path, remove
from runv.errors import ConfigError, HostError
from runv.limits import Extra, settings
from runv.processes import spawn
from runv.spec.config import BlockIO, Cpu, Memory, Pids, Resources

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
    hierarchies = parse_mountinfo(V1 + V2.replace("/sys/fs/cgroup", "/sys/fs/cgroup/unified"))
    assert [hierarchy.version for hierarchy in hierarchies] == [1, 1, 1, 2]


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


def test_folders_to_make_come_outermost_first_and_once(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    base = str(tmp_path / "there")
    assert own_folders([f"{base}/a/b", f"{base}/a/c", base], ()) == [f"{base}/a", f"{base}/a/b", f"{base}/a/c"]


def test_folders_that_others_of_ours_made_are_ours_too(tmp_path: Path) -> None:
    (tmp_path / "pod/one").mkdir(parents=True)
    base = str(tmp_path)
    assert own_folders([f"{base}/pod/one"], {f"{base}/pod"}) == [f"{base}/pod"]
    assert own_folders([f"{base}/pod/one"], {f"{base}/pod/one"}) == [f"{base}/pod/one"]
    assert own_folders([f"{base}/pod/two"], {f"{base}/pod", f"{base}/other"}) == [f"{base}/pod", f"{base}/pod/two"]


def test_removing_needs_no_order(tmp_path: Path) -> None:
    folders = [str(tmp_path / name) for name in ("a/b", "a", "a/b/c")]
    os.makedirs(folders[-1])
    remove(folders)
    assert not (tmp_path / "a").exists()


def test_removing_takes_children_first_and_leaves_what_is_used(tmp_path: Path) -> None:
    folders = [str(tmp_path / name) for name in ("a", "a/b", "gone", "used")]
    for name in ("a/b", "used/by-others"):
        os.makedirs(tmp_path / name)
    remove(folders)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["used"]


@pytest.fixture
def one_of_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders of a container in a made-up v1 hierarchy and in a v2 one, as files that take whatever is written."""
    hierarchies = [
        Hierarchy(str(tmp_path / "v1"), 1, ["memory", "cpu", "cpuset", "pids"]),
        Hierarchy(str(tmp_path / "v2"), 2, []),
    ]
    monkeypatch.setattr("runv.cgroups._hierarchies", lambda: hierarchies)
    files = {
        "v1/c": ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "pids.max"],
        "v2/c": ["memory.max", "io.weight", "cgroup.controllers"],
    }
    for folder, names in files.items():
        (tmp_path / folder).mkdir(parents=True)
        for name in names:
            (tmp_path / folder / name).touch()
    (tmp_path / "v2/c/cgroup.controllers").write_text("memory io\n")
    return [str(tmp_path / folder) for folder in files]


def written(folders: list[str]) -> dict[str, str]:
    paths = [path for folder in folders for path in Path(folder).iterdir() if path.name != "cgroup.controllers"]
    return {path.name: path.read_text() for path in paths if path.read_text()}


def test_each_hierarchy_gets_what_it_can_set(one_of_each: list[str]) -> None:
    resources = Resources(memory=Memory(limit=1 << 20), pids=Pids(limit=5), block_io=BlockIO(weight=1000))
    apply(one_of_each, settings(resources, Extra(0, 0, 1)))
    assert written(one_of_each) == {
        "memory.limit_in_bytes": "1048576",
        "memory.max": "1048576",
        "pids.max": "6",
        "io.weight": "default 10000",
    }


def test_what_only_the_host_can_do_must_be_done(one_of_each: list[str]) -> None:
    for resources in (Resources(cpu=Cpu(cpus="0")), Resources(cpu=Cpu(mems="0"))):
        with pytest.raises(HostError, match=r"^cannot set \$\.linux\.resources\.cpu\.(cpu|mem)s on the host: "):
            apply(one_of_each, settings(resources, Extra(0, 0, 0)))


def test_what_the_kernel_refuses_at_first_is_written_after_the_rest(
    one_of_each: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []

    def write(path: str, text: str) -> None:
        name = os.path.basename(path)
        if name == "memory.limit_in_bytes" and "memory.memsw.limit_in_bytes" not in taken:
            raise OSError(errno.EINVAL, "Invalid argument")
        taken.append(name)

    monkeypatch.setattr("runv.cgroups._write", write)
    apply(one_of_each[:1], settings(Resources(memory=Memory(limit=5, swap=7)), Extra(0, 0, 0)))
    assert taken == ["memory.memsw.limit_in_bytes", "memory.limit_in_bytes"]


def test_a_value_that_the_kernel_refuses(one_of_each: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def write(path: str, text: str) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr("runv.cgroups._write", write)
    with pytest.raises(HostError, match=r"^cannot write '6' to .*/pids\.max: invalid argument$"):
        apply(one_of_each, settings(Resources(pids=Pids(limit=5)), Extra(0, 0, 1)))


@pytest.fixture
def real() -> Iterator[list[str]]:
    """A cgroup in each of the host's hierarchies."""
    folders = plan(f"runv-test-{os.getpid()}")
    try:
        create(folders)
    except HostError as error:
        pytest.skip(str(error))
    yield folders
    remove(folders)


def where_it_comes(entry: Entry) -> dict[str, str]:
    """The cgroups of a child, by the names of their hierarchies."""
    ours, theirs = os.pipe()
    pid = entry.fork()
    if pid == 0:
        try:
            entry.enter()
            os.write(theirs, Path("/proc/self/cgroup").read_bytes())
        finally:
            os._exit(0)
    os.close(theirs)
    with os.fdopen(ours) as said:
        lines = said.read().splitlines()
    assert os.waitpid(pid, 0) == (pid, 0)
    return {name: path for _, name, path in (line.split(":", 2) for line in lines)}


def test_a_child_enters_all_of_its_cgroups(real: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    if any(hierarchy.version == 2 for hierarchy in parse_mountinfo(Path("/proc/self/mountinfo").read_text())):
        monkeypatch.setattr("os.fork", lambda: pytest.fail("the kernel is waited for"))
    found = where_it_comes(Entry(real))
    assert list(found.values()).count(f"/runv-test-{os.getpid()}") == len(real)


def test_a_kernel_that_forks_into_no_cgroup(real: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> int:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), "clone3")

    monkeypatch.setattr("runv.linux.fork_into", refuse)
    assert list(where_it_comes(Entry(real)).values()).count(f"/runv-test-{os.getpid()}") == len(real)


def test_a_child_that_cannot_enter(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=rf"^cannot start true: {tmp_path}/absent/cgroup.procs: no such file or directory"):
        entry = Entry([f"{tmp_path}/absent"])
        spawn(["/bin/true"], env={}, stdio=(0, 1, 2), pid_file=f"{tmp_path}/pid", entry=entry)
    assert os.listdir(tmp_path) == []
