"""runv-watch, with a guest at the other end of its link: what it says of folders that change. What the guest makes of it is in tests/vm/test_share_notify.py."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.host_c.process import assert_idle, open_files

TIMEOUT = 20.0
CONTENT, ATTRIBUTES, NEW, GONE = 1, 2, 4, 8


class Order(NamedTuple):
    kind: str
    path: str
    flags: int = 0


class Guest:
    """The link's other end: it knows folders by their paths, as the orders have made them."""

    def __init__(self, programs: Path, *paths: Path, most: int = 4096) -> None:
        self.link, theirs = socket.socketpair()
        self.link.settimeout(TIMEOUT)
        ready, write = os.pipe()
        command: list[str | Path] = [programs / "runv-watch", "--link-fd", str(theirs.fileno()), "--ready-fd", str(write), "--most", str(most), *paths]
        with theirs:
            self.process = subprocess.Popen(command, pass_fds=[theirs.fileno(), write], stdin=subprocess.DEVNULL)
        os.close(write)
        self.ready = os.fdopen(ready, "rb")
        self.folders = dict(enumerate(path.name for path in paths))
        self.reader = self.link.makefile("rb")
        self.seen: list[Order] = []

    def read(self) -> Order:
        data = self.reader.read(int.from_bytes(self.reader.read(2), "big"))
        kind, number = data[:1].decode(), int.from_bytes(data[1:3], "big")
        if kind == "K":
            parent = self.folders[int.from_bytes(data[3:5], "big")]
            assert number not in self.folders, "a number that was not given back"
            self.folders[number] = f"{parent}/{os.fsdecode(data[5:])}"
            return Order(kind, self.folders[number])
        if kind == "F":
            return Order(kind, self.folders.pop(number))
        if kind == "T":
            name = os.fsdecode(data[4:])
            return Order(kind, f"{self.folders[number]}/{name}" if name else self.folders[number], data[3])
        assert data == b"S"
        return Order(kind, "")

    def until(self, *wanted: Order) -> list[Order]:
        """What comes until all of these have come, them included."""
        self.seen = []
        while not set(wanted) <= set(self.seen):
            self.seen.append(self.read())
        return self.seen

    def greet(self) -> str:
        """Catches up; what it tells whoever has started it."""
        self.until(Order("S", ""))
        self.link.sendall(b"\0\1S")
        return self.ready.readline().decode().strip()


@contextmanager
def watching(programs: Path, *paths: Path, most: int = 4096, says: str = "all") -> Iterator[Guest]:
    """A watcher whose guest has caught up; it must end with its link, and well."""
    guest = Guest(programs, *paths, most=most)
    try:
        assert guest.greet() == says
        yield guest
        guest.link.shutdown(socket.SHUT_RDWR)
        assert guest.process.wait(TIMEOUT) == 0
    finally:
        guest.process.kill()
        guest.process.wait()
        guest.reader.close()
        guest.ready.close()
        guest.link.close()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "top"
    (top / "a/b").mkdir(parents=True)
    (top / "c").mkdir()
    (top / "a/file").write_text("x")
    return top


def test_files(programs: Path, tree: Path) -> None:
    with watching(programs, tree) as guest:
        assert sorted(guest.folders.values()) == ["top", "top/a", "top/a/b", "top/c"]
        (tree / "a/file").write_text("more")
        assert guest.until(Order("T", "top/a/file", CONTENT)) == [Order("T", "top/a/file", CONTENT)]
        os.chmod(tree / "a/file", 0o600)
        guest.until(Order("T", "top/a/file", ATTRIBUTES))
        os.rename(tree / "a/file", tree / "c/moved")
        guest.until(Order("T", "top/a/file", GONE), Order("T", "top/c/moved", NEW))
        os.unlink(tree / "c/moved")
        guest.until(Order("T", "top/c/moved", GONE))
        (tree / "c" / os.fsdecode(b"\xff")).touch()
        guest.until(Order("T", "top/c/" + os.fsdecode(b"\xff"), NEW))


def test_what_happens_at_once_is_one_thing(programs: Path, tree: Path) -> None:
    with watching(programs, tree) as guest:
        for _ in range(100):
            with (tree / "c/log").open("a") as log:
                log.write("line\n")
        (tree / "end").touch()
        guest.until(Order("T", "top/end", NEW))
        # Not more than one in 20 ms, and how long a hundred lines take is the machine's business.
        assert len([order for order in guest.seen if order.path == "top/c/log"]) < 50


def test_folders_come_move_and_go(programs: Path, tree: Path, tmp_path: Path) -> None:
    with watching(programs, tree) as guest:
        (tmp_path / "new/deep").mkdir(parents=True)
        (tmp_path / "new/deep/file").touch()
        os.rename(tmp_path / "new", tree / "c/new")
        guest.until(Order("K", "top/c/new/deep"), Order("T", "top/c/new", NEW), Order("T", "top/c/new/deep/file", NEW))
        # The numbers of one that moves away are given back, its contents no longer told of.
        os.rename(tree / "c/new", tmp_path / "away")
        assert guest.until(Order("F", "top/c/new"))[0] == Order("F", "top/c/new/deep")
        (tmp_path / "away/deep/file").write_text("unheard")
        shutil.rmtree(tree / "a")
        guest.until(Order("F", "top/a"), Order("F", "top/a/b"), Order("T", "top/a", GONE))
        assert sorted(guest.folders.values()) == ["top", "top/c"]
        assert not any("away" in order.path or order.path.endswith("deep/file") for order in guest.seen)


def test_a_file_and_a_folder_twice(programs: Path, tree: Path) -> None:
    with watching(programs, tree / "a/file", tree, tree / "a") as guest:
        (tree / "a/file").write_text("more")
        guest.until(Order("T", "file", CONTENT), Order("T", "top/a/file", CONTENT), Order("T", "a/file", CONTENT))
        os.unlink(tree / "a/file")
        guest.until(Order("T", "file", ATTRIBUTES), Order("T", "a/file", GONE))


def test_no_link_is_followed(programs: Path, tree: Path, tmp_path: Path) -> None:
    (tmp_path / "secret/deep").mkdir(parents=True)
    (tree / "link").symlink_to(tmp_path / "secret")
    with watching(programs, tree) as guest:
        # A folder becomes a link while there is something below it to look at.
        os.rename(tree / "a", tmp_path / "a")
        (tree / "a").symlink_to(tmp_path / "secret")
        guest.until(Order("T", "top/a", NEW | GONE))
        (tmp_path / "secret/deep/file").touch()
        (tree / "end").touch()
        guest.until(Order("T", "top/end", NEW))
        assert not any("deep" in order.path for order in guest.seen)


def test_too_many_folders(programs: Path, tree: Path) -> None:
    """The upper ones are watched, and one that goes makes room."""
    with watching(programs, tree, most=3, says="full") as guest:
        assert sorted(guest.folders.values()) == ["top", "top/a", "top/c"]
        os.rmdir(tree / "c")
        guest.until(Order("F", "top/c"))
        (tree / "d").mkdir()
        guest.until(Order("K", "top/d"))


def test_a_guest_that_does_not_listen(programs: Path, tree: Path) -> None:
    """What it is not told for now waits in the kernel, and after more than fits there every folder counts as changed."""
    with watching(programs, tree) as guest:
        limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
        os.kill(guest.process.pid, 19)
        for number in range(limit // 2 + 100):
            (tree / "c/one").touch()
            (tree / f"a/{'x' * 200}{number % 50}").touch()
        os.kill(guest.process.pid, 18)
        guest.until(*(Order("T", name, CONTENT) for name in ("top", "top/a", "top/a/b", "top/c")))


def test_it_rests(programs: Path, tree: Path) -> None:
    with watching(programs, tree) as guest:
        assert_idle(guest.process.pid)
        assert len(open_files(guest.process.pid)) <= 9
        rollup = Path(f"/proc/{guest.process.pid}/smaps_rollup").read_text()
        if "san" not in str(programs):
            assert int(rollup.split("Pss:")[1].split()[0]) < 1024, rollup


@pytest.mark.parametrize("what", ["missing", "no arguments"])
def test_what_it_cannot_watch(programs: Path, tmp_path: Path, what: str) -> None:
    if what == "no arguments":
        done = subprocess.run([programs / "runv-watch"], capture_output=True, timeout=TIMEOUT, check=False)
        assert done.returncode == 2 and done.stderr.startswith(b"usage: runv-watch ")
        return
    guest = Guest(programs, tmp_path / "missing")
    assert guest.ready.read() == b"No such file or directory\n"
    assert guest.process.wait(TIMEOUT) == 1
    guest.reader.close()
    guest.ready.close()
    guest.link.close()


def test_sigterm_ends_it(programs: Path, tree: Path) -> None:
    guest = Guest(programs, tree)
    assert guest.greet() == "all"
    guest.process.terminate()
    assert guest.process.wait(TIMEOUT) == 0
    for end in (guest.reader, guest.ready, guest.link):
        end.close()
