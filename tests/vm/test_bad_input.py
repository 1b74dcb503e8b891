"""Whatever is wrong: one clear line, exit status 1, and nothing left behind (the leak check runs after every test)."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .harness import SLOW, Bundle, Done, Runtime, new_id, refusal, runv_program

pytestmark = pytest.mark.vm

# runc's exec fails with 255, whatever the reason.
_EXEC_FAILED = 255
_NOBODY = 65534


def create(runtime: Runtime, bundle: Bundle, *flags: str, **env: str) -> Done:
    runtime.env = env
    return runtime.run("create", "--bundle", str(bundle.path), *flags, new_id())


# config.json and the bundle


def test_no_config(runv: Runtime, bundle: Bundle) -> None:
    (bundle.path / "config.json").unlink()
    assert "config.json not found" in refusal(create(runv, bundle))


@pytest.mark.parametrize("text", ["", "{", "not json", '{"ociVersion": "1.0.2",}'])
def test_config_is_not_json(runv: Runtime, bundle: Bundle, text: str) -> None:
    (bundle.path / "config.json").write_text(text)
    assert "config.json is not JSON: " in refusal(create(runv, bundle))


def test_config_is_a_folder(runv: Runtime, bundle: Bundle) -> None:
    (bundle.path / "config.json").unlink()
    (bundle.path / "config.json").mkdir()
    assert "config.json: is a directory" in refusal(create(runv, bundle))


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"ociVersion": "9.1.0"}, "$.ociVersion: unsupported version '9.1.0'"),
        ({"ociVersion": 1}, "$.ociVersion"),
        ({"root": None}, "$.root.path"),
        ({"root": {"path": 5}}, "$.root.path"),
        ({"process": None}, "$.process"),
        ({"process": {"args": ["sh"], "cwd": "tmp"}}, "$.process.cwd"),
        ({"process": {"args": [], "cwd": "/"}}, "$.process.args"),
        ({"process": {"args": ["sh"], "cwd": "/", "env": [5]}}, "$.process.env[0]"),
        ({"mounts": [{"destination": 5}]}, "$.mounts[0].destination"),
        ({"hostname": "x" * 65}, "$.hostname"),
        ({"linux": {}}, "$.linux.namespaces"),
        ({"linux": {"namespaces": [{"type": "pid"}]}}, "$.linux.namespaces: a virtual machine cannot use the host's"),
        ({"linux": {"namespaces": [{"type": "network"}], "cgroupsPath": "/../../x"}}, "$.linux.cgroupsPath"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_config_is_wrong(runv: Runtime, bundle: Bundle, change: dict[str, Any], path: str) -> None:
    bundle.config.update(change)
    bundle.save()
    assert f"config.json: {path}" in refusal(create(runv, bundle))


def test_no_bundle(runv: Runtime, folder: Path) -> None:
    done = runv.run("create", "--bundle", str(folder / "absent"), new_id())
    assert f"cannot open bundle {folder}/absent: no such file or directory" in refusal(done)


def test_no_rootfs(runv: Runtime, bundle: Bundle) -> None:
    shutil.rmtree(bundle.rootfs)
    assert f"cannot use rootfs {bundle.rootfs}: no such file or directory" in refusal(create(runv, bundle))


def test_rootfs_is_a_file(runv: Runtime, bundle: Bundle) -> None:
    shutil.rmtree(bundle.rootfs)
    bundle.rootfs.touch()
    # A file is taken for the image of a disk.
    assert f"cannot attach disk {bundle.rootfs}: it is empty" in refusal(create(runv, bundle))


def test_a_bind_mount_of_nothing(runv: Runtime, bundle: Bundle) -> None:
    bundle.mount("/x", "/nonexistent", "none", "bind")
    assert "cannot mount /nonexistent: no such file or directory" in refusal(create(runv, bundle))


@pytest.mark.parametrize(
    ("path", "message"),
    [("/nonexistent/net", "no such file or directory"), ("/proc/{pid}/ns/net", "cannot use the host's own network")],
)
def test_a_network_namespace_that_cannot_be_used(runv: Runtime, bundle: Bundle, path: str, message: str) -> None:
    path = path.format(pid=os.getpid())
    bundle.linux["namespaces"] = [{"type": "network", "path": path}]
    bundle.save()
    text = refusal(create(runv, bundle))
    assert f"cannot use network namespace {path}: " in text
    assert message in text


def test_a_sandbox_that_is_not_there(runv: Runtime, bundle: Bundle) -> None:
    cri = "io.kubernetes.cri."
    bundle.config["annotations"] = {cri + "container-type": "container", cri + "sandbox-id": "absent"}
    bundle.save()
    assert "cannot join sandbox absent: container does not exist" in refusal(create(runv, bundle))


# the command line


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "@sandboxes", "\u00e4", "x" * 129, "a\n"])
@pytest.mark.parametrize("command", ["create", "state", "delete"])
def test_illegal_ids(runv: Runtime, bundle: Bundle, command: str, name: str) -> None:
    done = runv.run(command, name, cwd=bundle.path)
    assert "invalid container ID format: " in refusal(done)


@pytest.mark.parametrize("command", ["start", "state", "kill", "delete", "ps"])
def test_containers_that_are_not_there(runv: Runtime, command: str) -> None:
    assert refusal(runv.run(command, "absent")) == "container does not exist"


def test_exec_where_nothing_is(runv: Runtime) -> None:
    assert refusal(runv.run("exec", "absent", "true"), _EXEC_FAILED) == "exec failed: container does not exist"


def test_delete_with_force_where_nothing_is(runv: Runtime) -> None:
    assert runv.run("delete", "--force", "absent").ok().err == ""


@pytest.mark.parametrize(
    "argv", [["frobnicate"], ["--nosuch"], ["state"], ["create", "--bundle"], ["list", "--format=xml"]]
)
def test_wrong_usage(runv: Runtime, argv: list[str]) -> None:
    refusal(runv.run(*argv))


def test_descriptors_cannot_be_preserved(runv: Runtime, bundle: Bundle) -> None:
    assert "cannot preserve file descriptors" in refusal(create(runv, bundle, "--preserve-fds", "1"))


def test_a_terminal_without_a_console_socket(runv: Runtime, bundle: Bundle) -> None:
    bundle.args("sh", terminal=True)
    assert "cannot allocate tty" in refusal(create(runv, bundle))


def test_a_console_socket_that_nobody_listens_on(runv: Runtime, bundle: Bundle, folder: Path) -> None:
    bundle.args("sh", terminal=True)
    text = refusal(create(runv, bundle, "--console-socket", str(folder / "absent")))
    assert f"cannot send the terminal to {folder}/absent: no such file or directory" in text


def test_a_pid_file_that_cannot_be_written(runv: Runtime, bundle: Bundle) -> None:
    assert "cannot write /nonexistent/pid: " in refusal(create(runv, bundle, "--pid-file", "/nonexistent/pid"))


# the wrong moment


def test_what_does_not_fit_the_state(runv: Runtime, bundle: Bundle, make_bundle: Callable[[], Bundle]) -> None:
    created = runv.create(bundle.args("sleep", "1000"))
    again = runv.run("create", "--bundle", str(bundle.path), created.id)
    assert "container with given ID already exists" in refusal(again)
    assert created.status() == "created"
    assert 'unknown signal "NOSUCH"' in refusal(created.kill("NOSUCH"))
    created.start()
    assert "cannot start an already running container" in refusal(runv.run("start", created.id))
    assert "not stopped" in refusal(runv.run("delete", created.id))
    assert created.status() == "running"
    created.kill().ok()
    created.wait()
    assert refusal(created.kill()) == "container not running"
    assert refusal(runv.run("ps", created.id)) == "container not running"
    assert "cannot start a container that has stopped" in refusal(runv.run("start", created.id))
    assert "cannot exec in a stopped container" in refusal(created.exec("true"), _EXEC_FAILED)
    assert created.status() == "stopped"
    runv.run("delete", created.id).ok()
    assert refusal(runv.run("delete", created.id)) == "container does not exist"


# the machine


@pytest.mark.parametrize("name", ["kernel", "initrd"])
def test_artefacts_that_are_missing(runv: Runtime, bundle: Bundle, name: str) -> None:
    text = refusal(create(runv, bundle, **{f"RUNV_{name.upper()}": "/nonexistent"}))
    assert f"cannot open {name} /nonexistent: no such file or directory" in text


def test_a_kernel_that_is_none(runv: Runtime, bundle: Bundle, folder: Path) -> None:
    kernel = folder / "kernel"
    kernel.write_text("this is not a kernel\n")
    text = refusal(create(runv, bundle, RUNV_KERNEL=str(kernel)))
    assert f"cannot boot the guest with kernel {kernel}: it ended before its agent answered" in text
    assert "kernel" in text.partition("its console said: qemu: ")[2]


def test_a_kernel_that_panics(runv: Runtime, bundle: Bundle) -> None:
    text = refusal(create(runv, bundle, RUNV_KERNEL_PARAMETERS="rdinit=/nonexistent"))
    assert "cannot boot the guest with kernel /" in text
    assert ": it ended before its agent answered" in text
    assert "Kernel panic" in text.partition("its console said: ")[2]


def test_a_kernel_that_hangs(runv: Runtime, bundle: Bundle) -> None:
    timeout = str(3 * SLOW)
    text = refusal(
        create(runv, bundle, RUNV_KERNEL_PARAMETERS="rdinit=/nonexistent panic=0", RUNV_BOOT_TIMEOUT_S=timeout)
    )
    assert f": it did not answer within {timeout} s, twice" in text
    assert "Kernel panic" in text.partition("its console said: ")[2]


def test_no_qemu(runv: Runtime, bundle: Bundle) -> None:
    assert "cannot find QEMU: nosuch: " in refusal(create(runv, bundle, RUNV_QEMU="nosuch"))


def test_a_qemu_that_ends_at_once(runv: Runtime, bundle: Bundle) -> None:
    assert ": it ended before its agent answered" in refusal(create(runv, bundle, RUNV_QEMU="/bin/false"))


def test_a_qemu_that_is_no_program(runv: Runtime, bundle: Bundle, folder: Path) -> None:
    (folder / "qemu").write_text("no program\n")
    (folder / "qemu").chmod(0o755)
    assert f"cannot start qemu: {folder}/qemu: exec format error" in refusal(
        create(runv, bundle, RUNV_QEMU=str(folder / "qemu"))
    )


@pytest.mark.parametrize(
    ("name", "value"), [("RUNV_MEMORY_MIB", "much"), ("RUNV_MACHINE", "pdp11"), ("RUNV_CONFIG", "/nonexistent")]
)
def test_settings_that_are_wrong(runv: Runtime, bundle: Bundle, name: str, value: str) -> None:
    assert value in refusal(create(runv, bundle, **{name: value}))


@pytest.mark.parametrize("command", ["create", "run"])
def test_a_program_that_is_not_there(runv: Runtime, bundle: Bundle, command: str) -> None:
    bundle.args("/nonexistent")
    name = new_id()
    done = runv.run(command, "--bundle", str(bundle.path), name)
    if done.code == 0:
        done = runv.run("start", name)
        runv.run("delete", "--force", name).ok()
    assert "no such file or directory" in refusal(done)


# the host


@contextlib.contextmanager
def small_disk(path: Path, options: str) -> Iterator[None]:
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"mode=755,{options}", "tmpfs", path], check=True)
    try:
        yield
    finally:
        # Lazily: when a test fails, something may still live there, and the leak check ends it.
        subprocess.run(["umount", "--lazy", path], check=True)


# From the first file that does not fit to the last ones, which are written when the machine runs already.
@pytest.mark.parametrize(
    "options",
    [
        "size=4k",
        "size=8k",
        "size=12k",
        "size=16k",
        "size=20k",
        "nr_inodes=2",
        "nr_inodes=5",
        "nr_inodes=8",
        "nr_inodes=11",
    ],
)
def test_a_full_disk(runv: Runtime, bundle: Bundle, folder: Path, options: str) -> None:
    root = folder / "full"
    with small_disk(root, options):
        runtime = Runtime("runv", runv.program, root)
        # The serial port's bridge has a file of its own: without it the largest of these disks is large enough.
        assert "no space left on device" in refusal(create(runtime, bundle, RUNV_TRANSPORT="serial"))
        assert [path for path in root.rglob("*") if path != root / "@sandboxes"] == []
        runtime.run("delete", "--force", "absent").ok()


def test_a_disk_that_fills_up_later(runv: Runtime, make_bundle: Callable[[], Bundle], folder: Path) -> None:
    """Deleting needs room for nothing, also of the first container of a pod, whose cgroup the machine stays in."""
    root = folder / "full"
    with small_disk(root, "size=256k"):
        runtime = Runtime("runv", runv.program, root)
        names = [new_id(), new_id()]
        cri = "io.kubernetes.cri."
        for name, kind in zip(names, ("sandbox", "container"), strict=True):
            bundle = make_bundle().args("sleep", "1000")
            bundle.config["annotations"] = {cri + "container-type": kind, cri + "sandbox-id": names[0]}
            bundle.save()
            runtime.run("create", "--bundle", str(bundle.path), name).ok()
        with contextlib.suppress(OSError), open(root / ".filling", "wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        assert "no space left on device" in refusal(create(runtime, make_bundle()))
        for name in names:
            assert runtime.run("delete", "--force", name).ok().err == ""
        assert sorted(path.name for path in root.rglob("*")) == [".filling", "@sandboxes"]


def without_capabilities(runtime: Runtime, *argv: str) -> Done:
    command = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all", *runtime.command(*argv)]
    done = subprocess.run(command, capture_output=True, timeout=60 * SLOW, check=False)
    return Done(done.returncode, done.stdout, done.stderr)


def test_a_state_root_of_somebody_else(runv: Runtime, bundle: Bundle, folder: Path) -> None:
    other = folder / "other"
    other.mkdir(mode=0o755)
    os.chown(other, _NOBODY, _NOBODY)
    runtime = Runtime("runv", runv.program, other / "root")
    text = refusal(without_capabilities(runtime, "create", "--bundle", str(bundle.path), new_id()))
    assert f"cannot create state root {other}/root: permission denied" in text


def test_root_without_its_powers(runv: Runtime, bundle: Bundle) -> None:
    text = refusal(without_capabilities(runv, "create", "--bundle", str(bundle.path), new_id()))
    assert "operation not permitted" in text or "permission denied" in text


def test_another_user(runv: Runtime, bundle: Bundle, folder: Path) -> None:
    # The command without its artefacts, where everybody can read it.
    prefix = Path(runv_program()).resolve().parent.parent
    folder.chmod(0o755)
    for part in ("bin", "lib/runv"):
        shutil.copytree(prefix / part, folder / "prefix" / part, ignore=shutil.ignore_patterns("__pycache__"))
    bundle.path.chmod(0o755)
    command = [
        "setpriv",
        "--reuid",
        str(_NOBODY),
        "--regid",
        str(_NOBODY),
        "--clear-groups",
        str(folder / "prefix/bin/runv"),
    ]
    command += ["--root", "/run/runv-of-nobody", "create", "--bundle", str(bundle.path), new_id()]
    done = subprocess.run(command, capture_output=True, env={"PATH": os.defpath}, check=False)
    text = refusal(Done(done.returncode, done.stdout, done.stderr))
    assert "cannot create state root /run/runv-of-nobody: permission denied" in text
    assert "runv needs root" in text


# --log


@pytest.mark.parametrize("command", [["create", "--bundle", "/nonexistent"], ["state"], ["kill"]])
def test_the_log_gets_one_json_line(runv: Runtime, folder: Path, command: list[str]) -> None:
    log = folder / "log"
    done = runv.run("--log", str(log), "--log-format", "json", *command, "absent")
    assert done.code == 1
    (line,) = log.read_text().splitlines()
    entry = json.loads(line)
    assert sorted(entry) == ["level", "msg", "time"]
    assert entry["level"] == "error"
    assert done.err == entry["msg"] + "\n"


def test_a_log_that_cannot_be_written(runv: Runtime) -> None:
    done = runv.run("--log", "/nonexistent/log", "state", "absent")
    assert done.code == 1
    assert done.err.splitlines() == [
        "cannot write log /nonexistent/log: No such file or directory",
        "container does not exist",
    ]


def test_success_writes_nothing(runv: Runtime, folder: Path) -> None:
    runv.run("--log", str(folder / "log"), "--log-format", "json", "list").ok()
    assert not (folder / "log").exists()
