"""Short runs of the fuzz targets, from seeds that lead them into the depth. RUNV_FUZZ_SECONDS makes them longer."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..guest_build import GUEST_SOURCE
from .client import Json, encode
from .test_hostile import rich_spec

SECRET = "0" * 64
SECONDS = int(os.environ.get("RUNV_FUZZ_SECONDS", "6"))
SMALL = {"clients", "log", "tar"}  # half the time is enough to get everywhere
TINY = {"touch"}  # a second is


def mux_frame(kind: int, channel: int, value: int, payload: bytes = b"") -> bytes:
    return struct.pack(">BBHII", kind, 0, 0, channel, value) + payload


def frame_seeds() -> Iterator[bytes]:
    """Byte 0 of the target: bit 0 the port, bit 1 whether the agent is claimed, the rest the size of the pieces."""
    hello = encode({"hello": {"version": 1, "secret": SECRET}})
    requests: list[Json] = [
        {"id": 1, "op": "echo", "args": {"text": "a\u00e9", "number": 2**64 - 1, "list": [{"text": "b"}]}},
        {"id": 2, "op": "hold", "args": {}},
        {"id": 3, "op": "nonesuch"},
    ]
    for pieces in (0xFC, 0x04):
        yield bytes([pieces]) + hello + b"".join(encode(request) for request in requests)
        yield bytes([pieces | 2]) + hello + encode(requests[1]) * 70
        for name in ("stdin", "stdout"):
            stream = {"secret": SECRET, "container": "c", "process": "init", "name": name}
            yield bytes([pieces | 3]) + encode({"stream": stream}) + b"data"


def oci_seeds() -> Iterator[bytes]:
    spec = rich_spec()
    yield json.dumps(spec).encode()
    spec["process"]["capabilities"]["ambient"] = ["CAP_CHOWN"]
    spec["mounts"].append(
        {"destination": "/x", "source": "/y", "options": ["rbind", "rro", "rslave", "noatime", "nosymfollow", "x=y"]}
    )
    spec["linux"]["resources"] = {
        "memory": {"limit": 1, "reservation": 2, "swap": 3},
        "cpu": {"shares": 1024, "quota": 1, "period": 2, "burst": 3, "idle": 1, "cpus": "0-1", "mems": "0"},
        "pids": {"limit": -1},
        "blockIO": {"weight": 10, "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 2**64 - 1}]},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 1}],
        "unified": {"memory.high": "1"},
    }
    yield json.dumps(spec).encode()


def mux_seeds() -> Iterator[bytes]:
    """Byte 0 of the target: the size of the pieces."""
    hello = mux_frame(1, 0x72756E76, 1)
    for pieces in (3, 255):
        talk = b"".join(
            mux_frame(2, i, 1024) + mux_frame(4, i, 100, b"x" * 100) + mux_frame(5, i, 100) for i in range(1, 5)
        )
        yield bytes([pieces]) + hello + talk + mux_frame(6, 1, 0) + mux_frame(7, 2, 0)
        yield bytes([pieces]) + hello + b"".join(mux_frame(2, i, 3) for i in range(1, 9)) + mux_frame(7, 2, 0)
        yield bytes([pieces]) + hello + mux_frame(2, 1, 0) + hello + mux_frame(9, 9, 9) + hello


def packet_seeds() -> Iterator[bytes]:
    """Byte 0 of the target: bit 0 for sequenced packets, bit 1 whether what comes back is read, the rest the size of the pieces."""
    packets = b"".join(struct.pack(">H", size) + b"\2" * size for size in (0, 1, 100, 4000, 65535 >> 3))
    for first in (3, 255, 254, 253):
        yield bytes([first]) + packets
        yield bytes([first]) + packets + b"\5\6\7\5" * 100


def client_seeds() -> Iterator[bytes]:
    """Byte 0 of the target: the size of the pieces. What a frame begins with also says how its client behaves."""
    frames = [(16, b"\x0f"), (0, b"input"), (17, b"\0\x18\0\x50"), (18, b""), (19, b""), (0, b""), (99, b"")]
    talk = b"".join(struct.pack(">IB", len(data) + 1, kind) + data for kind, data in frames)
    for pieces in (1, 3, 255):
        yield bytes([pieces]) + talk * 3
        yield bytes([pieces]) + talk[:6] + struct.pack(">IB", 3001, 0) + bytes(range(250)) * 12 + talk


def log_seeds() -> Iterator[bytes]:
    """Byte 0 of the target: the format, whether files are short, and the size of the pieces."""
    for first in (0, 1, 2, 3, 0xFC, 0xFD, 0xFF):
        yield bytes([first]) + b"a line\n\xff\xe2\x82\xac\0\n" + bytes(range(256)) * 4
        yield bytes([first]) + "\xff\u20ac\U0001f600".encode() * 200


def tar_seeds() -> Iterator[bytes]:
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        member = tarfile.TarInfo("folder/" + "n" * 60)
        member.linkname, member.uid, member.type = "l" * 90, 3_000_000, tarfile.SYMTYPE
        records = b"30 mtime=1234567890.123456789\n20 SCHILY.xattr.a=b\n12 path=abc\n8 gid=7\n13 size=12345\n"
        yield member.tobuf(form)[-512:] + records


def touch_seeds() -> Iterator[bytes]:
    yield from (b"S", b"F\0\1", b"T\0\1\1", b"T\x0f\xff\x0fname", b"K\0\1\0\0name", b"T\0\0\x0f..", b"K\0\0\0\0" + b"n" * 255)


SEEDS = {
    "frames": frame_seeds,
    "oci": oci_seeds,
    "mux": mux_seeds,
    "packets": packet_seeds,
    "clients": client_seeds,
    "log": log_seeds,
    "tar": tar_seeds,
    "touch": touch_seeds,
}


@pytest.fixture(scope="session")
def fuzz_build() -> Path:
    given = os.environ.get("RUNV_GUEST_BUILD")
    if given:
        return Path(given) / "fuzz"
    folder = Path(os.environ.get("RUNV_CACHE") or Path.home() / ".cache/runv") / "build/guest-fuzz"
    subprocess.run(["make", "-s", "-C", GUEST_SOURCE, f"O={folder}", "fuzz"], check=True)
    return folder


@pytest.mark.parametrize("target", SEEDS)
def test_fuzz(fuzz_build: Path, tmp_path: Path, target: str) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(SEEDS[target]()):
        (corpus / f"seed-{number}").write_bytes(seed)
    limits = [
        "-max_len=16384",
        "-timeout=10",
        "-rss_limit_mb=1024",
        f"-max_total_time={1 if target in TINY else SECONDS // 2 if target in SMALL else SECONDS}",
        f"-artifact_prefix={tmp_path}/",
    ]
    command = [str(fuzz_build / f"fuzz-{target}"), *limits, str(corpus)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=tmp_path, check=False)
    assert done.returncode == 0, f"what broke it is in {tmp_path}\n{done.stdout.decode(errors='replace')[-8000:]}"
