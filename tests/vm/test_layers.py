"""Roots of image layers, and the infra container that holds a pod's namespaces."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from .harness import Bundle, Created, Runtime, refusal
from .test_disks import command, ext4, file_on, join

pytestmark = pytest.mark.vm

MakeBundle = Callable[[], Bundle]
LAYERS, UPPER = "run.runv.rootfs.layers", "run.runv.rootfs.upper"


def erofs(image: Path, content: Path) -> Path:
    command("mkfs.erofs", image, content)
    return image


def layer(folder: Path, name: str, files: dict[str, str]) -> Path:
    """An image of a layer; the words "whiteout" and "opaque" are made what overlayfs takes for such."""
    content = folder / f"{name}.d"
    for path, text in files.items():
        place = content / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if text == "whiteout":
            os.mknod(place, 0o020000, 0)
        elif text == "opaque":
            place.mkdir(exist_ok=True)
            os.setxattr(place, "trusted.overlay.opaque", b"y")
        else:
            place.write_text(text)
    return erofs(folder / f"{name}.erofs", content)


def layered(bundle: Bundle, layers: list[Path], upper: Path | None) -> Bundle:
    """A bundle as one is written for an image: its own folder is empty."""
    given = {LAYERS: json.dumps([str(path) for path in layers])} | ({UPPER: str(upper)} if upper else {})
    bundle.config.setdefault("annotations", {}).update(given)
    bundle.config["root"] = {"path": "empty"}
    return bundle.save()


@pytest.fixture
def base(bundle: Bundle, folder: Path) -> Path:
    """A layer with a busybox."""
    (bundle.rootfs / "etc/deep").mkdir()
    (bundle.rootfs / "etc/deep/hidden").touch()
    (bundle.rootfs / "etc/gone").touch()
    return erofs(folder / "base.erofs", bundle.rootfs)


@pytest.fixture
def upper(folder: Path) -> Path:
    return ext4(folder / "upper.img", mib=32)


def test_layers_lie_over_each_other(runv: Runtime, bundle: Bundle, folder: Path, base: Path, upper: Path) -> None:
    """What an upper layer has, removes and hides; and what the container changes is on its disk, and there again the next time."""
    second = layer(folder, "second", {"etc/gone": "whiteout", "etc/deep": "opaque", "etc/deep/seen": "2", "etc/word": "second"})
    third = layer(folder, "third", {"etc/word": "third"})
    (folder / "third.d").chmod(0o711)
    os.chown(folder / "third.d", 12, 13)
    erofs(third, folder / "third.d")
    layered(bundle, [base, third, second, third], upper)
    bundle.script("stat -c '%a %u %g' /; ls /etc/deep; cat /etc/word /etc/kept; test -e /etc/gone || echo gone; echo kept >/etc/kept; rm /etc/deep/seen")
    first, again = runv.run_bundle(bundle), runv.run_bundle(bundle)
    assert first.lines == ["711 12 13", "seen", "thirdgone"] and "/etc/kept" in first.err
    assert again.lines == ["711 12 13", "thirdkept", "gone"]
    assert file_on(upper, "upper/etc/kept") == "kept\n"


def test_many_layers(runv: Runtime, bundle: Bundle, folder: Path, base: Path, upper: Path) -> None:
    layers = [layer(folder, f"l{n}", {f"etc/l{n}": str(n), "etc/top": str(n)}) for n in range(40)]
    done = runv.run_bundle(layered(bundle, [base, *layers], upper).script("cat /etc/l0 /etc/l17 /etc/l39 /etc/top"))
    assert done.ok().out == "0173939"


def test_what_a_killed_container_has_written(runv: Runtime, bundle: Bundle, base: Path, upper: Path) -> None:
    container = runv.start(layered(bundle, [base], upper).script("echo written >/file; echo done; sleep 1000"))
    container.wait_output(b"done")
    container.delete()
    assert file_on(upper, "upper/file") == "written\n"


def test_without_an_upper_layer(runv: Runtime, bundle: Bundle, base: Path) -> None:
    layered(bundle, [base], None).script("echo lost >/file && cat /file").mount("/new/place", "x", "tmpfs")
    assert [runv.run_bundle(bundle).ok().out for _ in range(2)] == ["lost\n"] * 2
    bundle.config["root"]["readonly"] = True
    done = runv.run_bundle(bundle.script("echo lost >/file; touch /new/place/file && ls /new/place"))
    assert done.out == "file\n" and "Read-only file system" in done.err


@pytest.mark.parametrize(
    ("layers", "upper", "message"),
    [
        ("nothing", None, "is not JSON"),
        ("[]", None, "must be a JSON list of paths"),
        ('["relative"]', None, "[0]: must be an absolute path, not 'relative'"),
        ('["/absent.erofs"]', None, "cannot attach disk /absent.erofs: no such file or directory"),
        ('["/etc"]', None, "cannot attach disk /etc: neither a block device nor an image file"),
        ('["/etc/passwd"]', None, "cannot use /etc/passwd for the rootfs: there is no EROFS on it"),
        (None, "/etc/passwd", "means nothing without"),
    ],
)
def test_what_is_refused(runv: Runtime, bundle: Bundle, layers: str | None, upper: str | None, message: str) -> None:
    named = {LAYERS: layers, UPPER: upper}
    bundle.config["annotations"] = {name: value for name, value in named.items() if value is not None}
    assert message in refusal(runv.run_bundle(bundle.save()))


def infra(make_bundle: MakeBundle, *namespaces: str) -> Bundle:
    bundle = make_bundle()
    bundle.config = {
        "ociVersion": "1.0.2",
        "hostname": "the-pod",
        "annotations": {"io.kubernetes.cri.container-type": "sandbox", "run.runv.infra": "true"},
        "linux": {"namespaces": [{"type": kind} for kind in ("network", "mount", *namespaces)]},
    }
    return bundle.save()


def share(bundle: Bundle, pod: Created, *kinds: str) -> Bundle:
    for namespace in bundle.linux["namespaces"]:
        if namespace["type"] in kinds:
            namespace["path"] = f"/proc/{pod.pid}/ns/{namespace['type']}"
    del bundle.config["hostname"]
    return join(bundle, pod)


def test_a_pod_without_a_container(runv: Runtime, make_bundle: MakeBundle, folder: Path, base: Path) -> None:
    """The infra container alone keeps the machine; containers come and go, share its layers and its namespaces, and not their writable layers."""
    pod = runv.start(infra(make_bundle, "ipc", "uts", "pid"))
    assert pod.status() == "running" and "no such file or directory" in pod.exec("/bin/sh").err
    for turn in range(2):
        members = [make_bundle(), make_bundle()]
        for number, member in enumerate(members):
            image = folder / f"upper{turn}{number}.img"
            layered(share(member, pod, "ipc", "uts", "pid"), [base], ext4(image))
        first = runv.start(members[0].script("echo 1 >/file; sleep 1000 & exec sleep 2000"))
        assert "another container of the sandbox uses it" in runv.run_bundle(members[0]).err
        second = runv.start(members[1].script("hostname; ls /file; sleep 1000"))
        second.wait_output(b"the-pod")
        processes = second.exec("ps").ok().out
        assert "pause" in second.exec("cat", "/proc/1/comm").out and "sleep 2000" in processes
        assert second.exec("ls", "/sys/block").ok().lines == ["sda", "sdb", "sdc"]
        # Whoever loses its parent is the infra container's, which takes its status: nothing of it is left in the list of processes.
        second.exec("sh", "-c", "(sh -c 'exec sleep 0.01' &)").ok()
        second.exec("sh", "-c", "while ps | grep -q '[s]leep 0.01'; do :; done").ok()
        for container in (first, second):
            container.delete()
    assert pod.kill("TERM").ok().code == 0
    assert pod.wait() == 0
    pod.delete()


def test_an_infra_container_of_no_pid_namespace(runv: Runtime, make_bundle: MakeBundle, base: Path) -> None:
    pod = runv.start(infra(make_bundle, "ipc", "uts"))
    member = runv.start(layered(share(make_bundle(), pod, "ipc", "uts"), [base], None).script("echo $$; sleep 1000"))
    member.wait_output(b"1\n")
    pod.kill("KILL").ok()
    assert pod.wait() == -9
    assert member.exec("hostname").ok().out == "the-pod\n"
    pod.delete()
    member.delete()


def test_an_empty_volume_gets_what_the_image_has_there(runv: Runtime, bundle: Bundle, folder: Path, upper: Path) -> None:
    """As Docker does it for a named volume: once, with owners, modes, times, attributes, links; and never over what is there."""
    data = bundle.rootfs / "data"
    (data / "deep").mkdir(parents=True)
    (data / "deep/file").write_text("of the image")
    os.link(data / "deep/file", data / "same")
    (data / "link").symlink_to("deep/file")
    os.setxattr(data / "deep/file", "user.colour", b"blue")
    os.chown(data, 7, 8)
    data.chmod(0o2777)
    (data / "deep").chmod(0o777)
    (data / "deep/file").chmod(0o4755)
    volume = ext4(folder / "volume.img")
    layered(bundle, [erofs(folder / "image.erofs", bundle.rootfs)], upper)
    bundle.mount("/data", str(volume), "ext4", "x-runv.copyup", "ro")
    look = "cd /data; stat -c '%a %u %g' .; stat -c '%a %h %Y' deep/file; cat link; ls -A; touch x || grep -o '/data ext4 r[ow]' /proc/mounts"
    first = runv.run_bundle(bundle.script(look))
    when = int((data / "same").stat().st_mtime)
    assert first.lines == ["2777 7 8", f"4755 2 {when}", "of the imagedeep", "link", "lost+found", "same", "/data ext4 ro"]
    assert "colour" in command("debugfs", "-R", "ea_list deep/file", volume)
    bundle.config["mounts"][-1]["options"] = ["x-runv.copyup"]
    assert "deep" not in runv.run_bundle(bundle.script("rm -r /data/deep; touch /data/kept")).ok().out
    assert runv.run_bundle(bundle.script("ls -A /data")).ok().lines == ["kept", "link", "lost+found", "same"]


def test_a_part_of_a_volume(runv: Runtime, make_bundle: MakeBundle, folder: Path, base: Path) -> None:
    """Two containers of a pod, one disk: a directory that is made, and a file; and no link in the volume leads out of it."""
    volume = ext4(folder / "volume.img")
    pod = runv.start(infra(make_bundle, "ipc", "uts"))
    bundles = [layered(share(make_bundle(), pod, "ipc", "uts"), [base], None) for _ in range(2)]
    bundles[0].mount("/logs", str(volume), "ext4", "x-runv.subpath=a/b", "nosuid").mount("/all", str(volume), "ext4")
    first = runv.start(bundles[0].script("grep -o '/logs ext4 rw,nosuid' /proc/mounts; echo 1 >/logs/file; ln -s /../../etc /all/out; echo ok; sleep 1000"))
    first.wait_output(b"ok")
    assert first.output() == b"/logs ext4 rw,nosuid\nok\n"
    bundles[1].mount("/etc/word", str(volume), "ext4", "x-runv.subpath=a/b/file").mount("/x", str(volume), "ext4", "x-runv.subpath=out/new", "ro")
    second = runv.start(bundles[1].script("cat /etc/word; echo 2 >/etc/word; ls -d /etc/new; touch /x/y; sleep 1000"))
    second.wait_output(b"1\n")
    wait = first.exec("sh", "-c", "until grep -q 2 /logs/file; do :; done; ls -d /all/etc/new")
    assert wait.ok().lines == ["/all/etc/new"]
    for container in (first, second, pod):
        container.delete()
    assert file_on(volume, "a/b/file") == "2\n"


def test_words_for_disks_only(runv: Runtime, bundle: Bundle) -> None:
    for kind, word, message in (
        ("tmpfs", "x-runv.copyup", "x-runv.copyup is for file systems on disks, not for tmpfs"),
        ("ext4", "x-runv.copyUp", "unknown word 'x-runv.copyUp'"),
        ("ext4", "x-runv.subpath=", "unknown word 'x-runv.subpath='"),
    ):
        bundle.config["mounts"] = []
        assert message in refusal(runv.run_bundle(bundle.mount("/data", "/etc/passwd", kind, word)))
