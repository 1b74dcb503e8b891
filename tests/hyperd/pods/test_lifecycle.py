"""What becomes of a pod: starts, ends, restarts, removal, and what fails on the way."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from hyperd import spec
from hyperd.api.views import pod_view
from hyperd.errors import ConflictError, HyperError, InvalidError, MissingError, UnavailableError
from hyperd.pods.manager import Manager
from hyperd.pods.pod import Pod
from hyperd.store import ContainerRecord

from .fakes import World, container, daemon, pod_of, run


async def until_phase(pod: Pod, *phases: str) -> None:
    await pod.book.until(lambda: pod.book.pod.phase in phases or pod.book.gone)


def record(pod: Pod, name: str = "a") -> ContainerRecord:
    return next(one for one in pod.book.containers.values() if one.name == name)


async def started(manager: Manager, wanted: spec.Pod) -> Pod:
    pod = await manager.create(wanted)
    await pod.ask_start()
    await pod.started()
    return pod


def test_a_pod_runs_and_finishes(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        async with daemon(world) as manager:
            pod = await started(manager, pod_of(container()))
            assert pod.book.pod.phase == "running"
            assert record(pod).phase == "running" and record(pod).image == "id-of-busybox"
            assert world.status == {pod.book.pod.id: "running", record(pod).id: "running"}
            world.end(record(pod).id, 0)
            await until_phase(pod, "succeeded", "failed")
            assert (pod.book.pod.phase, record(pod).code) == ("succeeded", 0)
            assert not world.status and not world.namespaces

    run(tmp_path, work)


def test_a_status_is_kept(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        world.ends["a"] = [7]
        async with daemon(world) as manager:
            pod = await started(manager, pod_of(container()))
            await until_phase(pod, "failed", "succeeded")
            assert (pod.book.pod.phase, record(pod).code) == ("failed", 7)

    run(tmp_path, work)


def test_init_containers_run_one_after_the_other(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        world.ends |= {"i1": [0], "i2": [0]}
        inits = (container("i1"), container("side", restart="always"), container("i2"))
        async with daemon(world) as manager:
            pod = await started(manager, pod_of(container("a"), container("b"), init_containers=inits))
            assert world.named("start")[1:] == ["start i1", "start side", "start i2", "start a", "start b"]
            for name in ("a", "b"):
                world.end(record(pod, name).id, 0)
            await until_phase(pod, "succeeded", "failed")
            assert pod.book.pod.phase == "succeeded"
            assert record(pod, "side").signal == 15, "a sidecar is stopped when the others are done"

    run(tmp_path, work)


def test_a_failed_init_container_fails_the_pod(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        world.ends["i"] = [3]
        async with daemon(world) as manager:
            with pytest.raises(UnavailableError, match="container i ended with status 3"):
                await started(manager, pod_of(container(), init_containers=(container("i"),)))
            assert "start a" not in world.named("start")
            assert not world.status and not world.namespaces

    run(tmp_path, work)


@pytest.mark.parametrize(
    ("policy", "codes", "starts"), [("never", [1], 1), ("on-failure", [1, 2, 0], 3), ("always", [0, 1, 0], 4)]
)
def test_restart_policies(tmp_path: Path, policy: str, codes: list[int], starts: int) -> None:
    async def work(world: World) -> None:
        world.ends["a"] = list(codes)
        async with daemon(world) as manager:
            pod = await started(manager, pod_of(container(), restart=policy))
            await pod.book.until(lambda: world.named("start").count("start a") == starts)
            end = "running" if policy == "always" else "succeeded" if codes[-1] == 0 else "failed"
            await pod.book.until(lambda: record(pod).restarts == starts - 1 and pod.book.pod.phase == end)
            assert world.named("start").count("start a") == starts

    run(tmp_path, work)


@pytest.mark.parametrize("owner", ["pod", "container"])
def test_retries_are_counted_until_the_user_starts_it_again(tmp_path: Path, owner: str) -> None:
    policy: dict[str, Any] = {"restart": "on-failure", "restart_retries": 2}
    wanted = pod_of(container(), **policy) if owner == "pod" else pod_of(container(**policy))

    async def work(world: World) -> None:
        world.ends["a"] = [1, 2, 3]
        async with daemon(world) as manager:
            pod = await started(manager, wanted)
            await until_phase(pod, "failed", "succeeded")
            assert (record(pod).code, record(pod).restarts) == (3, 2)
            world.ends["a"] = [4, 0]
            await pod.ask_start()
            await pod.book.until(lambda: pod.book.pod.phase == "succeeded")
            assert (record(pod).code, record(pod).restarts) == (0, 1)

    run(tmp_path, work)


def test_a_lost_machine_counts_as_a_retry(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        async with daemon(world) as manager:
            pod = await started(manager, pod_of(container(), restart="on-failure", restart_retries=1))
            world.kill_machine(pod.book.pod.id)
            await pod.book.until(lambda: record(pod).phase == "running" and record(pod).restarts == 1)
            world.kill_machine(pod.book.pod.id)
            await until_phase(pod, "failed")
            assert world.named("start").count("start a") == 2

    run(tmp_path, work)


@pytest.mark.parametrize(("policy", "by_user", "with_daemon"), [
    ("always", "running", "running"),
    ("unless-stopped", "stopped", "running"),
    ("on-failure", "stopped", "stopped"),
    ("never", "stopped", "stopped"),
])  # fmt: skip
def test_what_was_stopped_and_the_next_daemon(tmp_path: Path, policy: str, by_user: str, with_daemon: str) -> None:
    """``by_user``, ``with_daemon``: what the next daemon makes of a pod that its user has stopped, or ``hyperd --stop-pods``."""

    async def work(world: World) -> None:
        async with daemon(world) as manager:
            pod = await started(manager, pod_of(container(), restart=policy))
            created = await manager.create(pod_of(container(), restart=policy, name="created"))
            await pod.ask_stop(0.0)
            await pod.rested()
        async with daemon(world) as manager:
            await manager.find("p").book.until(lambda: manager.find("p").book.pod.phase == by_user)
            assert manager.find("created").book.pod.phase == created.book.pod.phase == "created"
            await manager.find("p").ask_start()
            await manager.find("p").started()
            await manager.stop_all()
        async with daemon(world) as manager:
            await manager.find("p").book.until(lambda: manager.find("p").book.pod.phase == with_daemon)
            assert manager.find("p").book.pod.desired == with_daemon

    run(tmp_path, work)


def test_a_lost_machine_is_made_anew(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        world.ends["i"] = [0, 0]
        async with daemon(world) as manager:
            pod = await started(manager, pod_of(container(), init_containers=(container("i"),), restart="always"))
            world.kill_machine(pod.book.pod.id)
            pod.wake()
            await pod.book.until(lambda: pod.book.pod.boots == 1)
            await until_phase(pod, "running")
            assert world.named("start").count("start i") == 2
            assert record(pod).phase == "running" and world.status[record(pod).id] == "running"

    run(tmp_path, work)


def test_a_lost_machine_ends_a_pod_that_never_restarts(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        async with daemon(world) as manager:
            pod = await started(manager, pod_of(container()))
            world.kill_machine(pod.book.pod.id)
            pod.wake()
            await until_phase(pod, "failed")
            assert record(pod).phase == "exited" and record(pod).code == 255
            assert not world.status and not world.namespaces

    run(tmp_path, work)


@pytest.mark.parametrize("step", ["set_up", "infra", "create", "start", "prepare", "create a", "start a"])
def test_a_step_that_fails_leaves_nothing(tmp_path: Path, step: str) -> None:
    async def work(world: World) -> None:
        world.faults[step] = UnavailableError("it is broken")
        async with daemon(world) as manager:
            with pytest.raises(HyperError, match="it is broken"):
                await started(manager, pod_of(container()))
            pod = manager.find("p")
            assert (pod.book.pod.phase, pod.book.pod.message) == ("failed", "it is broken")
            assert not world.status and not world.namespaces
            world.faults.clear()
            await pod.ask_start()
            await pod.started()
            assert record(pod).phase == "running"

    run(tmp_path, work)


def test_a_program_that_is_missing_says_so(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        world.faults["create a"] = UnavailableError('exec: "nonesuch": executable file not found in $PATH')
        async with daemon(world) as manager:
            with pytest.raises(InvalidError) as caught:
                await started(manager, pod_of(container()))
            assert getattr(caught.value, "exit_code", 0) == 127
            assert record(manager.find("p")).code == 127

    run(tmp_path, work)


def test_stop_asks_first_and_kills_then(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        world.ignores_term.add("b")
        async with daemon(world) as manager:
            pod = await started(manager, pod_of(container("a"), container("b"), restart="always", termination_grace_s=0.1))
            await pod.ask_stop()
            await pod.rested()
            assert (record(pod, "a").signal, record(pod, "b").signal) == (15, 9)
            assert pod.book.pod.phase == "stopped" and not world.status and not world.namespaces

    run(tmp_path, work)


def test_a_start_that_hangs_can_be_stopped(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        async with daemon(world) as manager:
            pod = await manager.create(pod_of(container()))
            world.hold["prepare a"] = asyncio.Event()
            await pod.ask_start()
            while ("prepare", record(pod).id) not in world.calls:
                await asyncio.sleep(0)
            await pod.ask_stop()
            await pod.rested()
            assert pod.book.pod.phase == "stopped" and not world.status and not world.namespaces

    run(tmp_path, work)


def test_a_pod_that_is_over_may_go_before_its_machine(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        async with daemon(world) as manager:
            pod = await started(manager, pod_of(container()))
            world.hold["delete"] = asyncio.Event()
            world.end(record(pod).id, 0)  # told to who is attached, and not noted yet
            await pod.ask_removal(force=False)
            world.hold.pop("delete").set()
            await pod.book.until(lambda: pod.book.gone)
            assert not world.status

    run(tmp_path, work)


def test_removal_undoes_all(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        async with daemon(world) as manager:
            pod = await started(manager, pod_of(container()))
            with pytest.raises(ConflictError, match="pod p is running"):
                await pod.ask_removal(force=False)
            await pod.ask_removal(force=True)
            await pod.book.until(lambda: pod.book.gone)
            assert not world.status and not world.namespaces and not world.files and not world.monitors
            with pytest.raises(MissingError):
                manager.find("p")

    run(tmp_path, work)


def test_one_that_removes_itself(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        world.ends["a"] = [4]
        async with daemon(world) as manager:
            pod = await manager.create(pod_of(container()), auto_remove=True)
            await pod.ask_start()
            await pod.book.until(lambda: pod.book.gone)
            assert record(pod).code == 4
            assert not world.status and not world.files

    run(tmp_path, work)


def test_containers_come_and_go(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        async with daemon(world) as manager:
            pod = await started(manager, pod_of())
            assert pod.book.pod.phase == "running", "a pod without containers waits for some"
            one = await manager.add_container(pod, container("late"))
            await pod.book.until(lambda: record(pod, "late").phase == "running")
            await pod.ask_container(record(pod, "late"), "removed")
            await pod.book.until(lambda: one.id not in pod.book.containers)
            assert world.status == {pod.book.pod.id: "running"} and pod.book.pod.spec.containers == ()

    run(tmp_path, work)


@pytest.mark.parametrize("ran", [False, True])
def test_a_container_goes_from_a_pod_that_does_not_run(tmp_path: Path, ran: bool) -> None:
    async def work(world: World) -> None:
        async with daemon(world) as manager:
            pod = await manager.create(pod_of(container("a"), container("b")))
            if ran:
                await pod.ask_start()
                await pod.started()
                await pod.ask_stop(0.0)
                await pod.rested()
            await pod.ask_container(record(pod, "a"), "removed")
            await pod.book.until(lambda: [one.name for one in pod.book.containers.values()] == ["b"])

    run(tmp_path, work)


def test_one_container_stops_and_starts(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        async with daemon(world) as manager:
            pod = await started(manager, pod_of(container("a"), container("b"), restart="always"))
            await pod.ask_container(record(pod, "a"), "stopped")
            await pod.book.until(lambda: record(pod, "a").phase == "exited")
            assert record(pod, "b").phase == "running" and pod.book.pod.phase == "running"
            await pod.ask_container(record(pod, "a"), "running")
            await pod.book.until(lambda: record(pod, "a").phase == "running")

    run(tmp_path, work)


def test_pause_and_go_on(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        async with daemon(world) as manager:
            pod = await started(manager, pod_of(container()))
            await pod.ask_pause(True)
            assert world.status[pod.book.pod.id] == "paused"
            await pod.ask_pause(False)
            assert world.status[pod.book.pod.id] == "running"
            await pod.ask_pause(True)
            await pod.ask_stop(0.0)
            await pod.rested()
            assert not world.status

    run(tmp_path, work)


def test_a_dead_container_is_started_anew(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        probe = spec.Probe(command=("ok?",), period_s=0.01, failures=2)
        world.exec_codes[("ok?",)] = 1
        async with daemon(world) as manager:
            pod = await started(manager, pod_of(container(liveness_probe=probe), restart="on-failure"))
            await pod.book.until(lambda: record(pod).restarts >= 1 and record(pod).phase == "running")

    run(tmp_path, work)


def test_a_pod_whose_time_is_over(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        async with daemon(world) as manager:
            pod = await started(manager, pod_of(container(), restart="always", active_deadline_s=0.1))
            await until_phase(pod, "failed")
            assert record(pod).signal == 15 and "longer than 0.1 s" in pod.book.pod.message
            assert not world.status and not world.namespaces

    run(tmp_path, work)


def test_a_sidecar_holds_up_the_rest_until_it_has_started(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        probe = spec.Probe(command=("up?",), period_s=0.01, failures=1000)
        world.exec_codes[("up?",)] = 1
        side = container("side", restart="always", startup_probe=probe)
        async with daemon(world) as manager:
            pod = await manager.create(pod_of(container(), init_containers=(side,)))
            await pod.ask_start()
            while world.named("exec").count("exec side") < 3:
                await asyncio.sleep(0.001)
            assert pod.book.pod.phase == "starting"
            await pod.started(patience_s=0.01)
            assert pod.book.pod.phase == "starting", "who does not want to wait for sidecars need not"
            assert pod_view(pod).reason.startswith("it waits for sidecar side: up? ended with status 1")
            world.exec_codes.clear()
            await pod.started()
            assert record(pod).phase == "running" and not pod_view(pod).reason

    run(tmp_path, work)


def test_a_removal_waits_for_a_stop_that_is_under_way(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        async with daemon(world) as manager:
            pod = await started(manager, pod_of(container(), termination_grace_s=5.0))
            world.hold["delete"] = asyncio.Event()
            await pod.ask_stop(0.0)
            await until_phase(pod, "stopping")
            removal = asyncio.create_task(pod.ask_removal(force=False))
            await asyncio.sleep(0.01)
            assert not removal.done() or removal.exception() is None
            world.hold.pop("delete").set()
            await removal
            await pod.book.until(lambda: pod.book.gone)

    run(tmp_path, work)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (pod_of(name="a b"), "name: 'a b' is not a name"),
        (pod_of(container("x"), container("x")), "the container"),
        (pod_of(container(image="")), "not the name of an image"),
        (pod_of(container(mounts=(spec.Mount(volume="v", path="/v"),))), "there is no volume"),
    ],
)
def test_bad_pods_are_refused(tmp_path: Path, wanted: spec.Pod, message: str) -> None:
    async def work(world: World) -> None:
        async with daemon(world) as manager:
            with pytest.raises(InvalidError, match=message):
                await manager.create(wanted)
            assert not manager.all() and not world.calls

    run(tmp_path, work)


def test_names_ids_and_prefixes(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        async with daemon(world) as manager:
            pod = await manager.create(pod_of(container("a"), container("b")))
            one = await manager.create(pod_of(container("a"), name="q"))
            assert manager.find(pod.book.pod.id[:8]) is pod and manager.find("q") is one
            assert manager.find_container("p/b")[1].name == "b" and manager.find_container("b")[0] is pod
            assert manager.find_container("q")[1].pod == one.book.pod.id
            with pytest.raises(ConflictError, match="ambiguous"):
                manager.find_container("a")
            for name in ("nonesuch", "", "p/c"):
                with pytest.raises(MissingError):
                    manager.find_container(name)

    run(tmp_path, work)
