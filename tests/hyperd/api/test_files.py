"""Files in and out of containers, with a program in place of ``runv archive`` that works on a folder."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest

from .harness import POD, Site, serve

PROGRAM = """#!/bin/sh
root=ROOT
case $2 in
    get) [ -e "$root$4" ] || { echo "cannot open $4: no such file or directory" >&2; exit 2; }
        [ "$4" != /half ] || { head -c 200000 /dev/zero; exit 1; }
        tar -C "$root$(dirname "$4")" -cf - "$(basename "$4")" ;;
    put) [ -d "$root$4" ] || { echo "cannot open $4: no such file or directory" >&2; exit 2; }
        tar -C "$root$4" -xf - 2>/dev/null || { echo "the archive is damaged" >&2; exit 1; } ;;
    diff) cat "$root/diff.tar" ;;
esac
"""


def archive(*entries: tuple[str, bytes | None]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as file:
        for name, data in entries:
            member = tarfile.TarInfo(name)
            member.type = tarfile.DIRTYPE if data is None else tarfile.REGTYPE
            member.size = len(data or b"")
            file.addfile(member, io.BytesIO(data or b""))
    return made.getvalue()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """What the container has."""
    folder = tmp_path / "root"
    folder.mkdir()
    program = tmp_path / "program"
    program.write_text(PROGRAM.replace("ROOT", str(folder)))
    program.chmod(0o755)
    return folder


def serve_files(folder: Path, work: Callable[[Site], Awaitable[None]]) -> None:
    async def prepared(site: Site) -> None:
        site.services.tools.runtime.command = lambda *arguments: [str(folder / "program"), *arguments]  # type: ignore[method-assign]
        assert (await site.run()).status == 201
        await work(site)

    serve(folder, prepared)


def test_out(tmp_path: Path, root: Path) -> None:
    data = bytes(range(256)) * 2000
    (root / "folder").mkdir()
    (root / "folder/file").write_bytes(data)
    (root / "half").touch()

    async def work(site: Site) -> None:
        async with site.session.get("http://hyperd/v1/containers/p%2Fa/archive?path=/folder") as response:
            assert response.status == 200 and response.content_type == "application/x-tar"
            with tarfile.open(fileobj=io.BytesIO(await response.read())) as file:
                assert file.getnames() == ["folder", "folder/file"]
                found = file.extractfile("folder/file")
                assert found is not None and found.read() == data
        missing = await site.ask("GET", "/containers/a/archive?path=/none")
        assert missing.status == 404 and missing.json["error"]["message"] == "cannot open /none: no such file or directory"
        with pytest.raises(aiohttp.ClientError):
            await site.ask("GET", "/containers/a/archive?path=/half")

    serve_files(tmp_path, work)


def test_in(tmp_path: Path, root: Path) -> None:
    async def work(site: Site) -> None:
        done = await site.ask("PUT", "/containers/a/archive?path=/", archive(("d", None), ("d/f", b"x" * 300_000)))
        assert done.status == 204 and (root / "d/f").read_bytes() == b"x" * 300_000
        assert (await site.ask("PUT", "/containers/a/archive?path=/none", archive(("f", b"1")))).status == 404
        damaged = await site.ask("PUT", "/containers/a/archive?path=/d", b"no tar" * 10_000)
        assert damaged.status == 503 and "damaged" in damaged.json["error"]["message"]
        # It refuses before all has come.
        assert (await site.ask("PUT", "/containers/a/archive?path=/none", archive(("f", b"1" * 3_000_000)))).status == 404

    serve_files(tmp_path, work)


def test_what_cannot_be(tmp_path: Path, root: Path) -> None:
    async def work(site: Site) -> None:
        assert (await site.ask("GET", "/containers/a/archive")).status == 400
        assert (await site.ask("GET", "/containers/a/archive?path=etc")).status == 400
        assert (await site.ask("GET", "/containers/none/archive?path=/")).status == 404
        assert (await site.ask("POST", "/pods", {"spec": POD | {"name": "new"}})).status == 201
        refused = await site.ask("GET", "/containers/new%2Fa/archive?path=/file")
        assert refused.status == 409 and "never started" in refused.json["error"]["message"]

    serve_files(tmp_path, work)


def test_of_one_that_has_ended(tmp_path: Path, root: Path) -> None:
    (root / "kept").write_bytes(b"still here")

    async def work(site: Site) -> None:
        assert (await site.ask("POST", "/pods/p/stop?timeout=0.1")).status == 200
        async with site.session.get("http://hyperd/v1/containers/p%2Fa/archive?path=/kept") as response:
            assert response.status == 200
            with tarfile.open(fileobj=io.BytesIO(await response.read())) as file:
                assert file.getnames() == ["kept"]

    serve_files(tmp_path, work)


def test_differences(tmp_path: Path, root: Path) -> None:
    (root / "diff.tar").write_bytes(archive(("etc", None), ("etc/new", b"1"), ("etc/.wh.motd", b""), ("srv/.wh..wh..opq", b"")))

    async def work(site: Site) -> None:
        found = (await site.ask("GET", "/containers/a/diff")).json
        assert [(one["kind"], one["path"]) for one in found] == [
            ("added", "/etc"),
            ("added", "/etc/new"),
            ("removed", "/etc/motd"),
            ("added", "/srv"),
        ]

    serve_files(tmp_path, work)
