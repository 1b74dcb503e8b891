"""Sockets among what a bundle mounts: what kind they are, which are found, and what becomes of their mounts."""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from runv import sockets
from runv.network import resolver
from runv.spec.config import Config, Mount, Root
from runv.storage import plan as storage


@contextmanager
def opened(path: Path, kind: int = socket.SOCK_STREAM) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, kind) as link:
        link.bind(str(path))
        if kind != socket.SOCK_DGRAM:
            link.listen()
        yield link


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "f"
    path.mkdir()
    return path


@pytest.mark.parametrize(
    ("kind", "name"),
    [(socket.SOCK_STREAM, "stream"), (socket.SOCK_SEQPACKET, "seqpacket"), (socket.SOCK_DGRAM, "dgram")],
)
def test_kinds(folder: Path, kind: int, name: str) -> None:
    path = folder / "s"
    with opened(path, kind):
        path.chmod(0o640)
        os.chown(path, 12, 34)
        expected = sockets.Socket(str(path), name, 0o640, 12, 34)
        assert sockets.at(str(path)) == expected
        assert sockets.below(str(folder)) == [expected]


def test_looking_is_no_connection(folder: Path) -> None:
    with opened(folder / "s") as service:
        assert sockets.at(f"{folder}/s") is not None
        service.setblocking(False)
        with pytest.raises(BlockingIOError):
            service.accept()


def test_a_receiver_that_is_somebodys(folder: Path) -> None:
    with opened(folder / "s", socket.SOCK_DGRAM) as one, opened(folder / "t", socket.SOCK_DGRAM):
        one.connect(str(folder / "t"))
        found = sockets.at(f"{folder}/s")
        assert found is not None and found.kind == "dgram"


def test_what_nobody_has_open(folder: Path) -> None:
    with opened(folder / "s"):
        pass
    found = sockets.at(f"{folder}/s")
    assert found is not None and found.kind == "stream"
    assert sockets.below(str(folder)) == []


def test_what_is_no_socket(folder: Path) -> None:
    (folder / "file").touch()
    os.mkfifo(folder / "fifo")
    (folder / "link").symlink_to("s")
    with opened(folder / "s"):
        assert sockets.at(f"{folder}/file") is None
        assert sockets.at(str(folder)) is None
        assert [found.path for found in sockets.below(str(folder))] == [f"{folder}/s"]


def test_long_paths(folder: Path) -> None:
    deep = folder / ("d" * 120)
    deep.mkdir()
    here = os.open(deep, os.O_PATH)
    with opened(Path(f"/proc/self/fd/{here}/s")):
        assert [found.path for found in sockets.below(str(folder))] == [f"{deep}/s"]
    os.close(here)


def test_how_far_is_looked(folder: Path) -> None:
    (folder / "1/2/3").mkdir(parents=True)
    with ExitStack() as stack:
        for name in ("s", "1/s", "1/2/s", "1/2/3/s"):
            stack.enter_context(opened(folder / name))
        assert [found.path for found in sockets.below(str(folder))] == [
            f"{folder}/{name}" for name in ("s", "1/s", "1/2/s")
        ]
        for number in range(40):
            stack.enter_context(opened(folder / f"s{number}"))
        assert len(sockets.below(str(folder))) == 32


def test_a_large_folder(folder: Path) -> None:
    for number in range(1500):
        (folder / f"{number}").touch()
    (folder / "z").mkdir()
    with opened(folder / "z/s"):
        assert sockets.below(str(folder)) == [], "it was read to its end"


def plan(bundle: Path, *mounts: Mount) -> storage.StoragePlan:
    (bundle / "rootfs").mkdir(exist_ok=True)
    raw = [{"destination": m.destination, "source": m.source, "options": m.options} for m in mounts]
    config = Config(oci_version="1.0.0", root=Root(path="rootfs"), mounts=list(mounts))
    return storage.plan("one", str(bundle), config, {"mounts": raw})


def test_a_socket_is_not_shared(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    with opened(folder / "s"):
        found = plan(tmp_path, Mount(destination="/s", source=f"{tmp_path}/link/s", options=["rbind", "ro"]))
    assert [shared.name for shared in found.shared] == ["one/rootfs"]
    ((mount, carried),) = found.carried
    assert (mount, carried.path) == (0, f"{folder}/s")
    assert found.mounts[0]["options"] == ["rbind", "ro"]


def test_sockets_of_a_folder_follow_their_folder(tmp_path: Path, folder: Path) -> None:
    (folder / "sub").mkdir()
    with opened(folder / "s"), opened(folder / "sub/t"):
        found = plan(
            tmp_path,
            Mount(destination="/run", source=str(folder), options=["rbind"]),
            Mount(destination="/run/sub", type="tmpfs", source="tmpfs"),
        )
    assert [mount["destination"] for mount in found.mounts] == ["/run", "/run/s", "/run/sub/t", "/run/sub"]
    assert [(entry.mount, entry.socket.path) for entry in found.carried] == [(1, f"{folder}/s"), (2, f"{folder}/sub/t")]
    assert found.mounts[1] == {"destination": "/run/s", "type": "bind", "options": ["bind"]}
    assert len(found.shared) == 2


HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("", False),
        (HEAD, False),
        (
            HEAD + "   0: 0100007F:0035 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1\n",
            False,
        ),
        (
            HEAD + "   1: 0B00007F:8A2D 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1\n",
            True,
        ),
        (
            HEAD + "   1: 0100007F:8A2D 0B00007F:0035 01 00000000:00000000 00:00000000 00000000     0        0 1 1\n",
            False,
        ),
    ],
)
def test_a_resolver_of_dockers_is_seen(table: str, expected: bool) -> None:
    assert resolver.listens(table) is expected
