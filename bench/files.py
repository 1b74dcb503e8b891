# SPDX-License-Identifier: Apache-2.0
"""Files in a container, on each kind of share and disk, beside a plain guest that has the same one mounted."""

import contextlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench import programs, usage
from bench.plain import Files, Plain
from bench.runtimes import Runtime, change
from bench.timing import Figure, Measure, in_pairs, parse_report

_MEGABYTES = 32
_FILES = 200
_DISK_MIB = 256
_MEASURES = [
    Measure("write", f"write {_MEGABYTES} MB", "MB/s"),
    Measure("read", f"read {_MEGABYTES} MB", "MB/s"),
    Measure("create", "create files of 4 KiB", "/s"),
    Measure("stat", "stat them", "/s"),
    Measure("unlink", "unlink them", "/s"),
    Measure("cpu", "CPU time on the host", "ms"),
]


class Setup:
    """Folders, images and bundles, below ``folder``. ``make_bundle`` makes a bundle there that sleeps, and has the probe."""

    def __init__(self, folder: Path, make_bundle: Callable[[Path], Path]) -> None:
        folder.mkdir()
        self.folder = folder
        self._make_bundle = make_bundle

    def with_mount(self, name: str, source: Path, kind: str, *options: str) -> Path:
        """A bundle with something mounted at /data."""
        made = self._make_bundle(self.folder / name)
        mount = {"destination": "/data", "source": str(source), "type": kind, "options": list(options)}
        change(made, lambda config: config["mounts"].append(mount))
        return made

    def layered(self, layer: Path, upper: Path) -> Path:
        """A bundle whose root is a layer, which is made of its files, under a disk."""
        made = self._make_bundle(self.folder / "layered")
        programs.run("mkfs.erofs", layer, made / "rootfs")

        def set_root(config: dict[str, Any]) -> None:
            layers = {"run.runv.rootfs.layers": json.dumps([str(layer)]), "run.runv.rootfs.upper": str(upper)}
            config |= {"annotations": layers, "root": {"path": "empty"}}

        change(made, set_root)
        return made

    def disk(self, name: str) -> Path:
        """An empty ext4."""
        image = self.folder / name
        image.touch()
        os.truncate(image, _DISK_MIB << 20)
        programs.run("mkfs.ext4", "-q", image)
        return image


def measure(setup: Setup, plain: Plain, runv: Callable[[str], Runtime], count: int, tick: Callable[[], None]) -> Iterator[Figure]:
    """One after the other on each kind; ``runv`` makes a runtime that shares folders in the way it is given."""
    for kind in ("9p", "virtiofs"):
        folder = setup.folder / f"shared-{kind}"
        (folder / "theirs").mkdir(parents=True)
        bundle = setup.with_mount(f"with-{kind}", folder, "bind", "bind")
        yield from _compare(kind, plain.shared(kind, folder / "theirs"), runv(kind), bundle, count, tick)
    layer, uppers = setup.folder / "layer", [setup.disk(f"upper-{number}") for number in range(2)]
    bundle = setup.layered(layer, uppers[0])
    yield from _compare("layers, ext4 on top", plain.with_disks("layers", layer, uppers[1]), runv("9p"), bundle, count, tick)
    disks = [setup.disk(f"volume-{number}") for number in range(2)]
    bundle = setup.with_mount("with-disk", disks[0], "ext4")
    yield from _compare("ext4", plain.with_disks("ext4", disks[1]), runv("9p"), bundle, count, tick)


def _compare(
    kind: str, theirs: contextlib.AbstractContextManager[Files], runv: Runtime, bundle: Path, count: int, tick: Callable[[], None]
) -> list[Figure]:
    container = runv.start(bundle)
    processes = list(usage.pids(runv.root, container).values())
    try:
        with theirs as guest:
            return in_pairs(
                f"{kind}, runv",
                f"{kind}, plain guest",
                (lambda: usage.with_cpu(processes, lambda: _probe(runv, container)), lambda: guest.measure(_MEGABYTES, _FILES)),
                _MEASURES,
                count,
                tick,
            )
    finally:
        runv.delete(container)


def _probe(runv: Runtime, container: str) -> dict[str, float]:
    done = runv.run("exec", container, "/probe", "files", "/data", str(_MEGABYTES), str(_FILES), stdout=subprocess.PIPE)
    return parse_report(done.stdout.decode())
