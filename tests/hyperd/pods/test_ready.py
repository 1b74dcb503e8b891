"""Machines that wait for pods: who gets one, and what becomes of those that nobody took."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from hyperd import spec
from hyperd.config import Config
from hyperd.errors import ConflictError, HyperError, UnavailableError
from hyperd.pods import ready
from hyperd.pods.manager import Manager

from .fakes import World, config, container, daemon, pod_of, run


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ready, "_QUIET_S", 0.01)


class Once(dict[str, HyperError]):
    """Faults that happen once."""

    def __getitem__(self, key: str) -> HyperError:
        return self.pop(key)


def settings(folder: Path, count: int = 1) -> Config:
    return msgspec.structs.replace(config(folder), ready_machines=count)


async def waiting(world: World, count: int = 1) -> list[str]:
    while True:
        found = [one for one, status in world.status.items() if status == "created" and not one.endswith("-warm")]
        if len(found) == count and len(world.status) == count:
            return found
        await asyncio.sleep(0.005)


async def running(manager: Manager, wanted: spec.Pod) -> str:
    pod = await manager.create(wanted)
    await pod.ask_start()
    await pod.started()
    assert pod.book.pod.phase == "running"
    return pod.book.pod.id


def test_a_pod_takes_one_and_another_is_made(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        async with daemon(world, settings(tmp_path)) as manager:
            (first,) = await waiting(world)
            made = len([call for call in world.calls if call[0] == "create"])
            assert await running(manager, pod_of(container())) == first
            assert world.status[first] == "running"
            while made == len([call for call in world.calls if call[:1] == ("create",) and call[1] != first]):
                await asyncio.sleep(0.005)
        assert first in world.status

    run(tmp_path, work)


@pytest.mark.parametrize(
    "special",
    [
        {"vcpus": 2}, {"memory_mib": 512}, {"share_pids": True}, {"sysctls": {"net.core.somaxconn": "10"}},
        {"containers": (container(resources=spec.Resources(memory=1 << 28)),)},
    ],
)  # fmt: skip
def test_a_pod_of_another_shape_has_its_own(tmp_path: Path, special: dict[str, object]) -> None:
    async def work(world: World) -> None:
        async with daemon(world, settings(tmp_path)) as manager:
            (first,) = await waiting(world)
            assert await running(manager, pod_of(**({"containers": (container(),)} | special))) != first  # type: ignore[arg-type]
            assert world.status[first] == "created"

    run(tmp_path, work)


def test_one_that_does_not_start_is_replaced_at_once(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        async with daemon(world, settings(tmp_path)) as manager:
            (first,) = await waiting(world)
            world.faults = Once({f"start {first}": UnavailableError("the machine is gone")})
            pod = await manager.create(pod_of(container()))
            await pod.ask_start()
            await pod.started()
            assert ("delete", first) in world.calls and not world.faults
            assert (pod.book.pod.id, pod.book.pod.phase) == (first, "running")

    run(tmp_path, work)


def test_one_that_died_is_not_given_away(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        async with daemon(world, settings(tmp_path)) as manager:
            (first,) = await waiting(world)
            world.status[first] = "stopped"
            assert await running(manager, pod_of(container())) != first

    run(tmp_path, work)


def test_a_name_that_is_taken_takes_none(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        async with daemon(world, settings(tmp_path, 2)) as manager:
            both = await waiting(world, 2)
            await running(manager, pod_of(container()))
            with pytest.raises(ConflictError):
                await manager.create(pod_of(container()))
            assert sorted(world.status[one] for one in both) == ["created", "running"]

    run(tmp_path, work)


def test_nothing_is_left_of_those_that_waited(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        async with daemon(world, settings(tmp_path, 2)):
            await waiting(world, 2)
        assert not world.status and not world.namespaces and not world.files

    run(tmp_path, work)


@pytest.mark.parametrize("fault", ["", "factory", "exec", "start"])
def test_the_first_one_records_what_it_translates_for_those_that_follow(tmp_path: Path, fault: str) -> None:
    async def work(world: World) -> None:
        world.lacks_translations = True
        world.faults = Once({fault: UnavailableError("not today")} if fault else {})
        async with daemon(world, settings(tmp_path, 2)):
            both = await waiting(world, 2)
        [recorded] = {call[1] for call in world.calls if call[0] == "create" and not call[1].endswith("-warm")} - {*both}
        # A pod's ways: it is started, and its container runs and is looked into.
        made = [call for call in world.calls if call[:2] in (("start", recorded), ("create", f"{recorded}-warm"), ("exec", f"{recorded}-warm"), ("factory", "keep"))]
        ways = [("start", recorded), ("create", f"{recorded}-warm"), ("exec", f"{recorded}-warm", "/program"), ("factory", "keep", recorded)]
        assert made == ways[: {"": 4, "factory": 4, "exec": 3, "start": 1}[fault]] and world.lacks_translations is bool(fault)
        assert not world.status and not world.namespaces and not world.files and not world.faults

    run(tmp_path, work)


def test_a_recording_that_is_cut_off_leaves_nothing(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        world.lacks_translations = True
        world.hold["factory"] = asyncio.Event()
        async with daemon(world, settings(tmp_path)) as manager:
            while not any(call[0] == "factory" for call in world.calls):
                await asyncio.sleep(0.005)
            [recording] = world.recording
            assert await running(manager, pod_of(container())) != recording
        assert recording not in world.status and recording not in world.namespaces and recording not in world.files

    run(tmp_path, work)


def test_those_of_a_daemon_that_was_killed_are_removed(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        world.status |= {"0123456789abcdef": "created", "0123456789abcdef-warm": "running"}
        async with daemon(world, settings(tmp_path, 0)):
            assert not world.status

    run(tmp_path, work)
