"""Files of containers that run, stand still or have ended: who is asked for them, and what may not happen meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hyperd.errors import ConflictError, UnavailableError
from hyperd.pods.looking import reached

from .fakes import World, container, daemon, pod_of, run
from .test_lifecycle import record, started, until_phase


def test_one_that_runs_is_asked_itself(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        async with daemon(world) as manager:
            pod = await started(manager, pod_of(container()))
            async with reached(pod, record(pod)) as identity:
                assert identity == record(pod).id and world.status[identity] == "running"

    run(tmp_path, work)


def test_it_stands_still_if_that_is_wanted(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        async with daemon(world) as manager:
            pod = await started(manager, pod_of(container()))
            with pytest.raises(UnavailableError):
                async with reached(pod, record(pod), still=True) as identity:
                    assert world.status[identity] == "paused"
                    with pytest.raises(ConflictError, match="committed already"):
                        async with reached(pod, record(pod), still=True):
                            pass
                    raise UnavailableError("the disk is full")
            assert world.status[record(pod).id] == "running"

    run(tmp_path, work)


def test_the_next_daemon_lets_it_go_on(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        async with daemon(world) as manager:
            pod = await started(manager, pod_of(container()))
            world.status[record(pod).id] = "paused"  # by a daemon that is killed
        async with daemon(world) as manager:
            while world.status[record(pod).id] != "running":
                await asyncio.sleep(0.001)

    run(tmp_path, work)


@pytest.mark.parametrize("alone", [True, False])
def test_one_that_has_ended_has_a_helper(tmp_path: Path, alone: bool) -> None:
    """In the pod's machine where others run, else in one of its own."""

    async def work(world: World) -> None:
        async with daemon(world) as manager:
            pod = await started(manager, pod_of(container("a"), *([] if alone else [container("b")])))
            world.end(record(pod).id, 0)
            await pod.book.until(lambda: record(pod).phase == "exited")
            if alone:
                await until_phase(pod, "succeeded")
            async with reached(pod, record(pod)) as helper:
                assert helper != record(pod).id and world.status[helper] == "created"
                assert ("looking", record(pod).id, "own" if alone else "joins") in world.calls
                assert record(pod).id not in world.status, "its disk is not in use"
                starts = world.named("start").count("start a")
                await (pod.ask_start() if alone else pod.ask_container(record(pod), "running"))
                await asyncio.sleep(0.02)
                assert world.named("start").count("start a") == starts, "it is not started meanwhile"
            await pod.book.until(lambda: record(pod).phase == "running")
            assert helper not in world.status and ("forget_look", helper) in world.calls

    run(tmp_path, work)


def test_what_has_no_files_yet(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        async with daemon(world) as manager:
            pod = await manager.create(pod_of(container()))
            with pytest.raises(ConflictError, match="never started"):
                async with reached(pod, record(pod)):
                    pass

    run(tmp_path, work)


def test_a_helper_that_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        async with daemon(world) as manager:
            pod = await started(manager, pod_of(container()))
            await pod.ask_stop(0.0)
            await pod.rested()
            world.faults["create"] = UnavailableError("no memory")
            with pytest.raises(UnavailableError, match="no memory"):
                async with reached(pod, record(pod)):
                    pass
            assert not world.status and not pod.book.looked_at

    run(tmp_path, work)
