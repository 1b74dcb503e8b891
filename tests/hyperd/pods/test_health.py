"""Docker's health checks: what is run, when, and what becomes of the answers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from hyperd import spec
from hyperd.api.views import container_state, container_view, pod_view
from hyperd.errors import InvalidError
from hyperd.images.documents import Healthcheck
from hyperd.pods.health import Check, Result, State, after, check_of, pause_s
from hyperd.pods.pod import Pod

from .fakes import World, container, daemon, pod_of, run
from .test_lifecycle import record, started

SECOND = 10**9
CHECK = Check(("ok?",), retries=2)


def answered(code: int, at: float = 1000.0) -> Result:
    return Result(at, at + 0.1, code, "")


def states(check: Check, *codes: int, at: float = 1000.0) -> list[str]:
    found: list[str] = []
    state = State()
    for code in codes:
        state = after(state, check, answered(code, at), running_since=1000.0)
        found.append(state.status)
    return found


def test_what_is_not_said_is_the_images_and_then_dockers() -> None:
    image = Healthcheck(["CMD", "curl", "-f", "http://localhost"], interval=5 * SECOND, retries=7)
    assert check_of(spec.Healthcheck(), image) == Check(("curl", "-f", "http://localhost"), 5.0, 30.0, 0.0, 5.0, 7)
    asked = spec.Healthcheck(test=("CMD-SHELL", "true || false"), retries=1, timeout_s=0.5)
    assert check_of(asked, image) == Check(("/bin/sh", "-c", "true || false"), 5.0, 0.5, 0.0, 5.0, 1)
    assert check_of(asked, None, ("/bin/bash", "-ec")) == Check(("/bin/bash", "-ec", "true || false"), 30.0, 0.5, 0.0, 5.0, 1)


@pytest.mark.parametrize("test", [None, [], ["NONE"], ["CMD"], ["CMD-SHELL"], ["true"]])
def test_images_without_a_check(test: list[str] | None) -> None:
    assert check_of(spec.Healthcheck(), Healthcheck(test)) is None
    assert check_of(spec.Healthcheck(test=("NONE",)), Healthcheck(["CMD", "true"])) is None


def test_what_answers_come_to() -> None:
    assert states(CHECK, 0, 1, 1, 0) == ["healthy", "healthy", "unhealthy", "healthy"]
    assert states(CHECK, 1, 1, 1) == ["starting", "unhealthy", "unhealthy"]
    state = State()
    for code in range(9):
        state = after(state, CHECK, answered(code), 0.0)
    assert [one.code for one in state.log] == [4, 5, 6, 7, 8] and state.failing == 8


def test_failures_at_the_start_do_not_count() -> None:
    patient = CHECK._replace(start_period_s=60.0)
    assert states(patient, 1, 1, 1) == ["starting"] * 3
    assert states(patient, 1, 0, 1, 1) == ["starting", "healthy", "healthy", "unhealthy"], "once it was well they do"
    assert states(patient, 1, 1, at=1060.0) == ["starting", "unhealthy"]
    assert pause_s(State(), patient, 1.0) == 5.0
    assert pause_s(State(), patient, 61.0) == pause_s(State("healthy"), patient, 1.0) == pause_s(State(), CHECK, 0.0) == 30.0


QUICK = spec.Healthcheck(interval_s=0.005, retries=2)


def status(pod: Pod) -> str:
    return pod_view(pod).containers[0].health


async def until_status(pod: Pod, wanted: str) -> None:
    await pod.book.until(lambda: status(pod) == wanted)


def test_a_container_is_well_and_not(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        world.health["a"] = Healthcheck(["CMD", "ok?"])
        async with daemon(world) as manager:
            pod = await started(manager, pod_of(container(healthcheck=QUICK)))
            await until_status(pod, "healthy")
            world.exec_codes[("ok?",)] = 3
            await until_status(pod, "unhealthy")
            view = container_view(pod, record(pod)).health
            assert view is not None and (view.status, view.log[-1].exit_code) == ("unhealthy", 3)
            assert view.alive and container_state(pod, record(pod)) == "running", "Docker lets it run on"
            world.exec_codes.clear()
            await until_status(pod, "healthy")
            events = await manager.tools.store.events(0.0, 1e12)
            told = [one.attributes["status"] for one in events if one.action == "health"]
            assert told == ["healthy", "unhealthy", "healthy"]

    run(tmp_path, work)


def test_kubernetes_pods_have_probes_alone(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        world.health["a"] = Healthcheck(["CMD", "ok?"], interval=1)
        async with daemon(world) as manager:
            pod = await started(manager, pod_of(container()))
            await asyncio.sleep(0.02)
            assert status(pod) == "" and "exec" not in {call[0] for call in world.calls}

    run(tmp_path, work)


def test_what_is_paused_is_not_asked(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        probe = spec.Probe(command=("alive?",), period_s=0.002, failures=1)
        async with daemon(world) as manager:
            pod = await started(manager, pod_of(container(healthcheck=msgspec.structs.replace(QUICK, test=("CMD", "ok?")), liveness_probe=probe)))
            await until_status(pod, "healthy")
            await pod.ask_pause(True)
            world.exec_codes |= {("ok?",): 1, ("alive?",): 1}
            asked = len(world.named("exec"))
            await asyncio.sleep(0.05)
            assert len(world.named("exec")) <= asked + 2 and status(pod) == "healthy"
            world.exec_codes.clear()
            await pod.ask_pause(False)
            while len(world.named("exec")) < asked + 6:
                await asyncio.sleep(0.001)
            assert record(pod).restarts == 0 and record(pod).phase == "running"

    run(tmp_path, work)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"test": ("ls",)}, "none of CMD, CMD-SHELL, NONE"),
        ({"test": ("CMD",)}, "CMD takes a program"),
        ({"test": ("CMD-SHELL", "a", "b")}, "CMD-SHELL takes one line"),
        ({"test": ("NONE", "a")}, "NONE takes nothing"),
        ({"interval_s": -1.0}, "interval_s"),
        ({"timeout_s": 0.0001}, "less than a millisecond"),
        ({"retries": -1}, "retries"),
    ],
)
def test_bad_checks_are_refused(tmp_path: Path, fields: dict[str, object], message: str) -> None:
    async def work(world: World) -> None:
        async with daemon(world) as manager:
            with pytest.raises(InvalidError, match=message):
                await manager.create(pod_of(container(healthcheck=msgspec.structs.replace(spec.Healthcheck(), **fields))))

    run(tmp_path, work)
