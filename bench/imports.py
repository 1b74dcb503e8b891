# SPDX-License-Identifier: Apache-2.0
"""An image from an archive to what containers start from: hyperd beside ``skopeo copy`` with ``umoci unpack``."""

import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

from bench.timing import BenchError, Figure, Subject, in_turns

_LAYERS = 3
_FILES = 4000
_LOAD = """
import sys
sys.path[:0] = sys.argv[1].split(":")
import asyncio, pathlib
from hyperd.images import Images
with Images(pathlib.Path(sys.argv[2])) as images:
    asyncio.run(images.load(pathlib.Path(sys.argv[3])))
"""


def measure(library: Path, folder: Path, megabytes: int, count: int, tick: Callable[[], None]) -> list[Figure]:
    """Times the import of an image of ``megabytes`` as its layers are unpacked, from both kinds of archive. ``library``: where hyperd is installed."""
    missing = [name for name in ("skopeo", "umoci") if not shutil.which(name)]
    if missing:
        raise BenchError(f"{missing[0]} is not installed")
    _write_layout(folder / "layout", megabytes)
    subjects = []
    for kind in ("docker-archive", "oci-archive"):
        archive = folder / f"{kind}.tar"
        _run("skopeo", "copy", "-q", f"oci:{folder / 'layout'}:bench", f"{kind}:{archive}:bench/image:1")
        theirs = f"skopeo copy and umoci unpack, {megabytes} MB {kind}"
        subjects += [
            Subject(theirs, _peers(kind, archive, folder), before=_cleared(folder)),
            Subject(
                f"hyperd load, {megabytes} MB {kind}", _ours(library, archive, folder), theirs, before=_cleared(folder)
            ),
        ]
    return in_turns(subjects, count, tick)


def _peers(kind: str, archive: Path, folder: Path) -> Callable[[], None]:
    def work() -> None:
        _run("skopeo", "copy", "-q", f"{kind}:{archive}", f"oci:{folder / 'copied'}:bench")
        _run("umoci", "unpack", "--image", f"{folder / 'copied'}:bench", str(folder / "unpacked"))

    return work


def _ours(library: Path, archive: Path, folder: Path) -> Callable[[], None]:
    path = f"{library}:{library / 'hyperd-deps'}"
    return lambda: _run("/usr/bin/python3", "-IS", "-c", _LOAD, path, str(folder / "store"), str(archive))


def _cleared(folder: Path) -> Callable[[], None]:
    def clear() -> None:
        for name in ("copied", "unpacked", "store"):
            shutil.rmtree(folder / name, ignore_errors=True)
        os.sync()

    return clear


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise BenchError(f"{command[0]} failed: {done.stderr.strip()[-300:]}")


def _write_layout(folder: Path, megabytes: int) -> None:
    """An image like others: most files are small, most bytes in large ones, and all of it packs to a third."""
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)
    layers = [_layer(seed, (megabytes << 20) // _LAYERS) for seed in range(_LAYERS)]

    def put(data: bytes, kind: str) -> dict[str, object]:
        name = hashlib.sha256(data).hexdigest()
        (blobs / name).write_bytes(data)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{name}", "size": len(data)}

    diff_ids = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    config = put(
        json.dumps(
            {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": diff_ids}}
        ).encode(),
        "config.v1+json",
    )
    packed = [put(_gzip(layer), "layer.v1.tar+gzip") for layer in layers]
    manifest = put(json.dumps({"schemaVersion": 2, "config": config, "layers": packed}).encode(), "manifest.v1+json")
    named = manifest | {"annotations": {"org.opencontainers.image.ref.name": "bench"}}
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [named]}))


def _gzip(data: bytes) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    return packer.compress(data) + packer.flush()


def _layer(seed: int, size: int) -> bytes:
    chance = random.Random(seed)
    words = [bytes(chance.choices(b"etaoinshrdlu ", k=chance.randint(3, 12))) for _ in range(5000)]
    text = b"".join(chance.choices(words, k=1_200_000))
    small = [chance.randint(100, 12_000) for _ in range(_FILES)]
    large = max(size - sum(small), 1 << 20) // 20
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for number, length in enumerate([*small, *[large] * 20]):
            start = chance.randrange(len(text) - length)
            _add(archive, f"layer{seed}/{number % 100:02}", number, text[start : start + length])
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, folder: str, number: int, data: bytes) -> None:
    if number < 100:
        directory = tarfile.TarInfo(folder)
        directory.type, directory.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(directory)
    info = tarfile.TarInfo(f"{folder}/file{number}")
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))
