# SPDX-License-Identifier: Apache-2.0
"""How the cost of a step grows: a start with the pods that run and with the layers of its root, a container and an ``exec`` with what is in the pod."""

import contextlib
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench import programs
from bench.runtimes import Runtime, change
from bench.timing import Figure, Subject, in_turns

_PODS = (0, 20, 40)
_LAYERS = (1, 10, 40)
_CONTAINERS = (1, 10, 20)
_SESSIONS = (0, 10, 40)
MakeBundle = Callable[[Path], Path]
Tick = Callable[[], None]


def measure(runv: Runtime, make_bundle: MakeBundle, folder: Path, count: int, tick: Tick) -> Iterator[Figure]:
    """``make_bundle`` makes a bundle that sleeps; ``folder`` gets bundles and images."""
    folder.mkdir()
    bundle = make_bundle(folder / "sleep")
    yield from _with_layers(runv, make_bundle, folder, count, tick)
    yield from _with_containers(runv, make_bundle, folder, count, tick)
    yield from _with_sessions(runv, bundle, count, tick)
    yield from _with_pods(runv, bundle, count, tick)


def _rows(what: str, steps: tuple[int, ...], subject: Callable[[str, int, str], Subject]) -> list[Subject]:
    """A subject for each number of something, the smallest as the floor; ``what`` has a place for the number."""
    names = [what.format(number) for number in steps]
    return [subject(name, number, names[0] if name != names[0] else "") for name, number in zip(names, steps, strict=True)]


class _Once:
    """A container for each sample, whose end is not counted."""

    def __init__(self, runv: Runtime, bundle: Path) -> None:
        self._runv = runv
        self._bundle = bundle
        self._id = ""

    def start(self) -> None:
        self._id = self._runv.start(self._bundle)

    def end(self) -> None:
        self._runv.delete(self._id)

    def subject(self, name: str, floor: str) -> Subject:
        return Subject(name, self.start, floor, after=self.end)


@contextlib.contextmanager
def _running(runv: Runtime, bundle: Path, count: int) -> Iterator[list[str]]:
    """``count`` containers; their ids."""
    made: list[str] = []
    try:
        for _ in range(count):
            made.append(runv.start(bundle))
        yield made
    finally:
        for container in reversed(made):  # a pod's machine goes with its last
            runv.delete(container)


def _with_layers(runv: Runtime, make_bundle: MakeBundle, folder: Path, count: int, tick: Tick) -> list[Figure]:
    base = folder / "base.erofs"
    rootfs = make_bundle(folder / "image") / "rootfs"
    programs.run("mkfs.erofs", base, rootfs)
    thin = []
    for number in range(max(_LAYERS) - 1):
        content = folder / f"layer-{number}"
        content.mkdir()
        (content / f"file-{number}").touch()
        thin.append(folder / f"layer-{number}.erofs")
        programs.run("mkfs.erofs", thin[-1], content)

    def subject(name: str, number: int, floor: str) -> Subject:
        layers = json.dumps([str(path) for path in [base, *thin[: number - 1]]])

        def set_root(config: dict[str, Any]) -> None:
            config |= {"annotations": {"run.runv.rootfs.layers": layers}, "root": {"path": "empty"}}

        bundle = make_bundle(folder / f"of-{number}")
        change(bundle, set_root)
        return _Once(runv, bundle).subject(name, floor)

    return in_turns(_rows("start of a pod of {} layers", _LAYERS, subject), count, tick)


def _joining(make_bundle: MakeBundle, folder: Path, pod: str) -> Path:
    bundle = make_bundle(folder / f"joins-{pod}")
    annotations = {"io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-id": pod}
    change(bundle, lambda config: config.update(annotations=annotations))
    return bundle


def _with_containers(runv: Runtime, make_bundle: MakeBundle, folder: Path, count: int, tick: Tick) -> list[Figure]:
    first = make_bundle(folder / "first")
    with contextlib.ExitStack() as stack:
        pods = dict(zip(_CONTAINERS, stack.enter_context(_running(runv, first, len(_CONTAINERS))), strict=True))
        bundles = {}
        for number, pod in pods.items():
            bundles[number] = _joining(make_bundle, folder, pod)
            stack.enter_context(_running(runv, bundles[number], number - 1))
        rows = _rows(
            "one more container in a pod of {}", _CONTAINERS, lambda name, number, floor: _Once(runv, bundles[number]).subject(name, floor)
        )
        rows += _rows(
            "exec true in a pod of {} containers", _CONTAINERS, lambda name, number, floor: _exec(runv, pods[number], name, floor)
        )
        return in_turns(rows, count, tick)


def _exec(runv: Runtime, container: str, name: str, floor: str) -> Subject:
    return Subject(name, lambda: _ignored(runv.run("exec", container, "true")), floor)


def _ignored(_: object) -> None:
    """What a subject returns would be its time."""


def _with_sessions(runv: Runtime, bundle: Path, count: int, tick: Tick) -> list[Figure]:
    with _running(runv, bundle, len(_SESSIONS)) as made:
        pods = dict(zip(_SESSIONS, made, strict=True))
        with contextlib.ExitStack() as stack:
            for number, pod in pods.items():
                for _ in range(number):
                    stack.enter_context(_session(runv, pod))
            rows = _rows("exec true beside {} open sessions", _SESSIONS, lambda name, number, floor: _exec(runv, pods[number], name, floor))
            return in_turns(rows, count, tick)


@contextlib.contextmanager
def _session(runv: Runtime, container: str) -> Iterator[None]:
    """A shell's: it waits for input until that ends."""
    with runv.open("exec", container, "cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"here\n")
        process.stdin.flush()
        process.stdout.readline()  # it runs
        try:
            yield
        finally:
            process.stdin.close()


def _with_pods(runv: Runtime, bundle: Path, count: int, tick: Tick) -> Iterator[Figure]:
    """They are the host's, so the numbers cannot take turns; with none there again at the end it shows what else has changed meanwhile."""
    floor = f"start of a pod beside {_PODS[0]} others"
    with contextlib.ExitStack() as stack:
        for before, number in zip((0, *_PODS), _PODS, strict=False):
            stack.enter_context(_running(runv, bundle, number - before))
            name = f"start of a pod beside {number} others"
            yield from in_turns([_Once(runv, bundle).subject(name, floor if number else "")], count, tick)
    yield from in_turns([_Once(runv, bundle).subject(f"start of a pod beside {_PODS[0]} others, afterwards", floor)], count, tick)
