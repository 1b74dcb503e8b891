"""Volumes, files and the order in which they are mounted."""

from __future__ import annotations

import io
import tarfile
from typing import Any

import pytest

from hyperd import bundle, spec
from hyperd.bundle import Bundle, Disk, HostFile, Memory, Source
from hyperd.errors import InvalidError

from .samples import IMAGE, PLACE, Json, made, pod


def mounted(*mounts: spec.Mount, volumes: tuple[spec.Volume, ...] = (), sources: dict[str, Source] | None = None, **members: Any) -> Bundle:
    own = spec.Container(name="c", image="i", mounts=mounts, **members)
    return made(pod(own, volumes=volumes), sources)


def at(found: Bundle, path: str) -> Json:
    (mount,) = [mount for mount in found.config["mounts"] if mount["destination"] == path]
    return dict(mount)


def volume(name: str, source: spec.Source | None = None) -> spec.Volume:
    return spec.Volume(name=name, source=source or spec.EmptyDir())


def test_folders() -> None:
    found = mounted(
        spec.Mount(volume="v", path="/data/"),
        spec.Mount(volume="v", path="/part", sub_path="a/b", read_only=True, propagation="host-to-container"),
        volumes=(volume("v", spec.HostPath(path="/srv")),),
    )
    assert at(found, "/data") == {"destination": "/data", "type": "bind", "source": "/volumes/v", "options": ["rbind", "rw", "rprivate"]}
    assert at(found, "/part") == {"destination": "/part", "type": "bind", "source": "/volumes/v", "options": ["rbind", "ro", "rslave", "x-runv.subpath=a/b"]}


def test_disks() -> None:
    volumes = (volume("n", spec.Named(name="n")), volume("i", spec.Image(path="/x.qcow2", read_only=True)))
    sources: dict[str, Source] = {"n": Disk("/n.img", "ext4", populate=True), "i": Disk("/x.qcow2", "xfs")}
    found = mounted(
        spec.Mount(volume="n", path="/n"), spec.Mount(volume="n", path="/m", sub_path="d"), spec.Mount(volume="i", path="/i"),
        volumes=volumes, sources=sources,
    )  # fmt: skip
    assert at(found, "/n") == {"destination": "/n", "type": "ext4", "source": "/n.img", "options": ["rw", "discard", "x-runv.copyup", "x-runv.grow"]}
    assert at(found, "/m")["options"] == ["rw", "discard", "x-runv.grow", "x-runv.subpath=d"]
    assert at(found, "/i") == {"destination": "/i", "type": "xfs", "source": "/x.qcow2", "options": ["ro"]}


def test_memory() -> None:
    found = mounted(spec.Mount(volume="m", path="/m"), volumes=(volume("m"),), sources={"m": Memory(size=4096, gid=5, mode=0o2777, shared="m")})
    assert at(found, "/m") == {
        "destination": "/m", "type": "tmpfs", "source": "tmpfs",
        "options": ["rw", "nosuid", "nodev", "mode=2777", "gid=5", "size=4096", "x-runv.shared=m"],
    }  # fmt: skip


def test_what_became_of_configs_can_only_be_read() -> None:
    found = mounted(spec.Mount(volume="v", path="/v"), volumes=(volume("v", spec.Projected()),))
    assert at(found, "/v")["options"] == ["rbind", "ro", "rprivate"]


def test_parents_first_and_the_last_word_wins() -> None:
    found = mounted(
        spec.Mount(volume="v", path="/a/b/c"), spec.Mount(volume="v", path="/a"), spec.Mount(volume="v", path="/dev/shm"),
        spec.Mount(volume="v", path="/etc/hosts"), volumes=(volume("v"),), files=(spec.File(path="/a/b/c/file", content="x"),),
        security=spec.Security(read_only_root=True),
    )  # fmt: skip
    places = [mount["destination"] for mount in found.config["mounts"]]
    assert len(places) == len(set(places))
    assert places.index("/a") < places.index("/a/b/c") < places.index("/a/b/c/file")
    assert places.index("/dev") < places.index("/dev/shm") and places.index("/sys") < places.index("/sys/fs/cgroup")
    assert at(found, "/dev/shm")["source"] == "/volumes/v"
    assert "x-runv.shared=shm" in at(mounted(), "/dev/shm")["options"]
    assert at(found, "/etc/hosts")["source"] == "/volumes/v"
    assert not [file for file in found.files if file.path.endswith("/hosts")]


def test_volumes_of_the_image() -> None:
    own = spec.Container(name="c", image="i", mounts=(spec.Mount(volume="v", path="/own"),))
    found = made(pod(own, volumes=(volume("v"),)), anonymous={"/var/lib/x": Disk("/x.img", "ext4", populate=True), "/own": Disk("/y.img", "ext4")})
    assert at(found, "/var/lib/x")["source"] == "/x.img"
    assert at(found, "/own")["source"] == "/volumes/v"


def test_a_volume_without_source() -> None:
    own = spec.Container(name="c", image="i", mounts=(spec.Mount(volume="v", path="/v"),))
    with pytest.raises(InvalidError, match="'v' has no source"):
        bundle.container(pod(own), own, IMAGE, PLACE, {}, read=lambda path: b"")


def test_the_files_of_every_container() -> None:
    whole = pod(
        host_aliases=(spec.HostAlias(ip="192.0.2.9", names=("db", "db.example")),),
        dns=spec.Dns(servers=("192.0.2.53",), searches=("example.com", "pods"), options=("ndots:3", "edns0")),
    )
    files = {file.path.rpartition("/")[2]: file.content.decode() for file in made(whole).files}
    assert files["hostname"] == "p\n"
    assert files["hosts"].splitlines()[0] == "127.0.0.1\tlocalhost"
    assert files["hosts"].splitlines()[-3:] == ["10.1.2.3\tp", "fd00::3\tp", "192.0.2.9\tdb db.example"]
    assert files["resolv.conf"] == "nameserver 10.1.2.1\nnameserver 192.0.2.53\nsearch pods example.com\noptions ndots:3 edns0\n"
    alone = made(pod(dns=spec.Dns(policy="none", servers=("192.0.2.53",)))).files
    assert HostFile("/run/hyperd/pods/p/c/files/resolv.conf", b"nameserver 192.0.2.53\n") in alone


FILES = (
    spec.File(path="/etc/motd", source="/host/motd", mode=0o600, user="web", group="disk"),
    spec.File(path="/a//b", content="aGk=", encoding="base64", user="web"),
    spec.File(path="/etc/hosts", content="mine"),
)


def with_files(*, read_only_root: bool) -> Bundle:
    own = spec.Container(name="c", image="i", files=FILES, security=spec.Security(read_only_root=read_only_root))
    return made(pod(own), read=lambda path: path.encode())


def test_files_that_are_put_in() -> None:
    """They are the container's, which may write to them; and none of ours takes their place."""
    found = with_files(read_only_root=False)
    with tarfile.open(fileobj=io.BytesIO(found.archive)) as tar:
        entries = [(entry.name, entry.mode, entry.uid, entry.gid, tar.extractfile(entry)) for entry in tar]
    assert [(*entry, file.read() if file else None) for *entry, file in entries] == [
        ("etc/motd", 0o600, 33, 6, b"/host/motd"), ("a/b", 0o755, 33, 34, b"hi"), ("etc/hosts", 0o755, 0, 0, b"mine"),
    ]  # fmt: skip
    assert not [mount for mount in found.config["mounts"] if mount["destination"] in ("/etc/hosts", "/etc/motd", "/a/b")]
    assert made(pod()).archive == b""


def test_files_of_nobody_that_is_known() -> None:
    own = spec.Container(name="c", image="i", files=(spec.File(path="/x", group="no"),))
    with pytest.raises(InvalidError, match="container c: file /x: the image has no group 'no'"):
        made(pod(own))


def test_files_for_a_root_that_nobody_writes_to() -> None:
    found = with_files(read_only_root=True)
    folder = PLACE.files
    assert found.archive == b""
    assert found.files[-3:] == (
        HostFile(f"{folder}/file0", b"/host/motd", 0o600, 33, 6),
        HostFile(f"{folder}/file1", b"hi", 0o755, 33, 34),
        HostFile(f"{folder}/file2", b"mine", 0o755, 0, 0),
    )
    assert at(found, "/etc/hosts")["source"] == f"{folder}/file2"
    assert at(found, "/a/b") == {"destination": "/a/b", "type": "bind", "source": f"{folder}/file1", "options": ["bind", "ro", "rprivate"]}


def test_the_files_of_a_volume() -> None:
    source = spec.Projected(files=(spec.File(path="a/b", content="x", mode=0o400), spec.File(path="c", content="AP8=", encoding="base64", mode=0o644)))
    assert bundle.projected(source, "/v") == (HostFile("/v/a/b", b"x", 0o400), HostFile("/v/c", b"\0\xff", 0o644))
    assert bundle.projected(source, "/v", 7) == (HostFile("/v/a/b", b"x", 0o440, 0, 7), HostFile("/v/c", b"\0\xff", 0o644, 0, 7))
