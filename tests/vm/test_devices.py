"""Character devices of the host that a container asks for: the guest has its own, or the container is refused."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from .harness import Bundle, Json, Runtime

pytestmark = pytest.mark.vm

ALL_CAPABILITIES = ["CAP_SYS_ADMIN", "CAP_SYS_RAWIO", "CAP_MKNOD", "CAP_DAC_OVERRIDE", "CAP_CHOWN", "CAP_FOWNER"]


def device(path: Path, kind: str = "c") -> Json:
    rdev = path.stat().st_rdev
    return {"path": str(path), "type": kind, "major": os.major(rdev), "minor": os.minor(rdev), "fileMode": 0o666}


def allowed(bundle: Bundle, *devices: Json) -> Bundle:
    """As `docker run --device` writes it."""
    bundle.linux["devices"] = list(devices)
    for each in devices:
        numbers = {"major": each["major"], "minor": each["minor"]}
        bundle.linux["resources"]["devices"].append({"allow": True, "type": each["type"], **numbers, "access": "rwm"})
    return bundle.save()


def privileged(bundle: Bundle, *devices: Json) -> Bundle:
    """As engines make one: every capability, every device allowed, and the nodes of all that the host has."""
    bundle.process["capabilities"] = {name: ALL_CAPABILITIES for name in ("bounding", "effective", "permitted")}
    bundle.linux["resources"]["devices"] = [{"allow": True, "access": "rwm"}]
    bundle.linux["devices"] = list(devices)
    return bundle.save()


def host_devices() -> list[Json]:
    """What `docker run --privileged` lists."""
    found = []
    for folder, _, names in os.walk("/dev"):
        for name in names:
            path = Path(folder, name)
            if folder.startswith(("/dev/pts", "/dev/shm", "/dev/mqueue")) or path.is_symlink():
                continue
            if path.is_char_device() or path.is_block_device():
                found.append(device(path, "c" if path.is_char_device() else "b"))
    return found


def test_devices_that_the_guest_has(runv: Runtime, bundle: Bundle) -> None:
    paths = [Path("/dev/fuse"), Path("/dev/net/tun")]
    allowed(bundle, *(device(path) for path in paths))
    # Opening /dev/fuse is all it takes; a tun device wants an ioctl before it can be read.
    done = runv.run_bundle(bundle.script("stat -c '%n %t:%T %a' /dev/fuse /dev/net/tun; exec 3<>/dev/fuse 4<>/dev/net/tun && echo open"))
    assert done.ok().lines == ["/dev/fuse a:e5 666", "/dev/net/tun a:c8 666", "open"]


def test_a_file_system_of_a_program(runv: Runtime, bundle: Bundle) -> None:
    """FUSE, from the device to the mount: what the program in the container answers is what another one sees."""
    source = Path(__file__).with_name("fuse.c")
    program = bundle.rootfs / "bin/fuse"
    subprocess.run(["gcc", "-static", "-Wall", "-Wextra", "-Werror", "-o", program, source], check=True)
    bundle.process["capabilities"] = {name: ["CAP_SYS_ADMIN"] for name in ("bounding", "effective", "permitted")}
    allowed(bundle, device(Path("/dev/fuse")))
    assert runv.run_bundle(bundle.args("fuse", "/tmp", "stat", "-c", "%a %s", "/tmp")).ok().out == "751 4711\n"


def test_a_device_that_was_not_asked_for(runv: Runtime, bundle: Bundle) -> None:
    bundle.process["capabilities"] = {name: ["CAP_MKNOD"] for name in ("bounding", "effective", "permitted")}
    bundle.mount("/t", "tmpfs", "tmpfs")
    done = runv.run_bundle(bundle.script("mknod /t/fuse c 10 229 && exec 3<>/t/fuse"))
    assert "/t/fuse: Operation not permitted" in done.err


def test_by_the_hosts_name_for_it(runv: Runtime, bundle: Bundle) -> None:
    bundle.linux["devices"] = [{"type": "c", **device(Path("/dev/loop-control")), "path": "/dev/x"}]
    assert runv.run_bundle(bundle.script("stat -c %F /dev/x")).ok().out == "character special file\n"


def test_one_that_the_host_does_not_have(runv: Runtime, bundle: Bundle) -> None:
    bundle.linux["devices"] = [{"type": "c", "path": "/dev/ghost", "major": 4094, "minor": 7}]
    done = runv.run_bundle(bundle.script("stat -c %F /dev/ghost; : 3<>/dev/ghost"))
    assert done.out == "character special file\n"
    assert "/dev/ghost leads nowhere: the host has no such device" in done.err
    assert done.code != 0


def test_a_device_of_the_host_alone(runv: Runtime, bundle: Bundle) -> None:
    """The guest has no virtual terminals, most hosts do; a host without gives another device that guests lack."""
    candidates = [path for path in map(Path, ("/dev/tty1", "/dev/vcs", "/dev/rtc0", "/dev/hpet")) if path.is_char_device()]
    if not candidates:
        pytest.skip("this host has no device that a guest lacks")
    name = candidates[0].name
    failed = runv.run_bundle(allowed(bundle, device(candidates[0])).args("true"))
    assert failed.code == 1 and f"cannot create device /dev/{name}: the guest has no character device {name}" in failed.err


def test_a_privileged_container_gets_what_the_guest_has(
    runv: Runtime, make_bundle: Callable[[], Bundle], folder: Path
) -> None:
    listed = host_devices()
    ghosts = [{"path": "/dev/ghost", "type": "c", "major": 4094, "minor": 7}]
    ghosts += [{"path": "/dev/ghostdisk", "type": "b", "major": 4094, "minor": 7}]
    bundle = privileged(make_bundle(), *listed, *ghosts)
    done = runv.run_bundle(bundle.script("ls /dev /sys/block; exec 3<>/dev/fuse && echo open"))
    assert done.ok().lines[-1] == "open"
    assert not {"ghost", "ghostdisk", "sda", "vda", "loop0"} & set(done.lines)
    blocks = {Path(each["path"]).name for each in listed if each["type"] == "b"}
    assert not blocks & set(done.lines)


def test_a_privileged_container_gets_a_disk_under_another_name(runv: Runtime, bundle: Bundle, folder: Path) -> None:
    """Engines list all of the host's disks under their own paths: one under another path somebody has asked for."""
    image = folder / "image"
    image.write_bytes(b"content" + bytes(1 << 20))
    loop = Path(os.popen(f"losetup --find --show {image}").read().strip())
    try:
        entry = {**device(loop, "b"), "path": "/dev/xvda"}
        done = runv.run_bundle(privileged(bundle, device(loop, "b"), entry).script("head -c 7 /dev/xvda; ls /dev/loop0"))
        assert done.out == "content" and "/dev/loop0: No such file" in done.err
    finally:
        os.system(f"losetup --detach {loop}")
