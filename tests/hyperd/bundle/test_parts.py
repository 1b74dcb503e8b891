"""Mounting a part of a folder of the host, which a container may have prepared for it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hyperd.bundle.parts import part_of
from hyperd.errors import InvalidError


def test_a_part_is_there_or_is_made(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/file").touch()
    assert part_of(str(tmp_path), "a/file") == f"{tmp_path}/a/file"
    assert part_of(str(tmp_path), "./a//new/deep") == f"{tmp_path}/a/new/deep"
    assert (tmp_path / "a/new/deep").is_dir()


@pytest.mark.parametrize("path", ["link", "link/x", "a/link", "a/link/new", "broken", "a/file/x", "..", "a/../..", "/etc"])
def test_no_way_leads_out(tmp_path: Path, path: str) -> None:
    volume, outside = tmp_path / "volume", tmp_path / "outside"
    (volume / "a").mkdir(parents=True)
    outside.mkdir()
    (volume / "a/file").touch()
    (volume / "link").symlink_to(outside)
    (volume / "a/link").symlink_to("../../outside")
    (volume / "broken").symlink_to("nowhere")
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.raises(InvalidError):
        part_of(str(volume), path)
    assert os.listdir(outside) == []
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="No such file or directory"):
        part_of(str(tmp_path / "absent"), "a")
