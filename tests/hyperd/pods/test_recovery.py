"""A daemon that goes at any moment: the next one makes of it what was wanted, and leaves nothing that nobody wants."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from hyperd.pods.manager import Manager
from hyperd.pods.pod import Pod

from .fakes import World, container, daemon, pod_of, run


class Cut(World):
    """Every call to the outside counts; at the one that was chosen the daemon's end is asked for, before or after it took effect."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.at = -1
        self.reached = asyncio.Event()

    async def call(self, *words: str) -> None:
        if len(self.calls) == self.at:
            self.reached.set()
            await asyncio.sleep(3600)  # it never comes back from here
        await super().call(*words)


async def settled(manager: Manager) -> None:
    for pod in manager.all():
        await pod.book.until(lambda pod=pod: _is_settled(pod))  # type: ignore[misc]


def _is_settled(pod: Pod) -> bool:
    if pod.book.gone:
        return True
    mains = [one for one in pod.book.containers.values() if one.kind == "main"]
    if pod.book.pod.desired == "running":
        return pod.book.pod.phase == "running" and all(one.phase == "running" for one in mains)
    return pod.book.pod.phase in ("created", "stopped", "succeeded", "failed")


def owned(manager: Manager, world: World) -> None:
    """What is there is what should be."""
    ids = {pod.book.pod.id for pod in manager.all()} | {one for pod in manager.all() for one in pod.book.containers}
    assert set(world.status) <= ids, "a container that nobody owns"
    running = {pod.book.pod.id for pod in manager.all() if pod.book.pod.phase == "running"}
    assert world.namespaces == running and world.files <= ids
    for pod in manager.all():
        if pod.book.pod.phase == "running":
            assert world.status[pod.book.pod.id] == "running"
            for record in pod.book.containers.values():
                assert (world.status.get(record.id) == "running") == (record.phase == "running"), record


WANTED = pod_of(container("a"), container("b"), init_containers=(container("i"),), restart="always", termination_grace_s=0.05)


async def steps(manager: Manager) -> None:
    """A life: started, stopped, started again, one container more, removed."""
    pod = await manager.create(WANTED)
    await pod.ask_start()
    await pod.started()
    await pod.ask_stop()
    await pod.rested()
    await pod.ask_start()
    await pod.started()
    await pod.ask_restart()
    await pod.started()
    assert pod.book.pod.phase == "running"
    await manager.add_container(pod, container("late"))
    await settled(manager)
    await pod.ask_removal(force=True)
    await pod.book.until(lambda: pod.book.gone)


async def count_calls(folder: Path) -> int:
    world = Cut(folder)
    world.ends["i"] = [0] * 100
    async with daemon(world) as manager:
        await steps(manager)
    return len(world.calls)


def test_cut_at_every_call(tmp_path: Path) -> None:
    async def work(_: World) -> None:
        (tmp_path / "count").mkdir()
        calls = await count_calls(tmp_path / "count")
        assert calls > 30
        for at in range(calls):
            await cut_at(tmp_path / str(at), at)

    run(tmp_path, work)


async def cut_at(folder: Path, at: int) -> None:
    folder.mkdir()
    world = Cut(folder)
    world.ends["i"] = [0] * 100
    world.at = at
    async with daemon(world) as manager:
        life = asyncio.create_task(steps(manager))
        reached = asyncio.create_task(world.reached.wait())
        await asyncio.wait({life, reached}, return_when=asyncio.FIRST_COMPLETED)
        for task in (life, reached):
            task.cancel()
        await asyncio.gather(life, reached, return_exceptions=True)
    world.at = -1
    async with daemon(world) as manager:
        await settled(manager)
        owned(manager, world)
        for pod in manager.all():
            await pod.ask_removal(force=True)
            await pod.book.until(lambda pod=pod: pod.book.gone)  # type: ignore[misc]
        assert not world.status and not world.namespaces and not world.files, f"cut at {at}: {world.calls[at]}"


def test_what_runs_is_taken_over_and_not_started_anew(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        world.ends["i"] = [0]
        async with daemon(world) as manager:
            pod = await manager.create(WANTED)
            await pod.ask_start()
            await pod.started()
            before = dict(pod.book.containers)
        world.calls.clear()
        async with daemon(world) as manager:
            pod = manager.find("p")
            pod.wake()
            await asyncio.sleep(0.05)
            assert world.named("create", "start", "delete") == []
            assert dict(pod.book.containers) == before
            world.end(next(one.id for one in before.values() if one.name == "a"), 1)
            await pod.book.until(lambda: any(one.restarts for one in pod.book.containers.values()))

    run(tmp_path, work)


def test_an_end_while_nobody_looked(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        async with daemon(world) as manager:
            pod = await manager.create(pod_of(container()))
            await pod.ask_start()
            await pod.started()
            [record] = pod.book.containers.values()
        world.end(record.id, 9)
        async with daemon(world) as manager:
            pod = manager.find("p")
            await pod.book.until(lambda: pod.book.pod.phase == "failed")
            assert pod.book.containers[record.id].code == 9
            assert not world.status and not world.namespaces

    run(tmp_path, work)


@pytest.mark.parametrize(("policy", "phase"), [("always", "running"), ("never", "failed")])
def test_a_reboot_of_the_host(tmp_path: Path, policy: Any, phase: str) -> None:
    async def work(world: World) -> None:
        async with daemon(world) as manager:
            pod = await manager.create(pod_of(container(), restart=policy))
            await pod.ask_start()
            await pod.started()
        world.status.clear()
        world.monitors.clear()
        world.namespaces.clear()
        async with daemon(world) as manager:
            pod = manager.find("p")
            await pod.book.until(lambda: pod.book.pod.phase == phase and (pod.book.pod.boots == 1) == (policy == "always"))

    run(tmp_path, work)


def test_what_nobody_owns_is_removed(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        world.status |= {"stranger": "running", "half": "creating"}
        world.files.add("forgotten")
        async with daemon(world):
            assert not world.status and not world.files

    run(tmp_path, work)


def test_one_that_cannot_be_removed_does_not_stop_the_daemon(tmp_path: Path) -> None:
    from hyperd.errors import UnavailableError

    async def work(world: World) -> None:
        world.status["stranger"] = "running"
        world.faults["delete"] = UnavailableError("busy")
        async with daemon(world) as manager:
            world.faults.clear()
            pod = await manager.create(pod_of(container()))
            await pod.ask_start()
            await pod.started()

    run(tmp_path, work)




def test_copies_of_volumes_that_were_cut_off_are_ended(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        world.abandoned = ["c1"]
        async with daemon(world):
            assert ("volume", "tidy", "c1") in world.calls

    run(tmp_path, work)
