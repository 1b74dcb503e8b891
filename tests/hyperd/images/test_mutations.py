"""Layers and lower images with random faults: an error of ours, or an image that can be read back, and never anything else."""

import os
import random
import struct
from pathlib import Path
from typing import Any

import pytest

from hyperd.errors import InvalidError
from hyperd.images import worker
from hyperd.images.lower import Leaf, Stack, View

from .packing import LINK, SYMLINK, Member, folder, layer
from .test_layers import assorted, sparse_tar

ROUNDS = 100


def job(source: Path, image: Path) -> dict[str, Any]:
    limits = {"entries_max": 10_000, "bytes_max": 64 << 20}
    return {
        "source": str(source),
        "offset": 0,
        "size": source.stat().st_size,
        "image": str(image),
        "blob": None,
        "digest": None,
        "diff_id": None,
        **limits,
    }


def read_all(view: View) -> int:
    """Every file of a tree; how many there are."""
    count = 0
    for name in view.names():
        child = view.child(name)
        assert child is not None
        if isinstance(child, View):
            count += read_all(child)
        elif isinstance(child, Leaf):
            assert sum(map(len, child.image.data(child.inode))) == (
                child.inode.size if child.inode.type != 0o020000 else 0
            )
            count += 1
    return count


def mutated(data: bytes, chance: random.Random) -> bytes:
    """A few faults, most of them in headers, whose checksums are made right again."""
    changed = bytearray(data)
    headers = [at for at in range(0, len(data) - 511, 512) if data[at + 257 : at + 262] == b"ustar"]
    for _ in range(chance.randint(1, 6)):
        header = chance.choice(headers)
        kind = chance.randrange(3)
        if kind == 0:
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        elif kind == 1:
            start, size = chance.choice(
                [
                    (0, 100),
                    (100, 8),
                    (108, 16),
                    (124, 12),
                    (136, 12),
                    (156, 1),
                    (157, 100),
                    (257, 8),
                    (329, 16),
                    (345, 155),
                ]
            )
            changed[header + start + chance.randrange(size)] = chance.choice(b"0123456789xgLKSD./\0\x80\xff\x01")
        elif kind == 2 and header + 1024 < len(changed):
            changed[header + 512 + chance.randrange(512)] = chance.choice(b"0123456789=\n. \0\xff")
    if chance.randrange(8) == 0:
        del changed[chance.randrange(len(changed)) :]
    for at in headers:
        if at + 512 <= len(changed):
            plain = changed[at : at + 148] + b" " * 8 + changed[at + 156 : at + 512]
            changed[at + 148 : at + 156] = b"%06o\0 " % sum(plain)
    return bytes(changed)


@pytest.mark.parametrize("seed", range(3))
def test_layers_with_faults(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    base = tmp_path / "base.erofs"
    source, image = tmp_path / "layer.tar", tmp_path / "image"
    source.write_bytes(assorted()[0])
    worker.convert(job(source, base), lambda _: None, list)
    links = layer(
        folder("a"),
        Member("a/b", kind=SYMLINK, target="../etc"),
        Member("a/b/c", b"1"),
        Member("d", kind=LINK, target="small"),
    )
    seeds = [*assorted()[1:], links, sparse_tar(tmp_path, [["--format=gnu"], ["--format=posix"]][seed % 2])[0]]
    refused = 0
    for _ in range(ROUNDS):
        source.write_bytes(mutated(chance.choice(seeds), chance))
        try:
            worker.convert(job(source, image), lambda _: None, lambda: [str(base)])
        except InvalidError:
            refused += 1
            continue
        assert os.path.getsize(image) % 4096 == 0
        with Stack([base, image]) as stack:
            assert read_all(stack.root) > 10
    assert 0 < refused < ROUNDS


def test_a_superblock_of_something_else(tmp_path: Path) -> None:
    from hyperd.errors import UnavailableError

    path = tmp_path / "image"
    for content in (b"", bytes(4096), b"x" * 1024 + struct.pack("<I", 0x1234) + bytes(4096)):
        path.write_bytes(content)
        with pytest.raises(UnavailableError, match="cannot read layer"):
            Stack([path])
