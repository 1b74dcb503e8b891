"""events: statistics and out-of-memory kills."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from .harness import Bundle, Runtime

pytestmark = pytest.mark.vm

Json = dict[str, Any]


@pytest.fixture
def limited(bundle: Bundle) -> Bundle:
    bundle.linux["resources"] = {"memory": {"limit": 32 << 20, "swap": 32 << 20}, "pids": {"limit": 50}}
    return bundle.args("sleep", "1000")


def test_statistics_have_runcs_shape(runc: Runtime, runv: Runtime, limited: Bundle) -> None:
    def once(runtime: Runtime) -> Json:
        container = runtime.start(limited)
        event: Json = json.loads(runtime.run("events", "--stats", container.id).ok().stdout)
        container.delete()
        assert event.pop("id") == container.id
        return event

    theirs, ours = once(runc), once(runv)
    assert set(ours) == set(theirs) == {"type", "data"}
    assert set(theirs["data"]) == set(ours["data"])
    for section in ("memory", "pids"):
        wanted, found = theirs["data"][section], ours["data"][section]
        assert set(wanted) - {"cache"} <= set(found) | {"cache"}, section
    assert ours["data"]["memory"]["usage"]["limit"] == theirs["data"]["memory"]["usage"]["limit"] == 32 << 20
    assert ours["data"]["pids"]["limit"] == theirs["data"]["pids"]["limit"] == 50


def test_statistics_say_what_happens(runv: Runtime, limited: Bundle) -> None:
    container = runv.start(limited)

    def data() -> Json:
        event: Json = json.loads(runv.run("events", "--stats", container.id).ok().stdout)
        return dict(event["data"])

    before = data()
    container.exec("sh", "-c", "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); done; head -c 8m /dev/zero >/dev/shm/x").ok()
    after = data()
    assert after["pids"]["current"] == 1
    assert after["cpu"]["usage"]["total"] > before["cpu"]["usage"]["total"] > 0
    assert after["memory"]["usage"]["usage"] > before["memory"]["usage"]["usage"] + (8 << 20) - 1
    assert after["memory"]["raw"]["shmem"] >= 8 << 20
    container.delete()


def test_a_stream_until_the_end(runv: Runtime, limited: Bundle) -> None:
    container = runv.start(limited)
    process = runv.popen("events", "--interval", "300ms", container.id, stdout=subprocess.PIPE)
    assert process.stdout is not None
    kinds = [json.loads(process.stdout.readline())["type"] for _ in range(3)]
    assert kinds == ["stats"] * 3
    assert container.exec("sh", "-c", "exec tail /dev/zero").code == 137
    container.kill("KILL").ok()
    events = [json.loads(line) for line in process.stdout]
    assert process.wait(60) == 0
    assert [event for event in events if event["type"] == "oom"] == [{"type": "oom", "id": container.id}]
    process.stdout.close()
    container.delete()


def test_a_machine_that_dies_ends_the_stream(runv: Runtime, limited: Bundle) -> None:
    container = runv.start(limited)
    process = runv.popen("events", container.id, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline()
    container.delete()
    process.stdout.read()
    process.stdout.close()
    assert process.wait(60) == 0


@pytest.mark.parametrize("flags", [("--interval", "0s"), ("--interval", "abc"), ("--stats",)])
def test_refusals(runc: Runtime, runv: Runtime, limited: Bundle, flags: tuple[str, ...]) -> None:
    def refused(runtime: Runtime) -> int:
        container = runtime.start(limited)
        container.kill("KILL").ok()
        container.wait()
        code = runtime.run("events", *flags, container.id).code
        container.delete()
        return code

    assert refused(runv) == refused(runc) == 1
