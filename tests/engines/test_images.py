"""Images of hyperd's and of Docker's and podman's: what the one writes or pushes, the others load and pull."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hyperd.images import Image, Images, ImageSettings
from tests.hyperd.images.packing import Member, Stream, layer
from tests.hyperd.images.registries import docker_registry

from .docker import Docker
from .podman import Podman

pytestmark = pytest.mark.engines

TOOL = Path(__file__).parents[2] / "tools/busybox_image.py"
CHANGES = layer(Member("word", b"changed\n"), Member("etc/.wh.profile"))
SHOW = "cat /word; ls /etc/profile 2>/dev/null || echo gone"


@pytest.fixture
def images(tmp_path: Path) -> Iterator[Images]:
    """With busybox, and ``test/made:1`` that was made of it."""
    subprocess.run([sys.executable, TOOL, tmp_path / "busybox.tar"], check=True)

    async def make(images: Images) -> None:
        (busybox,) = await images.load(tmp_path / "busybox.tar")
        await images.commit(busybox.id, Stream(CHANGES), reference="test/made:1")

    with Images(tmp_path / "images", ImageSettings(certificates=())) as made:
        asyncio.run(make(made))
        yield made


def same(image: Image, other: Image) -> bool:
    return [each.diff_id for each in image.layers] == [each.diff_id for each in other.layers]


@pytest.mark.smoke
def test_docker_pulls_what_was_pushed_and_pushes_what_is_pulled(docker: Docker, images: Images, tmp_path: Path) -> None:
    folder = tmp_path / "registry"
    made = images.find("test/made:1")
    with docker_registry(folder) as host:
        asyncio.run(images.push("test/made:1", target=f"{host}/made:1"))
    with docker_registry(folder, command=docker.namespace.command) as host:
        docker("pull", f"{host}/made:1")
        ran = docker("run", "--rm", "--runtime", "runc", f"{host}/made:1", "sh", "-c", SHOW)
        docker("tag", f"{host}/made:1", f"{host}/back:1")
        docker("push", f"{host}/back:1")
        docker("rmi", f"{host}/made:1", f"{host}/back:1")
    assert ran.out.split() == ["changed", "gone"]
    with docker_registry(folder) as host:
        assert same(asyncio.run(images.pull(f"{host}/back:1")), made)


def test_archives_of_docker(docker: Docker, images: Images, tmp_path: Path) -> None:
    made = images.find("test/made:1")
    asyncio.run(images.save(["test/made:1"], tmp_path / "made.tar"))
    docker("load", "-i", str(tmp_path / "made.tar"))
    assert docker("run", "--rm", "--runtime", "runc", "test/made:1", "sh", "-c", SHOW).out.split() == [
        "changed",
        "gone",
    ]
    docker("tag", "test/made:1", "test/again:1")
    docker("save", "-o", str(tmp_path / "again.tar"), "test/again:1")
    docker("rmi", "test/made:1", "test/again:1")
    (again,) = asyncio.run(images.load(tmp_path / "again.tar"))
    assert same(again, made) and "test/again:1" in again.names


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
def test_archives_of_podman(podman: Podman, images: Images, tmp_path: Path, kind: str) -> None:
    made = images.find("test/made:1")
    asyncio.run(
        images.save(["test/made:1"], tmp_path / "made.tar", kind="docker" if kind == "docker-archive" else "oci")
    )
    podman("load", "-i", str(tmp_path / "made.tar"))
    podman("save", "--format", kind, "-o", str(tmp_path / "again.tar"), "docker.io/test/made:1")
    podman("rmi", "docker.io/test/made:1")
    (again,) = asyncio.run(images.load(tmp_path / "again.tar", name="test/again:1"))
    assert same(again, made) and "test/again:1" in again.names
