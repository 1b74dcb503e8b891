"""Layers: what a layer's tar becomes, against umoci and by itself, and what it may not do."""

import os
import shutil
import struct
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from hyperd.errors import InvalidError
from hyperd.images import Image, Images, ImageSettings

from .conftest import run
from .packing import CHAR, FIFO, LINK, SYMLINK, Blobs, Member, Stream, folder, image, layer, tree, write_layout

Load = Callable[..., Image]
Overlay = Callable[[Image], Path]

CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")


# Of the owner, user 1000, the group, the mask and others.
ACL = struct.pack(
    "<I" + "HHI" * 5, 2, 1, 6, 0xFFFFFFFF, 2, 4, 1000, 4, 4, 0xFFFFFFFF, 16, 4, 0xFFFFFFFF, 32, 4, 0xFFFFFFFF
)


def assorted() -> list[bytes]:
    """Layers with everything that umoci unpacks as well."""
    bottom = layer(
        folder("./"),
        folder("etc"),
        folder("etc/dir", 0o700, uid=1, gid=2),
        Member("etc/dir/gone", b"gone"),
        Member("etc/dir/stays", b"stays", uid=70_000, gid=100_000),
        folder("opaque"),
        Member("opaque/hidden", b"1"),
        folder("opaque/deep"),
        Member("opaque/deep/hidden", b"2"),
        Member("small", b"x" * 100),
        Member("block", b"b" * 4096),
        Member("big", bytes(range(256)) * 5000 + b"tail"),
        Member("nearly", b"n" * 4090),
        Member("empty"),
        Member("suid", b"#!", mode=0o4755, uid=5),
        Member("capable", b"#!", mode=0o755, xattrs={"security.capability": CAPABILITY}),
        Member("marked", b"y", xattrs={"user.one": b"1", "user.binary": bytes(range(256)), "user.long": b"v" * 3000}),
        Member("listed", b"1", xattrs={"system.posix_acl_access": ACL}),
        folder("inherits", xattrs={"system.posix_acl_default": ACL}),
        Member("first", b"linked"),
        Member("second", kind=LINK, target="first"),
        Member("absolute", kind=SYMLINK, target="/etc/dir"),
        Member("relative", kind=SYMLINK, target="../../../etc/shadow"),
        Member("long-link", kind=SYMLINK, target="t" * 4000),
        Member("null", kind=CHAR, device=(1, 3), mode=0o666),
        Member("disk", kind=tarfile.BLKTYPE, device=(259, 70000), mode=0o600, gid=6),
        Member("pipe", kind=FIFO, mode=0o640),
        folder("n" * 255),
        folder("/".join(["d" * 200] * 9)),
        Member("/".join(["d" * 200] * 9) + "/" + "f" * 100, b"deep"),
        folder("many"),
        *(Member(f"many/{index:04} {'x' * 40}", b"%d" % index) for index in range(400)),
        Member("replaced", b"file"),
        folder("was-directory"),
        Member("was-directory/inside", b"in"),
        Member("unicode-\udcff-ü", b"bytes"),
        Member("old", b"old", mtime=1.5),
    )
    middle = layer(
        folder("etc"),
        folder("etc/dir", 0o750, uid=9),
        Member("etc/dir/.wh.gone"),
        Member("etc/dir/new", b"new"),
        folder("opaque", 0o711),
        Member("opaque/visible", b"3"),
        Member("opaque/.wh..wh..opq"),
        folder("replaced"),
        Member("replaced/in", b"in"),
        Member("was-directory", b"file now"),
        Member(".wh.pipe"),
        Member(".wh.big"),
        Member("big", b"small now"),
    )
    top = layer(
        folder("etc"),
        folder("etc/dir", 0o750, uid=9),
        Member("etc/dir/gone", b"again"),
        Member("third", kind=LINK, target="small"),
        Member(".wh.opaque"),
        folder("opaque"),
        Member("opaque/one", b"1"),
    )
    return [bottom, middle, top]


def umoci(made: Blobs, tmp_path: Path) -> Path:
    """The tree as umoci unpacks it."""
    if not shutil.which("umoci"):
        pytest.skip("umoci is not installed")
    write_layout(tmp_path / "peer", made, "1")
    subprocess.run(
        ["umoci", "unpack", "--image", f"{tmp_path / 'peer'}:1", tmp_path / "bundle"], check=True, capture_output=True
    )
    return tmp_path / "bundle/rootfs"


def test_an_overlay_of_the_images_is_what_umoci_unpacks(load: Load, overlay: Overlay, tmp_path: Path) -> None:
    made = image(assorted())
    theirs = tree(umoci(made, tmp_path))
    ours = tree(overlay(load(made=made)))
    assert ours.keys() == theirs.keys()
    theirs["."] = theirs["."]._replace(mtime=ours["."].mtime)  # that of the unpacking
    for name, seen in ours.items():
        # Nobody said when directories that are only part of a path were changed.
        assert seen == (theirs[name] if seen.mtime else theirs[name]._replace(mtime=0)), name
    assert len(ours) > 430 and ours["second"].links == ("first", "second") and ours["third"].links == ("small", "third")


def test_the_images_pass_fsck(load: Load) -> None:
    for each in load(*assorted()).layers:
        subprocess.run(["fsck.erofs", each.path], check=True, capture_output=True)


def test_the_same_tar_gives_the_same_image_and_is_unpacked_once(load: Load, images: Images) -> None:
    first, second = load(*assorted()[:1]), load(*assorted()[:1], layer(Member("more", b"x")))
    assert first.layers[0] == second.layers[0] and first.id != second.id
    written = first.layers[0].path.stat().st_mtime_ns
    load(*assorted()[:1])
    assert first.layers[0].path.stat().st_mtime_ns == written


def test_parents_that_a_layer_leaves_out_are_as_they_are_below(load: Load, overlay: Overlay) -> None:
    bottom = layer(
        folder("tmp", 0o1777, uid=3),
        folder("usr/bin", 0o711),
        Member("bin", kind=SYMLINK, target="usr/bin"),
        Member("loop", kind=SYMLINK, target="/../tmp"),
    )
    seen = tree(overlay(load(bottom, layer(Member("tmp/a/b", b"1"), Member("bin/tool", b"2"), Member("loop/c", b"3")))))
    assert seen["tmp"].mode == "drwxrwxrwt" and seen["tmp"].owner == (3, 0)
    assert seen["tmp/a"].mode == "drwxr-xr-x" and seen["tmp/a/b"].content
    assert seen["bin"].content == "usr/bin" and seen["usr/bin/tool"].content and seen["usr/bin"].mode == "drwx--x--x"
    assert seen["tmp/c"].content and seen["loop"].content == "/../tmp"


def test_a_layer_that_leaves_out_parents_is_another_one_on_other_layers(load: Load, overlay: Overlay) -> None:
    more = layer(Member("dir/file", b"1"))
    one, two = load(layer(folder("dir", 0o700)), more), load(layer(folder("dir", 0o777)), more)
    assert one.layers[1].diff_id == two.layers[1].diff_id and one.layers[1].path != two.layers[1].path
    assert tree(overlay(one))["dir"].mode == "drwx------" and tree(overlay(two))["dir"].mode == "drwxrwxrwx"


def test_links_within_a_layer_lead_where_they_lead_in_the_root(load: Load, overlay: Overlay) -> None:
    seen = tree(
        overlay(
            load(
                layer(
                    Member("out", kind=SYMLINK, target="/../../../etc"),
                    Member("out/passwd", b"root:x:0:0::/:/bin/sh\n"),
                    Member("up", kind=SYMLINK, target="../../.."),
                    Member("up/file", b"here"),
                )
            )
        )
    )
    assert "etc/passwd" in seen and "file" in seen and seen["out"].content == "/../../../etc"


def test_forged_marks_of_the_overlay_are_dropped(load: Load, overlay: Overlay) -> None:
    forged = {
        "trusted.overlay.opaque": b"y",
        "trusted.overlay.redirect": b"/etc",
        "user.overlay.opaque": b"y",
        "trusted.kept": b"1",
    }
    bottom = layer(folder("dir"), Member("dir/below", b"1"))
    loaded = load(bottom, layer(folder("dir", xattrs=forged), Member("dir/above", b"2")))
    seen = tree(overlay(loaded))
    assert seen["dir/below"].content and seen["dir/above"].content
    assert seen["dir"].xattrs == {"trusted.kept": b"1"}


def test_whiteouts_of_nothing_are_not_seen(load: Load, overlay: Overlay) -> None:
    root = overlay(load(layer(folder("dir"), Member("dir/.wh.absent"), Member(".wh.too"), Member("file", b"1"))))
    assert os.listdir(root / "dir") == [] and sorted(os.listdir(root)) == ["dir", "file"]


def test_an_opaque_root_hides_everything(load: Load, overlay: Overlay) -> None:
    root = overlay(load(layer(folder("dir"), Member("file", b"1")), layer(Member(".wh..wh..opq"), Member("new", b"2"))))
    assert os.listdir(root) == ["new"]


def sparse_tar(tmp_path: Path, form: list[str]) -> tuple[bytes, Path]:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        for offset in (0, 1 << 20, 40 << 20):
            file.seek(offset)
            file.write(b"data at %d" % offset)
        file.truncate(64 << 20)
    command = ["tar", "--sparse", *form, "-C", str(tmp_path), "-cf", "-", "sparse"]
    return subprocess.run(command, check=True, capture_output=True).stdout, path


@pytest.mark.parametrize(
    "form",
    [["--format=gnu"], *(["--format=posix", f"--sparse-version={version}"] for version in ("0.0", "0.1", "1.0"))],
    ids=["gnu", "pax-0.0", "pax-0.1", "pax-1.0"],
)
def test_sparse_files_take_no_room(load: Load, overlay: Overlay, tmp_path: Path, form: list[str]) -> None:
    data, original = sparse_tar(tmp_path, form)
    assert len(data) < 1 << 20
    loaded = load(data)
    assert (overlay(loaded) / "sparse").read_bytes() == original.read_bytes()
    assert loaded.size < 1 << 20


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["gnu", "pax"])
def test_long_names_and_large_numbers_of_both_kinds(load: Load, overlay: Overlay, form: int) -> None:
    name = "/".join(["p" * 150] * 3)
    members = (Member(name, b"1", uid=3_000_000), Member("s", kind=SYMLINK, target=name))
    seen = tree(overlay(load(layer(*members, form=form))))
    assert seen[name].owner == (3_000_000, 0) and seen["s"].content == name


def truncated(data: bytes) -> bytes:
    return data[: len(data) - 700]


def unknown_kind() -> bytes:
    info = tarfile.TarInfo("strange")
    info.type = b"Q"
    return info.tobuf() + bytes(1024)


def pax_of(record: bytes) -> bytes:
    info = tarfile.TarInfo("x")
    info.type, info.size = b"x", len(record)
    return (
        info.tobuf(tarfile.USTAR_FORMAT)
        + record.ljust(-(-len(record) // 512) * 512, b"\0")
        + tarfile.TarInfo("f").tobuf()
        + bytes(1024)
    )


def huge_header() -> bytes:
    info = tarfile.TarInfo("x")
    info.type, info.size = b"x", 1 << 40
    return info.tobuf(tarfile.GNU_FORMAT)


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "leads out": (lambda: layer(Member("a/../../b", b"1")), "leads out of the root"),
    "whiteout of the parent": (lambda: layer(Member("a/.wh...")), "removes what is no file"),
    "whiteout of nothing": (lambda: layer(Member("a/.wh.")), "removes what is no file"),
    "cut off": (lambda: truncated(layer(Member("a", b"1" * 9000)).rstrip(b"\0")), "ends too early"),
    "no tar": (lambda: b"this is no tar" * 1000, "wrong checksum"),
    "type": (unknown_kind, "type Q"),
    "long name": (lambda: layer(Member("n" * 256)), "a name of 256 bytes"),
    "long path": (lambda: layer(Member("/".join(["p" * 100] * 50))), "a path of"),
    "link to nothing": (lambda: layer(Member("a", kind=LINK, target="absent")), "absent, which is in no layer"),
    "link to a directory": (lambda: layer(folder("d"), Member("a", kind=LINK, target="d")), "link to a directory"),
    "link to the root": (lambda: layer(Member("a", kind=LINK, target="/")), "link to the root"),
    "link out": (lambda: layer(Member("a", kind=LINK, target="../../etc/shadow")), "leads out of the root"),
    "links in a circle": (
        lambda: layer(Member("a", kind=SYMLINK, target="b"), Member("b", kind=SYMLINK, target="a"), Member("a/c")),
        "no directory",
    ),
    "file as a folder": (lambda: layer(Member("a"), Member("a/b")), "no directory"),
    "file as the root": (lambda: layer(Member("./", b"1")), "replace the root"),
    "pax record": (lambda: pax_of(b"99 path=a\n"), "damaged"),
    "pax without equals": (lambda: pax_of(b"7 path\n"), "damaged"),
    "pax negative size": (lambda: pax_of(b"11 size=-5\n"), "size of -5"),
    "header of a terabyte": (huge_header, "an extended header of"),
    "owner": (lambda: pax_of(b"18 uid=9999999999\n"), "an owner 9999999999"),
    "sparse map": (
        lambda: pax_of(b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n28 GNU.sparse.realsize=1000\n"),
        "cut off",
    ),
    "xattr": (lambda: layer(Member("a", xattrs={"user." + "n" * 300: b"1"})), "the extended attribute"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_layer_is_refused_and_nothing_stays(name: str, load: Load, nothing_left: Callable[[], None]) -> None:
    make, message = BAD[name]
    with pytest.raises(InvalidError, match=message):
        load(layer(folder("fine")), make())
    nothing_left()


def test_limits_of_a_layer(tmp_path: Path) -> None:
    settings = ImageSettings(layer_entries_max=10, layer_bytes_max=100_000)
    many = write_layout(tmp_path / "many", image([layer(*(Member(str(index)) for index in range(11)))]))
    large = write_layout(tmp_path / "large", image([layer(Member("a", b"1" * 60_000), Member("b", b"1" * 60_000))]))
    with Images(tmp_path / "images", settings) as images:
        with pytest.raises(InvalidError, match="too many files"):
            run(images.load(many))
        with pytest.raises(InvalidError, match="too large"):
            run(images.load(large))
        assert images.list() == ()


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    """A gigabyte of zeros in a megabyte: refused by its header, before it is written."""
    info = tarfile.TarInfo("zeros")
    info.size = 1 << 30
    made = image([info.tobuf() + bytes(1 << 20)])
    with (
        Images(tmp_path / "images", ImageSettings(layer_bytes_max=1 << 29)) as images,
        pytest.raises(InvalidError, match="too large"),
    ):
        run(images.load(write_layout(tmp_path / "bomb", made)))


def test_users_are_read_from_the_topmost_files(load: Load) -> None:
    passwd = "root:x:0:0:root:/root:/bin/sh\n"
    loaded = load(
        layer(Member("etc/passwd", b"old"), Member("etc/group", b"root:x:0:\n")),
        layer(Member("usr/passwd", passwd.encode()), Member("etc/passwd", kind=SYMLINK, target="/usr/passwd")),
    )
    assert loaded.passwd.decode() == passwd and loaded.group == b"root:x:0:\n"


def test_many_layers_become_fewer(load: Load, overlay: Overlay, tmp_path: Path) -> None:
    """The joined layers are what they were one by one, also as the base of another image."""
    more = [layer(Member(f"file{index}", b"%d" % index), Member("top", b"%d" % index)) for index in range(4)]
    whole = tree(overlay(load(*assorted(), *more)))
    layout = write_layout(tmp_path / "few-layout", image([*assorted(), *more]))

    async def make(images: Images) -> tuple[Image, Image, int]:
        (few,) = await images.load(layout)
        await images.gc(())
        left = len(os.listdir(tmp_path / "few/layers"))
        return few, await images.commit(few.id, Stream(layer(Member("more", b"1")))), left

    with Images(tmp_path / "few", ImageSettings(layers_max=3)) as images:
        few, made, left = run(make(images))
        assert left == 6, "three images with their records"
        assert len(few.layers) == len({each.diff_id for each in few.layers}) == len(made.layers) == 3
        assert tree(overlay(few)) == whole
        assert tree(overlay(made)).keys() == whole.keys() | {"more"}
