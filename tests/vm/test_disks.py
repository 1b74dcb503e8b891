"""Roots and volumes on disks: image files and block devices of the host, in the first container of a machine and in one that joins."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .harness import Bundle, Created, Runtime

pytestmark = pytest.mark.vm

MakeBundle = Callable[[], Bundle]
MIB = 1 << 20


def command(*words: str | Path) -> str:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout


def ext4(path: Path, content: Path | None = None, mib: int = 16) -> Path:
    path.touch()
    os.truncate(path, mib * MIB)
    fill: tuple[str | Path, ...] = ("-d", content) if content else ()
    command("mkfs.ext4", "-q", *fill, path)
    return path


def file_on(image: Path, name: str) -> str:
    """The text of a file on an ext4 that nobody has mounted, as the host finds it; also the proof that the file system is in order."""
    command("e2fsck", "-fn", image)
    return command("debugfs", "-R", f"cat {name}", image)


@pytest.fixture
def image(folder: Path) -> Path:
    return ext4(folder / "volume.img")


@pytest.fixture
def loop(image: Path) -> Iterator[Path]:
    """A block device of the host."""
    device = Path(command("losetup", "--find", "--show", image).strip())
    yield device
    command("losetup", "--detach", device)


def numbers(device: Path) -> dict[str, int]:
    rdev = device.stat().st_rdev
    return {"major": os.major(rdev), "minor": os.minor(rdev)}


def as_device(bundle: Bundle, device: Path, path: str, access: str) -> Bundle:
    """As `docker run --device DEVICE:PATH:ACCESS` writes it."""
    entry = {"path": path, "type": "b", **numbers(device), "fileMode": 0o640, "uid": 0, "gid": 6}
    bundle.linux["devices"] = [entry]
    rules = bundle.linux["resources"]["devices"]
    rules.append({"allow": True, "type": "b", **numbers(device), "access": access})
    return bundle.save()


def join(bundle: Bundle, pod: Created) -> Bundle:
    bundle.config["annotations"] = {
        "io.kubernetes.cri.container-type": "container",
        "io.kubernetes.cri.sandbox-id": pod.id,
    }
    return bundle.save()


@pytest.mark.parametrize("kind", ["ext4", "xfs", "erofs"])
def test_a_root_on_an_image(runv: Runtime, bundle: Bundle, folder: Path, kind: str) -> None:
    image = folder / f"root.{kind}"
    if kind == "ext4":
        ext4(image, bundle.rootfs)
    elif kind == "erofs":
        command("mkfs.erofs", image, bundle.rootfs)
    else:
        image.touch()
        os.truncate(image, 320 * MIB)
        command("mkfs.xfs", "-q", image)
        point = folder / "point"
        point.mkdir()
        command("mount", "-o", "loop", image, point)
        command("cp", "-a", f"{bundle.rootfs}/.", point)
        command("umount", point)
    bundle.config["root"] = {"path": str(image), "readonly": kind == "erofs"}
    bundle.script("grep ' / ' /proc/mounts; cat /etc/written; echo again >/etc/written", cwd="/home/alice")
    first, second = runv.run_bundle(bundle), runv.run_bundle(bundle)
    device, place, found = first.lines[0].split()[:3]
    assert (device, place, found) == ("/dev/sda", "/", kind)
    assert second.lines[1:] == ([] if kind == "erofs" else ["again"])
    assert ("Read-only file system" in second.err) == (kind == "erofs")


def test_the_annotation_names_the_file_system_of_a_root(runv: Runtime, bundle: Bundle, folder: Path) -> None:
    image = ext4(folder / "root.img", bundle.rootfs)
    bundle.config["root"]["path"] = str(image)
    bundle.config["annotations"] = {"run.runv.rootfs.fstype": "xfs"}
    failed = runv.run_bundle(bundle.args("true"))
    assert failed.code == 1 and "cannot mount the rootfs as xfs: invalid argument" in failed.err
    bundle.config["annotations"] = {"run.runv.rootfs.fstype": "btrfs"}
    failed = runv.run_bundle(bundle.save())
    assert failed.code == 1 and "the guest's kernel has no file system btrfs" in failed.err
    image.write_bytes(b"text, and no file system\n" * 1000)
    bundle.config["annotations"] = {}
    failed = runv.run_bundle(bundle.save())
    assert failed.code == 1 and f"cannot use rootfs {image}: no file system is known on it" in failed.err


def test_a_volume(runv: Runtime, bundle: Bundle, image: Path) -> None:
    bundle.mount("/data", str(image), "ext4", "nosuid", "noatime", "data=ordered")
    bundle.script("grep /data /proc/mounts; echo written >/data/file")
    done = runv.run_bundle(bundle)
    assert done.ok().out.startswith("/dev/sda /data ext4 rw,nosuid,noatime")
    assert file_on(image, "file") == "written\n"


def test_what_a_killed_container_has_written_is_on_its_disk(runv: Runtime, bundle: Bundle, image: Path) -> None:
    bundle.mount("/data", str(image), "ext4").script("echo written >/data/file; echo done; sleep 1000")
    container = runv.start(bundle)
    container.wait_output(b"done")
    container.delete()
    assert file_on(image, "file") == "written\n"


@pytest.mark.parametrize("why", ["asked", "immutable"])
def test_a_read_only_volume(runv: Runtime, bundle: Bundle, image: Path, why: str) -> None:
    before = image.read_bytes()
    bundle.mount("/data", str(image), "ext4", *(["ro"] if why == "asked" else []))
    if why == "immutable":
        command("chattr", "+i", image)
    try:
        done = runv.run_bundle(bundle.script("grep -o ' ext4 r[ow]' /proc/mounts; touch /data/file; cat /sys/block/sda/ro"))
    finally:
        command("chattr", "-i", image)
    assert done.lines == [" ext4 ro", "1"] and "Read-only file system" in done.err
    assert image.read_bytes() == before


def test_what_is_trimmed_is_given_back(runv: Runtime, bundle: Bundle, image: Path) -> None:
    bundle.process["capabilities"] = {name: ["CAP_SYS_ADMIN"] for name in ("bounding", "effective", "permitted")}
    bundle.mount("/data", str(image), "ext4")
    runv.run_bundle(bundle.script("head -c 8m /dev/urandom >/data/file")).ok()
    full = image.stat().st_blocks
    runv.run_bundle(bundle.script("rm /data/file; sync; fstrim /data")).ok()
    assert image.stat().st_blocks <= full - (7 << 20) // 512


def test_qcow2(runv: Runtime, bundle: Bundle, image: Path, folder: Path) -> None:
    packed = folder / "volume.qcow2"
    command("qemu-img", "convert", "-O", "qcow2", image, packed)
    bundle.mount("/data", str(packed), "ext4").script("echo written >/data/file")
    runv.run_bundle(bundle).ok()
    command("qemu-img", "convert", "-O", "raw", packed, image)
    assert file_on(image, "file") == "written\n"


def test_a_guest_cannot_turn_its_raw_disk_into_another_format(runv: Runtime, bundle: Bundle, image: Path) -> None:
    as_bytes = image.read_bytes()
    image.write_bytes(b"QFI\xfb" + as_bytes[4:])
    failed = runv.run_bundle(bundle.mount("/data", str(image), "ext4").args("true"))
    assert failed.code == 1 and "begins like a qcow2 image, but is not called so" in failed.err


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("absent.img", "cannot attach disk {folder}/absent.img: no such file or directory"),
        ("b", "cannot attach disk {folder}/b: neither a block device nor an image file"),
        ("empty", "cannot attach disk {folder}/empty: it is empty"),
        ("other.qcow2", "cannot attach disk {folder}/other.qcow2: it has a backing file"),
    ],
)
def test_what_is_no_disk(runv: Runtime, bundle: Bundle, folder: Path, image: Path, source: str, message: str) -> None:
    (folder / "b").mkdir()
    (folder / "empty").touch()
    command("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", image, folder / "other.qcow2")
    failed = runv.run_bundle(bundle.mount("/data", str(folder / source), "ext4").args("true"))
    assert failed.code == 1 and message.format(folder=folder) in failed.err


def test_a_file_system_that_the_guest_lacks(runv: Runtime, bundle: Bundle, image: Path) -> None:
    failed = runv.run_bundle(bundle.mount("/data", str(image), "btrfs").args("true"))
    assert failed.code == 1 and "cannot mount btrfs at /data: the guest's kernel has no such file system" in failed.err


def test_an_image_is_used_by_one_machine(runv: Runtime, make_bundle: MakeBundle, image: Path) -> None:
    first = runv.start(make_bundle().mount("/data", str(image), "ext4").args("sleep", "1000"))
    second = make_bundle().mount("/data", str(image), "ext4").args("true")
    failed = runv.run_bundle(second)
    assert failed.code == 1 and f"cannot attach disk {image}: another machine uses it" in failed.err
    first.delete()
    runv.run_bundle(second).ok()


def test_an_image_is_read_by_many_machines(runv: Runtime, make_bundle: MakeBundle, image: Path) -> None:
    for bundle in (readers := [make_bundle().mount("/data", str(image), "ext4", "ro") for _ in range(2)]):
        bundle.args("sleep", "1000")
    containers = [runv.start(bundle) for bundle in readers]
    assert [each.exec("ls", "/data").ok().out for each in containers] == ["lost+found\n"] * 2
    for container in containers:
        container.delete()


def test_a_block_device_as_a_volume(runv: Runtime, bundle: Bundle, image: Path, loop: Path) -> None:
    runv.run_bundle(bundle.mount("/data", str(loop), "ext4").script("echo written >/data/file")).ok()
    assert file_on(image, "file") == "written\n"


def test_a_block_device_that_the_host_has_mounted(runv: Runtime, bundle: Bundle, loop: Path, folder: Path) -> None:
    (folder / "point").mkdir()
    command("mount", loop, folder / "point")
    try:
        failed = runv.run_bundle(bundle.mount("/data", str(loop), "ext4").args("true"))
        assert failed.code == 1 and f"cannot attach disk {loop}: device or resource busy" in failed.err
    finally:
        command("umount", folder / "point")


def test_a_device(runv: Runtime, bundle: Bundle, image: Path, loop: Path) -> None:
    as_device(bundle, loop, "/dev/xvda", "rwm").script(
        "stat -c '%A %u %g' /dev/xvda; dd if=/dev/xvda bs=2 skip=540 count=1 2>/dev/null | od -An -tx1;"
        "printf changed | dd of=/dev/xvda conv=fsync 2>/dev/null; head -c 4 /dev/loop0"
    )
    done = runv.run_bundle(bundle)
    assert done.lines == ["brw-r----- 0 6", " 53 ef"]
    assert "/dev/loop0: No such file" in done.err
    assert image.read_bytes()[:7] == b"changed"


def test_a_device_without_the_right_to_write(runv: Runtime, bundle: Bundle, image: Path, loop: Path) -> None:
    before = image.read_bytes()
    as_device(bundle, loop, "/dev/xvda", "r")
    done = runv.run_bundle(bundle.script("head -c 1 /dev/xvda >/dev/null && echo read; echo x >/dev/xvda"))
    assert done.out == "read\n" and "Operation not permitted" in done.err
    assert image.read_bytes() == before


def test_a_device_bound_to_a_path(runv: Runtime, bundle: Bundle, loop: Path) -> None:
    """A bind mount gives the node; the right to open it is another matter, here as with runc."""
    bundle.mount("/dev/xvda", str(loop), "bind", "bind")
    bundle.script("stat -c %F /dev/xvda; head -c 1 /dev/xvda")
    done = runv.run_bundle(bundle)
    assert done.out == "block special file\n" and "Operation not permitted" in done.err
    rules = bundle.linux["resources"]["devices"]
    rules.append({"allow": True, "type": "b", **numbers(loop), "access": "r"})
    assert runv.run_bundle(bundle.script("head -c 1 /dev/xvda | wc -c")).ok().out == "1\n"


def test_a_device_that_is_not_there(runv: Runtime, bundle: Bundle) -> None:
    """As with runc there is a node all the same; but not the right to open it, since in the guest its numbers may be another's."""
    bundle.linux["devices"] = [{"path": "/dev/xvda", "type": "b", "major": 7, "minor": 1234}]
    bundle.linux["resources"]["devices"].append({"allow": True, "type": "b", "major": 7, "minor": 1234, "access": "rwm"})
    done = runv.run_bundle(bundle.script("stat -c '%F %t:%T' /dev/xvda; head -c 1 /dev/xvda"))
    assert done.out == "block special file 7:4d2\n"
    assert "Operation not permitted" in done.err
    assert "linux.devices: /dev/xvda leads nowhere: the host has no such device" in done.err


def test_disks_come_and_go_with_containers(runv: Runtime, make_bundle: MakeBundle, folder: Path, image: Path) -> None:
    pod = runv.start(make_bundle().args("sleep", "1000"))
    assert pod.exec("ls", "/sys/block").ok().out == ""
    root = make_bundle()
    ext4(folder / "root.img", root.rootfs)
    root.config["root"]["path"] = str(folder / "root.img")
    members = [join(root, pod), join(make_bundle(), pod)]
    containers = [runv.start(each.mount("/data", str(image), "ext4").args("sleep", "1000")) for each in members]
    assert pod.exec("ls", "/sys/block").ok().lines == ["sda", "sdb"]
    containers[0].exec("sh", "-c", "echo shared >/data/file").ok()
    assert containers[1].exec("cat", "/data/file").ok().out == "shared\n"
    containers[0].delete()
    assert len(pod.exec("ls", "/sys/block").ok().lines) == 1
    assert containers[1].exec("cat", "/data/file").ok().out == "shared\n"
    containers[1].delete()
    assert pod.exec("ls", "/sys/block").ok().out == ""
    assert file_on(image, "file") == "shared\n"
    again = runv.start(join(make_bundle(), pod).mount("/data", str(image), "ext4").args("sleep", "1000"))
    assert again.exec("cat", "/data/file").ok().out == "shared\n"
    again.delete()
    pod.delete()


def test_a_failed_create_gives_its_disk_back(runv: Runtime, make_bundle: MakeBundle, image: Path) -> None:
    pod = runv.start(make_bundle().args("sleep", "1000"))
    failed = runv.run_bundle(join(make_bundle(), pod).mount("/data", str(image), "ext4").args("no-such-program"))
    assert failed.code == 1 and "executable file not found" in failed.err
    assert pod.exec("ls", "/sys/block").ok().out == ""
    pod.delete()


def test_on_a_q35(runv: Runtime, make_bundle: MakeBundle, image: Path) -> None:
    runtime = Runtime("runv", runv.program, runv.root, {"RUNV_MACHINE": "q35"})
    pod = runtime.start(make_bundle().args("sleep", "1000"))
    bundle = join(make_bundle(), pod).mount("/data", str(image), "ext4").args("sleep", "1000")
    container = runtime.start(bundle)
    container.exec("touch", "/data/file").ok()
    container.delete()
    assert pod.exec("ls", "/sys/block").ok().out == ""
    pod.delete()
