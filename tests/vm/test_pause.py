"""pause and resume, beside runc and for whole machines."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

import pytest

from .harness import DEADLINE_S, Bundle, Created, Done, Runtime, wait_until

pytestmark = pytest.mark.vm

COUNTS = "trap 'exit 7' TERM; i=0; while :; do i=$((i+1)); echo $i >/tmp/count; sleep 0.02; done"


def refused(done: Done) -> tuple[int, str]:
    return done.code, done.err.partition('msg="')[2].rstrip('"\n').removeprefix("exec failed: ")


def count(bundle: Bundle) -> str:
    path = bundle.rootfs / "tmp/count"
    return path.read_text() if path.exists() else ""


def stands_still(bundle: Bundle) -> bool:
    before = count(bundle)
    time.sleep(0.2)
    return count(bundle) == before


def begun(runtime: Runtime, bundle: Bundle) -> Created:
    (bundle.rootfs / "tmp/count").unlink(missing_ok=True)
    container = runtime.start(bundle)
    wait_until(lambda: count(bundle) != "", "the first count")
    return container


@pytest.fixture
def counting(bundle: Bundle) -> Bundle:
    return bundle.script(COUNTS)


def test_as_runc_does(runc: Runtime, runv: Runtime, counting: Bundle) -> None:
    def life(runtime: Runtime) -> list[object]:
        container = begun(runtime, counting)
        facts: list[object] = [refused(runtime.run("resume", container.id))]
        facts.append(refused(runtime.run("pause", container.id)))
        facts += [stands_still(counting), container.status(), runtime.run("list").lines[1].split()[2]]
        for command in (
            ["pause", container.id],
            ["exec", container.id, "true"],
            ["start", container.id],
            ["delete", container.id],
        ):
            facts.append(refused(runtime.run(*command)))
        facts.append(refused(container.kill("TERM")))
        facts.append(container.status())
        facts.append(refused(runtime.run("resume", container.id)))
        facts.append(container.wait())
        facts.append(refused(runtime.run("pause", container.id)))
        facts.append(refused(runtime.run("resume", container.id)))
        container.delete()
        return [str(fact).replace(container.id, "ID").replace("runv", "runc") for fact in facts]

    theirs, ours = life(runc), life(runv)
    assert ours == theirs
    assert "paused" in ours


@pytest.mark.parametrize("end", ["kill", "delete"])
def test_a_paused_container_ends_as_from_runc(runc: Runtime, runv: Runtime, counting: Bundle, end: str) -> None:
    def ended(runtime: Runtime) -> int:
        container = begun(runtime, counting)
        runtime.run("pause", container.id).ok()
        if end == "kill":
            container.kill("KILL").ok()
        else:
            container.delete()
        code = container.wait()
        container.delete()
        return code

    assert ended(runv) == ended(runc)


def test_a_created_container(runc: Runtime, runv: Runtime, counting: Bundle) -> None:
    def statuses(runtime: Runtime) -> list[str]:
        container = runtime.create(counting)
        found = []
        for command in ("pause", "resume", "start"):
            runtime.run(command, container.id).ok()
            found.append(container.status())
        container.delete()
        return found

    assert statuses(runv) == statuses(runc) == ["paused", "created", "running"]


def test_a_pause_that_was_cut_short(runv: Runtime, counting: Bundle) -> None:
    # What is written down first is found by who comes after, whether the guest was told or not.
    container = begun(runv, counting)
    (runv.root / container.id / "paused").touch()
    assert container.status() == "paused"
    runv.run("resume", container.id).ok()
    assert container.status() == "running"
    (runv.root / container.id / "paused").touch()
    container.kill("KILL").ok()
    assert container.wait() == -9
    runv.run("delete", container.id).ok()


def test_an_exec_that_ignores_it_waits(runv: Runtime, counting: Bundle) -> None:
    container = begun(runv, counting)
    runv.run("pause", container.id).ok()
    waiting = runv.popen("exec", "--ignore-paused", container.id, "echo", "hi", stdout=subprocess.PIPE)
    time.sleep(0.5)
    assert waiting.poll() is None
    runv.run("resume", container.id).ok()
    assert waiting.communicate(timeout=DEADLINE_S)[0] == b"hi\n"
    container.delete()


@pytest.fixture
def pod(runv: Runtime, counting: Bundle, make_bundle: Callable[[], Bundle]) -> tuple[Created, Created]:
    """One that counts, and a second one in its machine."""
    first = begun(runv, counting)
    bundle = make_bundle().args("sleep", "1000")
    for namespace in bundle.linux["namespaces"]:
        if namespace["type"] == "network":
            namespace["path"] = f"/proc/{first.pid}/ns/net"
    return first, runv.start(bundle.save())


def test_a_whole_machine(runv: Runtime, counting: Bundle, pod: tuple[Created, Created]) -> None:
    first, second = pod
    runv.run("pause", "--vm", second.id).ok()
    assert stands_still(counting)
    assert (first.status(), second.status()) == ("paused", "paused")
    assert "machine is paused" in runv.run("ps", first.id).err
    assert "machine is paused" in first.kill("TERM").err
    assert "container not running" in runv.run("pause", first.id).err
    runv.run("resume", "--vm", first.id).ok()
    assert (first.status(), second.status()) == ("running", "running")
    before = count(counting)
    wait_until(lambda: count(counting) != before, "the next count")
    clock = float(second.exec("date", "+%s").ok().out)
    assert abs(clock - time.time()) < 5
    assert "container not paused" in runv.run("resume", "--vm", first.id).err
    second.delete()
    first.delete()


def test_a_container_paused_by_itself_stays_so(runv: Runtime, counting: Bundle, pod: tuple[Created, Created]) -> None:
    first, second = pod
    runv.run("pause", first.id).ok()
    assert (first.status(), second.status()) == ("paused", "running")
    runv.run("pause", "--vm", second.id).ok()
    runv.run("resume", "--vm", second.id).ok()
    assert (first.status(), second.status()) == ("paused", "running")
    assert stands_still(counting)
    runv.run("resume", first.id).ok()
    assert first.status() == "running"
    second.delete()
    first.delete()


def test_the_end_of_one_in_a_machine_that_stands_still(runv: Runtime, pod: tuple[Created, Created]) -> None:
    first, second = pod
    runv.run("pause", "--vm", first.id).ok()
    first.kill("KILL").ok()
    assert first.wait() == -9
    runv.run("pause", "--vm", second.id).ok()
    first.delete()
    assert second.exec("echo", "alive").ok().out == "alive\n"
    runv.run("pause", "--vm", second.id).ok()
    second.delete()
