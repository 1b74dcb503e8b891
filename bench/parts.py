# SPDX-License-Identifier: Apache-2.0
"""The parts of the benchmark by name: which runtimes, bundles and counts each gets. They yield what they have measured, also before they fail."""

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from bench import commands, files, growth, imports, pods, start, streams
from bench.plain import Plain
from bench.runtimes import Runtime
from bench.timing import BenchError, Figure
from bench.world import Bench


class Part(NamedTuple):
    """One part of the benchmark; ``about`` is for the help."""

    about: str
    work: Callable[[Bench], Iterable[Figure]]


def _start(bench: Bench) -> list[Figure]:
    bares = start.Bares(bench.floor, bench.bare)
    runtimes = start.Runtimes(bench.runv, bench.cold, bench.coldest, bench.peers)
    return start.measure(bares, runtimes, bench.true, bench.options.count, bench.tick)


def _commands(bench: Bench) -> list[Figure]:
    return commands.measure(bench.runv, bench.peers, bench.sleep, bench.options.count, bench.tick)


def _pods(bench: Bench) -> Iterator[Figure]:
    return _many(bench, bench.options.pods)


def _hundred(bench: Bench) -> Iterator[Figure]:
    return _many(bench, bench.options.many)


def _many(bench: Bench, count: int) -> Iterator[Figure]:
    with bench.progress(f"{count} pods", pods.STEPS * count) as tick:
        yield from pods.measure(bench.runv, bench.sleep, count, tick)


def _files(bench: Bench) -> Iterator[Figure]:
    setup = files.Setup(bench.folder / "files", bench.probing)
    plain = Plain(bench.settings, bench.folder / "plain-files")

    def runv(share: str) -> Runtime:
        return bench.runtime(f"runv-{share}", {"RUNV_SHARE": share})

    return files.measure(setup, plain, runv, bench.some, bench.tick)


def _network(bench: Bench) -> list[Figure]:
    from bench import network  # uses the tests' namespaces

    plain = Plain(bench.settings, bench.folder / "plain-network")
    bundle = bench.probing(bench.folder / "serving")
    return network.measure(plain, bench.runv, bundle, bench.probe, bench.settings.number("vcpus"), bench.some, bench.tick)


def _growth(bench: Bench) -> Iterator[Figure]:
    return growth.measure(bench.runv, bench.sleeping, bench.folder / "growth", bench.some, bench.tick)


def _streams(bench: Bench) -> list[Figure]:
    runtimes = [bench.runv, *bench.peers[:1]]
    return streams.measure(bench.bare, runtimes, bench.cat, bench.options.megabytes, bench.few)


def _images(bench: Bench) -> list[Figure]:
    program = shutil.which(bench.options.runv)
    if program is None:
        raise BenchError(f"there is no {bench.options.runv}")
    with tempfile.TemporaryDirectory(prefix="rvbench") as folder:  # on a disk
        library = Path(program).resolve().parents[1] / "lib/runv"
        return imports.measure(library, Path(folder), 300, bench.few, bench.tick)


def _engines(bench: Bench) -> Iterator[Figure]:
    from bench import engines

    return engines.measure(bench.options.count, bench.tick)


PARTS = {
    "start": Part("from nothing to the end of true", _start),
    "commands": Part("what engines call on containers that exist", _commands),
    "pods": Part("pods at once: starts, memory, answers, what they leave", _pods),
    "hundred": Part("the same with a hundred", _hundred),
    "files": Part("files on each kind of share and disk", _files),
    "network": Part("TCP between a pod and the host", _network),
    "streams": Part("bytes through stdin and stdout", _streams),
    "growth": Part("how starts and execs grow with pods, layers, containers, sessions", _growth),
    "images": Part("from an archive to layers on a disk", _images),
    "engines": Part("docker run, hyperctl run", _engines),
}
