"""Layers in the guest: its kernel shows what this one does."""

from __future__ import annotations

import asyncio
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from hyperd.images import Image, Images
from tests.vm.conftest import (  # noqa: F401
    bundle,
    empty,
    folder,
    make_bundle,
    nothing_left,
    root,
    runv,
    subreaper,
    templates_of_our_own,
)
from tests.vm.harness import Bundle, Runtime

from .packing import LINK, Member, image, layer, write_layout
from .packing import folder as directory

pytestmark = pytest.mark.vm

TOOL = Path(__file__).parents[3] / "tools/busybox_image.py"
LARGE = bytes(range(256)) * 2000
ABOVE = (
    layer(
        directory("data"),
        Member("data/gone", b"1"),
        directory("data/opaque"),
        Member("data/opaque/hidden", b"1"),
        Member("data/marked", b"2", mode=0o4750, uid=12, gid=70_000, xattrs={"user.mark": b"value"}),
        Member("data/large", LARGE),
    ),
    layer(
        Member("data/.wh.gone"),
        Member("data/opaque/.wh..wh..opq"),
        Member("data/opaque/seen", b"3"),
        Member("data/link", kind=LINK, target="data/marked"),
    ),
)


def images_of(folder_: Path) -> tuple[Image, Image]:
    """busybox as the tool makes it, and layers to lie on it."""
    subprocess.run([sys.executable, TOOL, folder_ / "busybox.tar"], check=True)
    write_layout(folder_ / "above", image(ABOVE))

    async def load(images: Images) -> tuple[Image, Image]:
        return (await images.load(folder_ / "busybox.tar"))[0], (await images.load(folder_ / "above"))[0]

    with Images(folder_ / "images") as images:
        return asyncio.run(load(images))


def test_an_image_is_the_root_of_a_container(runv: Runtime, bundle: Bundle, folder: Path) -> None:  # noqa: F811
    busybox, above = images_of(folder)
    assert busybox.names == ("busybox:latest",) and b"root:x:0:0" in busybox.passwd
    layers = [str(each.path) for each in (*busybox.layers, *above.layers)]
    bundle.config.setdefault("annotations", {})["run.runv.rootfs.layers"] = json.dumps(layers)
    bundle.config["root"] = {"path": "empty"}
    bundle.script(
        "cd /data; ls . opaque; stat -c '%a %u %g %h' marked link; [ marked -ef link ] && echo linked; sha256sum large; echo more >>large && tail -c 5 large"
    )
    done = runv.run_bundle(bundle.save()).ok()
    digest = hashlib.sha256(LARGE).hexdigest()
    expected = [
        "large",
        "link",
        "marked",
        "opaque",
        "",
        "opaque:",
        "seen",
        "4750 12 70000 2",
        "4750 12 70000 2",
        "linked",
        f"{digest}  large",
        "more",
    ]
    assert [each for each in done.lines if each != ".:"] == expected
