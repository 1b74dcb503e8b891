"""Atomic writes, locks on folders, removal that stays inside, and sockets deep in the tree."""

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from runv.errors import HostError, StateError
from runv.files import connect_unix, locked_folder, read_text, remove_tree, short_path, write_atomic


def test_a_write_replaces_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("old" * 1000)
    write_atomic(str(path), "new")
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["f"]


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    with pytest.raises(HostError, match=r"^cannot write .*/f: is a directory$"):
        write_atomic(str(tmp_path / "f"), "x")
    with pytest.raises(HostError, match=r"no such file or directory$"):
        write_atomic(str(tmp_path / "absent/f"), "x")
    assert os.listdir(tmp_path) == ["f"]


def test_text_that_is_not_utf8_survives_reading(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"a\xff")
    assert os.fsencode(read_text(str(tmp_path / "f"))) == b"a\xff"


def test_a_lock_is_waited_for_and_given_up(tmp_path: Path) -> None:
    folder = str(tmp_path)
    with (
        locked_folder(folder),
        pytest.raises(StateError, match="another runv has held it"),
        locked_folder(folder, 0.05),
    ):
        pass
    with locked_folder(folder, timeout_s=0):
        pass


def test_a_dead_holder_frees_the_lock(tmp_path: Path) -> None:
    code = f"from runv.files import locked_folder\nwith locked_folder({str(tmp_path)!r}):\n print(flush=True)\n input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(StateError), locked_folder(str(tmp_path), timeout_s=0):
            pass
        holder.kill()
        holder.wait()
        with locked_folder(str(tmp_path), timeout_s=5):
            pass


def test_a_folder_that_went_away_cannot_be_locked(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), locked_folder(str(tmp_path / "absent")):
        pass


def test_a_tree_is_removed_but_nothing_behind_links(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/kept").touch()
    tree = tmp_path / "tree"
    (tree / "a/b").mkdir(parents=True)
    (tree / "a/file").touch()
    os.symlink(tmp_path / "outside", tree / "link")
    os.mkfifo(tree / "a/b/fifo")
    remove_tree(str(tree))
    remove_tree(str(tree))
    assert os.listdir(tmp_path) == ["outside"]
    assert (tmp_path / "outside/kept").exists()


def test_sockets_deeper_than_an_address_is_long(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 90) / ("e" * 90)
    folder.mkdir(parents=True)
    path = str(folder / "s")
    with (
        contextlib.closing(socket.socket(socket.AF_UNIX)) as listener,
        contextlib.closing(socket.socket(socket.AF_UNIX)) as link,
    ):
        with short_path(path) as address:
            listener.bind(address)
        listener.listen()
        connect_unix(link, path)
        assert os.path.exists(path)


def test_a_short_path_stays_as_it_is() -> None:
    with short_path("/run/s") as address:
        assert address == "/run/s"
