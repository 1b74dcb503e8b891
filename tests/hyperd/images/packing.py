"""Makes layers and layouts, good and bad, and looks at trees of files."""

import gzip
import hashlib
import io
import json
import os
import stat
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

DIRECTORY, LINK, SYMLINK, CHAR, FIFO = (
    tarfile.DIRTYPE,
    tarfile.LNKTYPE,
    tarfile.SYMTYPE,
    tarfile.CHRTYPE,
    tarfile.FIFOTYPE,
)
MTIME = 1_600_000_000


class Member(NamedTuple):
    """What is put into a layer; a regular file unless ``kind`` says otherwise."""

    name: str
    data: bytes = b""
    kind: bytes = tarfile.REGTYPE
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    target: str = ""
    device: tuple[int, int] = (0, 0)
    xattrs: dict[str, bytes] = {}  # noqa: RUF012 - never changed
    mtime: float = MTIME


def folder(name: str, mode: int = 0o755, **fields: Any) -> Member:
    return Member(name, kind=DIRECTORY, mode=mode, **fields)


def layer(*members: Member, form: int = tarfile.PAX_FORMAT) -> bytes:
    """The tar of these members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for each in members:
            info = tarfile.TarInfo(each.name)
            info.type, info.mode, info.uid, info.gid, info.mtime = each.kind, each.mode, each.uid, each.gid, each.mtime
            info.size, info.linkname = len(each.data), each.target
            info.devmajor, info.devminor = each.device
            info.pax_headers = {
                f"SCHILY.xattr.{name}": value.decode("utf-8", "surrogateescape") for name, value in each.xattrs.items()
            }
            archive.addfile(info, io.BytesIO(each.data))
    return buffer.getvalue()


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def packed(data: bytes) -> bytes:
    """With gzip, always the same."""
    return gzip.compress(data, 1, mtime=0)


class Blobs(NamedTuple):
    """An image: its manifest, and all blobs by their digests (the manifest's own included)."""

    manifest: bytes
    blobs: dict[str, bytes]


def image(layers: Sequence[bytes], *, pack: bool = True, config: dict[str, Any] | None = None, **more: Any) -> Blobs:
    """An image of these tars."""
    blobs = [packed(each) if pack else each for each in layers]
    configuration = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2024-01-01T00:00:00Z",
        "config": config or {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(each) for each in layers]},
        "history": [{"created_by": f"step {index}"} for index in range(len(layers))],
        **more,
    }
    text = json.dumps(configuration).encode()
    kind = "application/vnd.oci.image.layer.v1.tar" + ("+gzip" if pack else "")
    manifest = manifest_of(text, [(kind, blob) for blob in blobs])
    return Blobs(manifest, {digest(blob): blob for blob in (*blobs, text, manifest)})


def manifest_of(config: bytes, layers: Sequence[tuple[str, bytes]]) -> bytes:
    described = [{"mediaType": kind, "digest": digest(blob), "size": len(blob)} for kind, blob in layers]
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": digest(config),
                "size": len(config),
            },
            "layers": described,
        }
    ).encode()


def write_layout(path: Path, made: Blobs, name: str = "test/image:1") -> Path:
    """An OCI layout in a folder."""
    (path / "blobs/sha256").mkdir(parents=True)
    for key, data in made.blobs.items():
        (path / "blobs/sha256" / key.partition(":")[2]).write_bytes(data)
    (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    entry = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": digest(made.manifest),
        "size": len(made.manifest),
        "annotations": {"org.opencontainers.image.ref.name": name},
    }
    (path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    return path


class Seen(NamedTuple):
    """A file of a tree. ``links``: all its names."""

    mode: str
    owner: tuple[int, int]
    content: object
    xattrs: dict[str, bytes]
    mtime: int
    links: tuple[str, ...]


def tree(root: Path) -> dict[str, Seen]:
    """Everything below a folder, and the folder as ``.``."""
    paths = [Path(folder) / name for folder, folders, files in os.walk(root) for name in (*folders, *files)]
    found = {".": root} | {str(path.relative_to(root)): path for path in sorted(paths)}
    inodes: dict[tuple[int, int], list[str]] = {}
    for name, path in found.items():
        status = path.lstat()
        if not stat.S_ISDIR(status.st_mode):
            inodes.setdefault((status.st_dev, status.st_ino), []).append(name)
    return {name: _seen(path, inodes) for name, path in found.items()}


def _seen(path: Path, inodes: dict[tuple[int, int], list[str]]) -> Seen:
    status = path.lstat()
    xattrs = {
        name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)
    }
    links = tuple(inodes.get((status.st_dev, status.st_ino), ()))
    mode, owner = stat.filemode(status.st_mode), (status.st_uid, status.st_gid)
    return Seen(mode, owner, _content(path, status), xattrs, int(status.st_mtime), links)


def _content(path: Path, status: os.stat_result) -> object:
    if stat.S_ISREG(status.st_mode):
        return status.st_size, hashlib.sha256(path.read_bytes()).hexdigest()
    if stat.S_ISLNK(status.st_mode):
        return os.readlink(path)
    if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
        return os.major(status.st_rdev), os.minor(status.st_rdev)
    return None


class Stream:
    """Bytes as a stream gives them."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def read(self, size: int, /) -> bytes:
        piece, self._data = self._data[:size], self._data[size:]
        return piece
