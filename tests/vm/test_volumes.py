"""What a file system can do in a container, on each kind of volume: docs/storage.md has the list of what it cannot."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from .harness import Bundle, Created, Runtime

pytestmark = pytest.mark.vm

# What does not hold, and is written down in docs/storage.md, "What a shared folder cannot do".
MISSING = {
    "9p": {
        "writing_drops_setuid", "rename_without_replacing", "rename_exchange", "attributes_of_the_unlinked", "nameless_files", "holes",
        "allocating", "punching_holes", "times", "trusted_attributes", "file_capabilities",
    },
    "virtiofs": {"nameless_files", "trusted_attributes", "access_lists"},
    "disk": set[str](),
}  # fmt: skip
CAPABILITIES = [
    "CAP_" + name
    for name in "CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD SETFCAP SETGID SETPCAP SETUID SYS_ADMIN".split()
]


@pytest.fixture(scope="session")
def posix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("posix") / "posix"
    source = Path(__file__).with_name("posix.c")
    subprocess.run(["gcc", "-static", "-O1", "-Wall", "-Wextra", "-Werror", "-o", program, source], check=True)
    return program


@pytest.fixture(params=["9p", "virtiofs"])
def shared(request: pytest.FixtureRequest, runv: Runtime) -> Runtime:
    return replace(runv, env={"RUNV_SHARE": request.param})


@pytest.mark.parametrize("kind", ["9p", "virtiofs", "disk"])
def test_posix(runv: Runtime, bundle: Bundle, folder: Path, posix: Path, kind: str) -> None:
    place = folder / "volume"
    if kind == "disk":
        place.touch()
        os.truncate(place, 64 << 20)
        subprocess.run(["mkfs.ext4", "-q", place], check=True)
        bundle.mount("/vol", str(place), "ext4")
        runtime = runv
    else:
        place.mkdir()
        bundle.mount("/vol", str(place), "bind", "bind")
        runtime = replace(runv, env={"RUNV_SHARE": kind})
    bundle.mount("/posix", str(posix), "bind", "bind", "ro")
    bundle.process["capabilities"] = {name: CAPABILITIES for name in ("bounding", "effective", "permitted")}
    done = runtime.run_bundle(bundle.args("/posix", "/vol", noNewPrivileges=False), deadline_s=300).ok()
    results = [line.split(" ", 2) for line in done.lines]
    failed = {name.rstrip(":"): why for word, name, *why in results if word == "failed"}
    assert len(results) > 40
    assert failed.keys() == MISSING[kind], failed


def _running(runtime: Runtime, bundle: Bundle, source: Path, *options: str) -> Created:
    return runtime.start(bundle.mount("/vol", str(source), "bind", *options).args("sleep", "1000"))


def test_both_sides_see_each_others_changes_at_once(shared: Runtime, bundle: Bundle, folder: Path) -> None:
    place = folder / "volume"
    place.mkdir()
    (place / "file").write_text("first\n")
    container = _running(shared, bundle, place, "bind")

    def inside(script: str) -> str:
        return container.exec("sh", "-c", script).ok().out

    assert inside("cat /vol/file") == "first\n"
    for text in ("other\n", "longer than before\n", "short\n"):
        (place / "file").write_text(text)
        assert inside("cat /vol/file; wc -c </vol/file") == f"{text}{len(text)}\n"
    (place / "new").mkdir()
    assert inside("ls /vol") == "file\nnew\n"
    os.rename(place / "file", place / "new/file")
    assert inside("ls /vol; cat /vol/new/file") == "new\nshort\n"
    os.unlink(place / "new/file")
    assert inside("ls /vol/new; test -e /vol/new/file || echo gone") == "gone\n"
    inside("echo from inside >/vol/made; mkdir /vol/deep; chmod 700 /vol/deep")
    assert (place / "made").read_text() == "from inside\n"
    assert (place / "deep").stat().st_mode & 0o777 == 0o700
    inside("mv /vol/made /vol/deep/; ln /vol/deep/made /vol/two; rmdir /vol/new")
    assert sorted(os.listdir(place)) == ["deep", "two"] and (place / "two").stat().st_nlink == 2
    container.delete()


def test_an_open_file_that_the_host_changes(shared: Runtime, bundle: Bundle, folder: Path) -> None:
    """As `tail -f` on a log that the host writes."""
    place = folder / "volume"
    place.mkdir()
    log = place / "log"
    log.write_text("one\n")
    bundle.mount("/vol", str(place), "bind", "bind")
    container = shared.start(bundle.script("exec 3</vol/log; while :; do read line <&3 && echo seen $line; sleep 0.1; done"))
    container.wait_output(b"seen one\n")
    with log.open("a") as file:
        file.write("two\n")
    container.wait_output(b"seen two\n")
    container.delete()


def test_a_read_only_share(shared: Runtime, bundle: Bundle, folder: Path) -> None:
    place = folder / "volume"
    place.mkdir()
    (place / "file").write_text("kept\n")
    container = _running(shared, bundle, place, "bind", "ro")
    done = container.exec("sh", "-c", "cat /vol/file; echo x >/vol/file; rm /vol/file; touch /vol/x; chmod 777 /vol/file")
    assert done.out == "kept\n" and done.err.count("Read-only file system") == 4
    assert os.listdir(place) == ["file"] and (place / "file").read_text() == "kept\n"
    container.delete()


def test_a_single_file(shared: Runtime, bundle: Bundle, folder: Path) -> None:
    (folder / "file").write_text("first\n")
    bundle.mount("/etc/one", str(folder / "file"), "bind", "bind")
    container = shared.start(bundle.args("sleep", "1000"))
    assert container.exec("sh", "-c", "cat /etc/one; echo second >/etc/one").ok().out == "first\n"
    assert (folder / "file").read_text() == "second\n"
    # The mount is of the file, not of its name: what an editor puts in its place is another one.
    (folder / "new").write_text("third\n")
    os.rename(folder / "new", folder / "file")
    assert container.exec("cat", "/etc/one").ok().out == "second\n"
    container.delete()


@pytest.mark.parametrize("recursive", [True, False])
def test_what_is_mounted_below(shared: Runtime, bundle: Bundle, folder: Path, recursive: bool) -> None:
    place = folder / "volume"
    (place / "below").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", place / "below"], check=True)
    try:
        (place / "below/file").write_text("in the tmpfs\n")
        container = _running(shared, bundle, place, "rbind" if recursive else "bind")
        assert container.exec("ls", "/vol/below").ok().out == ("file\n" if recursive else "")
        if recursive:
            container.exec("sh", "-c", "echo more >>/vol/below/file; touch /vol/below/made").ok()
            assert (place / "below/file").read_text() == "in the tmpfs\nmore\n"
            assert sorted(os.listdir(place / "below")) == ["file", "made"]
            # Two file systems, so what has the same number in both is still two files.
            assert len({container.exec("stat", "-c", "%d:%i", path).ok().out for path in ("/vol", "/vol/below")}) == 2
        container.delete()
    finally:
        subprocess.run(["umount", place / "below"], check=True)


def test_deleting_one_of_a_pod_leaves_the_hosts_mounts(shared: Runtime, make_bundle: Callable[[], Bundle], folder: Path) -> None:
    """On a host whose mounts are shared, as systemd makes them, what is unmounted in one place is unmounted in all."""
    place = folder / "volume"
    place.mkdir()
    for path in (place, place / "below"):
        path.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "none", path], check=True)
        subprocess.run(["mount", "--make-shared", path], check=True)
    (place / "later").mkdir()
    try:
        pod = _running(shared, make_bundle(), place, "rbind")
        bundle = make_bundle()
        bundle.config["annotations"] = {
            "io.kubernetes.cri.container-type": "container",
            "io.kubernetes.cri.sandbox-id": pod.id,
        }
        member = _running(shared, bundle, place, "rbind")
        subprocess.run(["mount", "-t", "tmpfs", "none", place / "later"], check=True)
        (place / "later/file").touch()
        (place / "below/file").touch()
        for container in (pod, member):
            assert container.exec("ls", "/vol/below", "/vol/later").ok().out.count("file") == 2
        member.delete()
        assert os.path.ismount(place / "below") and os.path.ismount(place / "later")
        assert pod.exec("ls", "/vol/below", "/vol/later").ok().out.count("file") == 2
        pod.delete()
        assert os.path.ismount(place / "below") and os.path.ismount(place / "later")
    finally:
        subprocess.run(["umount", "--recursive", place], check=True)


def test_mounts_within_mounts(shared: Runtime, make_bundle: Callable[[], Bundle], folder: Path) -> None:
    bundle = make_bundle()
    for name in ("outer/inner", "other"):
        (folder / name).mkdir(parents=True)
    (folder / "outer/inner/hidden").touch()
    (folder / "other/shown").touch()
    bundle.mount("/vol", str(folder / "outer"), "bind", "bind", "ro")
    bundle.mount("/vol/inner", str(folder / "other"), "bind", "bind")
    bundle.mount("/vol/inner/deep", "tmpfs", "tmpfs")
    done = shared.run_bundle(bundle.script("ls /vol/inner; touch /vol/inner/new /vol/inner/deep/new; touch /vol/x"))
    assert done.lines == ["deep", "shown"] and "touch: /vol/x: Read-only file system" in done.err
    assert sorted(os.listdir(folder / "other")) == ["deep", "new", "shown"]
    assert os.listdir(folder / "other/deep") == []
