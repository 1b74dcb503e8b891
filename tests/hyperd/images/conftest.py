"""Stores, and layers mounted as the guest mounts them."""

import asyncio
import contextlib
import os
import subprocess
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from hyperd.images import Image, Images, ImageSettings

from .packing import Blobs, write_layout
from .packing import image as make_image

Mounted = Callable[[Sequence[Path]], contextlib.AbstractContextManager[Path]]


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Runs it to its end, which is near."""

    async def limited() -> Any:
        async with asyncio.timeout(60):
            return await work

    return asyncio.run(limited())


@pytest.fixture
def settings() -> ImageSettings:
    """Quick to give up."""
    return ImageSettings(stall_timeout_s=2, connect_timeout_s=2, back_off_s=0.01, certificates=(), attempts=3)


@pytest.fixture
def images(tmp_path: Path, settings: ImageSettings) -> Iterator[Images]:
    with Images(tmp_path / "images", settings) as made:
        yield made


@pytest.fixture
def load(images: Images, tmp_path: Path) -> Callable[..., Image]:
    """Loads an image of these layers, or a made one."""
    count = 0

    def load_(*layers: bytes, made: Blobs | None = None) -> Image:
        nonlocal count
        count += 1
        folder = write_layout(tmp_path / f"layout{count}", made or make_image(layers), f"test/image:{count}")
        loaded: tuple[Image, ...] = run(images.load(folder))
        return loaded[0]

    return load_


@pytest.fixture
def overlay(tmp_path: Path) -> Iterator[Callable[[Image], Path]]:
    """Mounts the layers of an image over one another, and says where."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    with contextlib.ExitStack() as stack:
        count = 0

        def mount(kind: str, source: str, options: str) -> Path:
            nonlocal count
            count += 1
            target = tmp_path / f"mnt{count}"
            target.mkdir()
            subprocess.run(["mount", "-t", kind, "-o", options, source, target], check=True)
            stack.callback(lambda: subprocess.run(["umount", target], check=True))
            return target

        def mounted(image: Image) -> Path:
            # A layer that has nothing, so that there are two of them always.
            found = [mount("erofs", str(each.path), "ro,loop") for each in image.layers]
            empty = tmp_path / f"mnt-empty{count}"
            empty.mkdir()
            return mount("overlay", "overlay", "ro,lowerdir=" + ":".join(map(str, [*reversed(found), empty])))

        yield mounted


@pytest.fixture
def nothing_left(images: Images, tmp_path: Path) -> Callable[[], None]:
    """Asserts that no image is in the store and nothing unfinished, and that whole layers go with the next cleaning."""

    def check() -> None:
        assert images.list() == ()
        assert os.listdir(tmp_path / "images/tmp") == []
        run(images.gc(()))
        for name in ("layers", "images", "blobs", "parts"):
            assert os.listdir(tmp_path / "images" / name) == []

    return check
