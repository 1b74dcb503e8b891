"""Files into and out of containers, by init's own tar, read and made with Python's and GNU's."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .harness import Bundle, Created, Runtime, runv_program
from .test_disks import ext4, join
from .test_layers import erofs, infra, layered

pytestmark = pytest.mark.vm

MakeBundle = Callable[[], Bundle]
LONG = "/".join(["long-" * 10] * 6)


@contextlib.contextmanager
def started(runv: Runtime, bundle: Bundle, folder: Path) -> Iterator[Created]:
    """One without a tar in its image, and with next to no capabilities."""
    (bundle.rootfs / "bin/tar").unlink()
    (bundle.rootfs / "opaque/deep").mkdir(parents=True)
    (bundle.rootfs / "gone").touch()
    image = erofs(folder / "base.erofs", bundle.rootfs)
    bundle.mount("/data/deep", "x", "tmpfs").mount("/etc/mounted", "/etc/passwd", "bind", "bind")
    created = runv.start(layered(bundle, [image], ext4(folder / "upper.img", mib=64)).args("sleep", "1000"))
    try:
        yield created
    finally:
        created.delete()


@pytest.fixture(scope="module")
def container(subreaper: None) -> Iterator[Created]:
    """One for all tests that are not about what changes in it."""
    with tempfile.TemporaryDirectory(prefix="rv") as path:
        folder = Path(path)
        for name in ("runv", "bundle"):
            (folder / name).mkdir(mode=0o700)
        with started(Runtime("runv", runv_program(), folder / "runv"), Bundle(folder / "bundle"), folder) as created:
            yield created


def archive(action: str, container: Created, *path: str) -> tarfile.TarFile:
    done = container.runtime.run("archive", action, container.id, *path).ok()
    return tarfile.open(fileobj=io.BytesIO(done.stdout))


def pack(*entries: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as tar:
        for info, data in entries:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


def info(name: str, kind: bytes = tarfile.REGTYPE, **members: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type = kind
    for member, value in members.items():
        setattr(made, member, value)
    return made


def test_everything_goes_in_and_comes_out(container: Created) -> None:
    """Kinds of files, owners, modes, times with their fractions, attributes, hard links, and names and numbers that no header has room for."""
    data = os.urandom(1_000_003)
    xattrs = {"SCHILY.xattr.user.colour": "blue", "SCHILY.xattr.trusted.word": "a=b\n"}
    given = pack(
        (info("top", tarfile.DIRTYPE, mode=0o2751, uid=12, gid=3_000_000, mtime=1_000_000_000.5), b""),
        (info("top/data", mode=0o4755, uid=1000, mtime=1_234_567_890.25, pax_headers=xattrs), data),
        (info("top/empty", mode=0o600), b""),
        (info(f"top/{LONG}/file", mode=0o640), b"deep"),
        (info("top/same", tarfile.LNKTYPE, linkname="top/data"), b""),
        (info("top/link", tarfile.SYMTYPE, linkname=f"/{LONG}"), b""),
        (info("top/fifo", tarfile.FIFOTYPE, mode=0o622), b""),
        (info("top/null", tarfile.CHRTYPE, mode=0o666, devmajor=1, devminor=3), b""),
    )
    container.runtime.run("archive", "put", container.id, "/tmp", stdin=given).ok()
    tar = archive("get", container, "/tmp/top")
    found = {member.name: member for member in tar}
    top = found["top"]
    assert (top.mode, top.uid, top.gid, top.mtime) == (0o2751, 12, 3_000_000, 1_000_000_000.5)
    names = {name for name in found if found[name].type == tarfile.LNKTYPE or name in ("top/data", "top/same")}
    first = next(found[name] for name in names if found[name].isreg())
    other = next(found[name] for name in names if not found[name].isreg())
    assert names == {"top/data", "top/same"} and other.linkname == first.name
    assert (first.mode, first.uid, first.mtime) == (0o4755, 1000, 1_234_567_890.25)
    assert {key: value for key, value in first.pax_headers.items() if "xattr" in key} == xattrs
    content = tar.extractfile(first)
    assert content is not None and content.read() == data
    assert found["top/link"].linkname == f"/{LONG}" and found["top/fifo"].type == tarfile.FIFOTYPE
    assert (found["top/null"].devmajor, found["top/null"].devminor) == (1, 3)
    deep = tar.extractfile(f"top/{LONG}/file")
    assert deep is not None and deep.read() == b"deep"


def test_other_peoples_archives(container: Created, folder: Path) -> None:
    (folder / "in" / LONG).mkdir(parents=True)
    (folder / "in" / LONG / "file").write_text("gnu")
    for form in ("gnu", "posix", "ustar", "v7"):
        below = "in" if form in ("gnu", "posix") else "in/" + "long-" * 10
        made = subprocess.run(["tar", f"--format={form}", "--no-recursion", "-cf", "-", below], cwd=folder, capture_output=True, check=True)
        container.runtime.run("archive", "put", container.id, "/tmp", stdin=made.stdout + bytes(100_000)).ok()
    made = subprocess.run(["tar", "--format=gnu", "-cf", "-", "in"], cwd=folder, capture_output=True, check=True)
    container.runtime.run("archive", "put", container.id, "/tmp", stdin=made.stdout).ok()
    assert container.exec("cat", f"/tmp/in/{LONG}/file").ok().out == "gnu"


def test_paths(container: Created) -> None:
    assert [member.name for member in archive("get", container, "/etc/passwd")] == ["passwd"]
    container.exec("sh", "-c", "mkdir /tmp/d; touch /tmp/d/f; ln -s d /tmp/l").ok()
    assert archive("get", container, "/tmp/l").getmembers()[0].issym()
    assert archive("get", container, "/tmp/l/.").getnames() == ["l", "l/f"]
    assert "etc/passwd" in archive("get", container, "/").getnames()
    for action, path in (("get", "/absent"), ("get", "/etc/passwd/x"), ("put", "/absent"), ("put", "/etc/passwd")):
        failed = container.runtime.run("archive", action, container.id, path)
        assert failed.code == 2 and f"cannot open {path}: " in failed.err, failed
    # A directory that is there stays, and what is no directory makes room.
    container.runtime.run("archive", "put", container.id, "/tmp", stdin=pack((info("d", tarfile.DIRTYPE, mode=0o755), b""), (info("l"), b"1"), (info("new/x"), b""))).ok()
    assert container.exec("sh", "-c", "ls /tmp/d /tmp/new; cat /tmp/l").ok().out == "/tmp/d:\nf\n\n/tmp/new:\nx\n1"


def test_bad_archives(container: Created) -> None:
    good = pack((info("file"), b"x" * 5000))
    for bad, message in (
        (b"no tar" * 1000, "this is no tar archive"),
        (good[:2000], "the archive is cut off"),
        (good[:100] + b"\xff" + good[101:], "this is no tar archive"),
        (pack((info("../x"), b"")), 'a path with ".."'),
        (pack((info("x", tarfile.LNKTYPE, linkname="../../etc/passwd"), b"")), 'a path with ".."'),
        (pack((info("opaque"), b"")), "cannot overwrite directory opaque"),
        (pack((info("x", b"Z"), b"")), "unknown type"),
    ):
        failed = container.runtime.run("archive", "put", container.id, "/", stdin=bad)
        assert failed.code == 1 and message in failed.err, failed


def test_what_a_container_has_changed(runv: Runtime, bundle: Bundle, folder: Path) -> None:
    change = "rm /gone; rm -r /opaque; mkdir /opaque; echo new >/opaque/new; echo x >>/etc/passwd; chmod 700 /tmp; touch /data/x"
    with started(runv, bundle, folder) as container:
        container.exec("sh", "-c", change).ok()
        tar = archive("diff", container)
    names = tar.getnames()
    assert sorted(names) == [".wh.gone", "data", "data/x", "etc", "etc/passwd", "opaque", "opaque/.wh..wh..opq", "opaque/new", "tmp"]
    assert names.index("opaque") < names.index("opaque/.wh..wh..opq") < names.index("opaque/new")
    assert tar.getmember("tmp").mode == 0o700
    assert not [key for member in tar for key in member.pax_headers if "overlay" in key]


def test_a_container_that_has_ended(runv: Runtime, make_bundle: MakeBundle, folder: Path) -> None:
    """Its layers are the root of an infra container then, which runs nothing of it."""
    bundle = make_bundle()
    base, upper = erofs(folder / "base.erofs", bundle.rootfs), ext4(folder / "upper.img")
    pod = runv.start(infra(make_bundle, "ipc", "uts"))
    assert "has no writable layer" in runv.run("archive", "diff", pod.id).err
    ended = runv.start(layered(join(bundle, pod), [base], upper).script("echo 1 >/file"))
    ended.wait()
    assert "stopped container" in runv.run("archive", "get", ended.id, "/file").err
    ended.delete()
    looking = infra(make_bundle, "ipc", "uts")
    looking.config["annotations"] |= {
        "run.runv.rootfs.layers": json.dumps([str(base)]), "run.runv.rootfs.upper": str(upper),
    }  # fmt: skip
    del looking.config["hostname"]
    helper = runv.start(join_infra(looking, pod))
    assert archive("diff", helper).getnames() == ["file"]
    helper.delete()
    pod.delete()


def join_infra(bundle: Bundle, pod: Created) -> Bundle:
    bundle.config["annotations"] |= {
        "io.kubernetes.cri.container-type": "container",
        "io.kubernetes.cri.sandbox-id": pod.id,
    }
    return bundle.save()
