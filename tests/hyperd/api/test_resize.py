"""The size of a pod that runs: what is called, in which order, and that a refusal leaves all as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hyperd.pods.runv import RunvFailure

from .harness import POD, Site, serve

TWO: dict[str, Any] = POD | {"containers": [{"name": "a", "image": "busybox"}, {"name": "b", "image": "busybox", "resources": {"memory": 64 << 20, "cpus": 1.0}}]}


def updates(site: Site) -> list[tuple[str, ...]]:
    """What runv was told to change, containers by name."""
    return [tuple(site.world.names.get(word, word) for word in words[1:]) for words in site.world.calls if words[0] == "update"]


async def spec_of(site: Site) -> dict[str, Any]:
    found: dict[str, Any] = (await site.ask("GET", "/pods/p")).json["spec"]
    return found


def test_machine_and_limits(tmp_path: Path) -> None:
    async def work(site: Site) -> None:
        identity = (await site.run(TWO)).json["id"]
        asked = {"machine": {"vcpus": 2, "memory_mib": 512}, "resources": {"memory": 128, "cpu": 0.5}}
        assert (await site.ask("PATCH", "/pods/p", asked)).status == 200
        assert updates(site) == [("--vm", "--vcpus=2", "--memory=512M", identity), ("--resources", "-", "a"), ("--resources", "-", "b")]
        spec = await spec_of(site)
        assert (spec["vcpus"], spec["memory_mib"]) == (2, 512)
        assert [(one["resources"]["memory"], one["resources"]["cpus"]) for one in spec["containers"]] == [(128 << 20, 0.5)] * 2
        site.world.calls.clear()
        assert (await site.ask("PATCH", "/pods/p", {"resources": {"memory": 256}, "container": "b"})).status == 200
        assert updates(site) == [("--resources", "-", "b")]
        assert [one["resources"]["memory"] >> 20 for one in (await spec_of(site))["containers"]] == [128, 256]

    serve(tmp_path, work)


def test_a_refusal_leaves_all_as_it_was(tmp_path: Path) -> None:
    async def work(site: Site) -> None:
        identity = (await site.run(TWO)).json["id"]
        before = await spec_of(site)
        site.world.hold.clear()
        calls = 0
        real = site.services.tools.runtime.call

        async def refuse_the_third(*arguments: str, **rest: Any) -> str:
            nonlocal calls
            answer = await real(*arguments, **rest)
            calls += arguments[0] == "update"
            if arguments[0] == "update" and calls == 3:
                raise RunvFailure("cannot set a memory limit of 900 MiB: the machine can grow to 800 MiB", code=1)
            return answer

        site.services.tools.runtime.call = refuse_the_third  # type: ignore[method-assign]
        refused = await site.ask("PATCH", "/pods/p", {"machine": {"vcpus": 2}, "resources": {"memory": 900}, "labels": {"k": "v"}})
        assert refused.status == 409 and "can grow to 800 MiB" in refused.json["error"]["message"]
        undone = updates(site)[3:]
        assert undone == [("--resources", "-", "a"), ("--vm", "--vcpus=1", "--memory=256M", identity)]
        assert await spec_of(site) == before

    serve(tmp_path, work)


def test_of_a_pod_that_does_not_run(tmp_path: Path) -> None:
    async def work(site: Site) -> None:
        await site.ask("POST", "/pods", {"spec": TWO})
        assert (await site.ask("PATCH", "/pods/p", {"machine": {"memory_mib": 512}})).status == 200
        assert updates(site) == [] and (await spec_of(site))["memory_mib"] == 512

    serve(tmp_path, work)


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        ({"machine": {"vcpus": 0}}, 400, "machine.vcpus"),
        ({"machine": {"memory_mib": 10}}, 400, "machine.memory_mib"),
        ({"machine": {"memory": 512}}, 400, "memory"),
        ({"resources": {"memory": 1}}, 400, "resources.memory"),
        ({"container": "a"}, 400, "container"),
        ({"container": "none", "resources": {"cpu": 1}}, 404, "none"),
    ],
)
def test_bad_wishes(tmp_path: Path, body: dict[str, Any], status: int, word: str) -> None:
    async def work(site: Site) -> None:
        await site.run(TWO)
        answer = await site.ask("PATCH", "/pods/p", body)
        assert answer.status == status and word in answer.json["error"]["message"]
        assert updates(site) == []

    serve(tmp_path, work)
