"""Whatever config.json says: it is refused in one clear line, or the container runs; nothing hangs, and nothing is left."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .harness import Bundle, Done, Json, Runtime, new_id, refusal, wait_for
from .mutations import mutant

pytestmark = pytest.mark.vm

_SEEDS = 200
_SMALL_SEEDS = 40
_GIVE_UP = (
    "internal error",  # a mistake of runv's, see runv/cli/main.py
    "broke the protocol",  # runv told the agent what it does not take
    "did not answer",
    "connection to the guest's agent ended",
)


def _rich(bundle: Bundle) -> Json:
    """A configuration in which most of the specification occurs, whose program ends at once."""
    (bundle.rootfs / "out").symlink_to("/")
    (bundle.rootfs / "loop").symlink_to("loop")
    (bundle.path / "data").mkdir()
    (bundle.path / "data/file").write_text("data\n")
    bundle.args("true", user={"uid": 0, "gid": 0, "umask": 18, "additionalGids": [5, 1000]}, oomScoreAdj=100)
    bundle.mount("/data", "data", "none", "rbind", "ro", "nosuid")
    bundle.mount("/file2", "data/file", "bind", "bind")
    bundle.config["hooks"] = {
        "createRuntime": [{"path": "/bin/true", "args": ["true", "x"], "env": ["A=b"], "timeout": 5}],
        "poststop": [{"path": "/bin/true"}],
    }
    bundle.config["annotations"] = {"org.example.key": "value"}
    bundle.config["domainname"] = "example.org"
    bundle.linux.update(
        devices=[{"type": "c", "path": "/dev/zero2", "major": 1, "minor": 5, "fileMode": 438, "uid": 0, "gid": 0}],
        sysctl={"net.ipv4.ip_forward": "1"},
        cgroupsPath=f"/{new_id()}",
        seccomp={
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [
                {"names": ["sethostname"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
                {
                    "names": ["personality"],
                    "action": "SCMP_ACT_ERRNO",
                    "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}],
                },
            ],
        },
        rootfsPropagation="private",
    )
    bundle.linux["resources"] = {
        "devices": [
            {"allow": False, "access": "rwm"},
            {"allow": True, "type": "c", "major": 1, "minor": 5, "access": "r"},
        ],
        "memory": {"limit": 64 << 20, "swap": 64 << 20},
        "cpu": {"shares": 512, "quota": 50000, "period": 100000},
        "pids": {"limit": 50},
    }
    return bundle.config


def _outside(bundle: Bundle, root: Path) -> dict[str, tuple[int, int]]:
    """What is around the root file system, and would show a path that leads out of it."""
    found = [path for path in bundle.path.parent.rglob("*") if root not in (path, *path.parents)]
    found = [path for path in found if bundle.rootfs not in (path, *path.parents)]
    return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in found if path.is_file()}


def _check_refused(done: Done, what: str, code: int = 1) -> None:
    text = refusal(done, code)
    assert not any(word in text for word in _GIVE_UP), f"{what}: {text}"
    assert len(text) < 3000, f"{what}: {text}"


def _check_warnings(done: Done, what: str) -> None:
    """What is not honoured is said, and nothing else."""
    assert done.code == 0, f"{what}: {done.err}"
    assert all(" level=warning " in line for line in done.err.splitlines()), f"{what}: {done.err}"


def _run_to_its_end(runv: Runtime, name: str, pid: int, what: str) -> None:
    assert runv.state(name)["status"] == "created", what
    started = runv.run("start", name)
    if started.code:
        _check_refused(started, what)
        runv.run("kill", name, "KILL")
    wait_for(pid)
    assert runv.state(name)["status"] == "stopped", what


def _groups_of(root: Path, name: str) -> list[str]:
    record = json.loads((root / name / "state.json").read_text())
    return list(record["made_groups"])


@pytest.mark.parametrize("seed", range(_SEEDS))
def test_a_broken_config(runv: Runtime, bundle: Bundle, root: Path, seed: int) -> None:
    what, text = mutant(_rich(bundle), seed)
    (bundle.path / "config.json").write_bytes(text)
    around = _outside(bundle, root)
    name = new_id()
    pid_file = root.parent / "pid"
    done = runv.run("create", "--bundle", str(bundle.path), "--pid-file", str(pid_file), name)
    if done.code:
        _check_refused(done, what)
        assert not (root / name).exists()
        assert not pid_file.exists()
        return
    groups = _groups_of(root, name)
    try:
        _check_warnings(done, what)
        _run_to_its_end(runv, name, int(pid_file.read_text()), what)
    finally:
        runv.run("delete", "--force", name).ok()
        pid_file.unlink()
    assert [group for group in groups if Path(group).exists()] == [], what
    assert _outside(bundle, root) == around, what
    assert not Path("/tmp/escaped").exists() and not Path("/escaped").exists(), what


_EXEC_FAILED = 255
_PROCESS: Json = {
    "args": ["true", "x"],
    "cwd": "/",
    "env": ["PATH=/bin", "A=b"],
    "user": {"uid": 0, "gid": 0, "umask": 18, "additionalGids": [5]},
    "capabilities": {name: ["CAP_KILL"] for name in ("bounding", "effective", "permitted")},
    "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}],
    "oomScoreAdj": 10,
    "noNewPrivileges": True,
    "terminal": False,
    "consoleSize": {"height": 24, "width": 80},
    "scheduler": {"policy": "SCHED_OTHER", "nice": 3},
}


def test_broken_processes(runv: Runtime, bundle: Bundle, folder: Path) -> None:
    container = runv.start(bundle.args("sleep", "1000"))
    file = folder / "process.json"
    for seed in range(_SMALL_SEEDS):
        what, text = mutant(_PROCESS, seed)
        file.write_bytes(text)
        done = runv.run("exec", "--process", str(file), container.id)
        if done.code == _EXEC_FAILED:
            _check_refused(done, what, _EXEC_FAILED)
        else:
            _check_warnings(done, what)
        assert (done.out, container.status()) == ("", "running"), what
    assert container.exec("echo", "still").ok().out == "still\n"
    container.delete()


_RESOURCES: Json = {
    "memory": {"limit": 64 << 20, "swap": 64 << 20, "reservation": 32 << 20},
    "cpu": {"shares": 512, "quota": 50000, "period": 100000, "cpus": "0"},
    "pids": {"limit": 50},
    "blockIO": {"weight": 100},
    "unified": {"pids.max": "60"},
}


def test_broken_resources(runv: Runtime, bundle: Bundle) -> None:
    """A limit that is taken may be so small that the container ends of it; then another one takes its place."""
    container = runv.start(bundle.args("sleep", "1000"))
    for seed in range(_SMALL_SEEDS):
        what, text = mutant(_RESOURCES, seed)
        done = runv.run("update", "--resources", "-", container.id, stdin=text)
        if done.code:
            _check_refused(done, what)
        else:
            _check_warnings(done, what)
        if container.status() != "running":
            assert container.wait() in (137, -9), what
            container.delete()
            container = runv.start(bundle)
    container.delete()
