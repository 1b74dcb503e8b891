"""Names of images, what removing them does, and what cleaning up keeps."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hyperd.errors import ConflictError, InvalidError, MissingError
from hyperd.images import Image, Images, ImageSettings
from hyperd.images.endpoints import endpoints, origin
from hyperd.images.platforms import parse as parse_platform
from hyperd.images.references import parse

from .conftest import run
from .packing import Member, image, layer

Load = Callable[..., Image]

BASE = layer(Member("base", b"1"))


@pytest.mark.parametrize(
    ("text", "host", "path", "tag", "shown"),
    [
        ("busybox", "docker.io", "library/busybox", "latest", "busybox:latest"),
        ("a/b:1.2-x_Y", "docker.io", "a/b", "1.2-x_Y", "a/b:1.2-x_Y"),
        ("docker.io/busybox", "docker.io", "library/busybox", "latest", "busybox:latest"),
        ("index.docker.io/library/busybox", "docker.io", "library/busybox", "latest", "busybox:latest"),
        ("localhost/x", "localhost", "x", "latest", "localhost/x:latest"),
        ("localhost:5000/x:1", "localhost:5000", "x", "1", "localhost:5000/x:1"),
        ("[::1]:5000/x", "[::1]:5000", "x", "latest", "[::1]:5000/x:latest"),
        ("Reg/x", "Reg", "x", "latest", "Reg/x:latest"),
        ("ghcr.io/a/b__c/d--e.f", "ghcr.io", "a/b__c/d--e.f", "latest", "ghcr.io/a/b__c/d--e.f:latest"),
        (f"q.io/x@sha256:{'0' * 64}", "q.io", "x", "", f"q.io/x@sha256:{'0' * 64}"),
        (f"q.io/x:1@sha256:{'0' * 64}", "q.io", "x", "1", f"q.io/x:1@sha256:{'0' * 64}"),
    ],
)
def test_names(text: str, host: str, path: str, tag: str, shown: str) -> None:
    parsed = parse(text)
    assert (parsed.host, parsed.path, parsed.tag, str(parsed)) == (host, path, tag, shown)
    assert parse(str(parsed)) == parsed


@pytest.mark.parametrize(
    "text",
    ["", ":", "x:", "x@", "X", "a//b", "/a", "a/", "a/../b", "..", "a b", "x:-1", f"x:{'t' * 129}", "x@sha256:12", "a" * 256, "0" * 64,
     "x@md5:00", "-a", "a.-b", "a\n", "http://x/y", "x:1:2", "ü"],
)  # fmt: skip
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(InvalidError):
        parse(text)


def test_found_by_name_id_and_beginning(load: Load, images: Images) -> None:
    loaded = load(BASE)
    hexadecimal = loaded.id.removeprefix("sha256:")
    for name in ("test/image:1", "docker.io/test/image:1", loaded.id, hexadecimal, hexadecimal[:12], hexadecimal[:1]):
        assert images.find(name) == loaded
    for name in ("test/image", "test/image:2", "f" * 64, "sha256:" + "e" * 12, "not a name"):
        with pytest.raises(MissingError, match="there is no image"):
            images.find(name)


def test_a_beginning_of_several(load: Load, images: Images) -> None:
    ids = [load(made=image([BASE], author=str(index))).id[7:] for index in range(17)]
    shared = next(each[0] for each in ids if sum(other[0] == each[0] for other in ids) > 1)
    with pytest.raises(InvalidError, match="is the beginning of the ids of"):
        images.find(shared)


def test_tags_move(load: Load, images: Images) -> None:
    one, two = load(BASE), load(BASE, layer(Member("more")))
    run(images.tag(one.id, "moving"))
    run(images.tag("test/image:2", "moving:latest"))
    assert images.find("moving").id == two.id and images.find(one.id).names == ("test/image:1",)
    with pytest.raises(InvalidError, match="has a digest"):
        run(images.tag("moving", f"x@{one.id}"))
    with pytest.raises(MissingError):
        run(images.tag("absent", "x"))


def test_removing_names_and_images(load: Load, images: Images, tmp_path: Path) -> None:
    one, two = load(BASE), load(BASE, layer(Member("more", b"2" * 50_000)))
    run(images.tag("test/image:2", "again"))
    with pytest.raises(ConflictError, match="has 2 names"):
        run(images.remove(two.id))
    assert run(images.remove("again", in_use={two.id})).untagged == ("again:latest",)
    with pytest.raises(ConflictError, match="is in use"):
        run(images.remove("test/image:2", in_use={two.id}))
    removed = run(images.remove("test/image:2", in_use={one.id}))
    assert removed.deleted == (two.id,) and removed.freed > 50_000
    assert one.layers[0].path.exists() and not two.layers[1].path.exists(), "a layer goes with its last image"
    run(images.remove("test/image:1"))
    assert all(os.listdir(tmp_path / "images" / each) == [] for each in ("blobs", "layers", "images"))


def test_cleaning_keeps_what_is_used(load: Load, images: Images) -> None:
    used, unnamed, named = load(BASE), load(layer(Member("b"))), load(layer(Member("c")))
    run(images.remove("test/image:1", force=True, in_use={used.id}))
    run(images.tag(named.id, "test/image:2"))
    assert images.find(used.id).names == images.find(unnamed.id).names == ()
    removed = run(images.gc({used.id}))
    assert removed.deleted == (unnamed.id,) and {each.id for each in images.list()} == {used.id, named.id}
    removed = run(images.gc({used.id}, unused=True))
    assert removed.deleted == (named.id,) and set(removed.untagged) == {"test/image:2", "test/image:3"}
    assert [each.id for each in images.list()] == [used.id] and used.layers[0].path.exists()


def test_images_outlive_the_daemon(load: Load, images: Images, tmp_path: Path) -> None:
    loaded = load(BASE)
    with pytest.raises(ConflictError, match="another hyperd does"):
        Images(tmp_path / "images")
    images.close()
    (tmp_path / "images/tmp/half").write_bytes(b"1")
    (tmp_path / "images/tmp/folder").mkdir()
    again = Images(tmp_path / "images")
    assert again.list() == (loaded,) and os.listdir(tmp_path / "images/tmp") == []
    images._store = again._store  # which the fixture closes


def test_where_registries_are() -> None:
    settings = ImageSettings(insecure=("10.0.0.0/8", "old.example"), mirrors=(("*", ("mirror.example/prefix",)),))
    assert origin("docker.io", settings).host == "registry-1.docker.io"
    assert origin("ghcr.io", settings).schemes == ("https",)
    for host in ("localhost:1", "127.0.0.1", "[::1]:5000", "10.1.2.3:80", "old.example:5000"):
        assert origin(host, settings).schemes == ("https", "http")
    first, last = endpoints("ghcr.io", settings)
    assert (first.host, first.prefix, first.namespace, first.schemes) == (
        "mirror.example",
        "/prefix",
        "ghcr.io",
        ("https",),
    )
    assert last == origin("ghcr.io", settings)


def test_platforms() -> None:
    assert str(parse_platform("linux/arm/v7")) == "linux/arm/v7"
    for text in ("linux", "a/b/c/d", "linux/", "linux/a-b"):
        with pytest.raises(InvalidError):
            parse_platform(text)
