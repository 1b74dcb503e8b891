"""Requests and answers: what is asked right is done, what is wrong is said in one form, and nothing is left open."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hyperd.api.streams import error_document
from hyperd.config import Api
from hyperd.errors import UnavailableError

from .harness import POD, Site, serve


def test_a_pod_from_the_cradle_to_the_grave(tmp_path: Path) -> None:
    async def work(site: Site) -> None:
        made = await site.ask("POST", "/pods", {"spec": POD | {"labels": {"k": "v"}}})
        assert made.status == 201 and made.json["name"] == "p"
        assert (await site.ask("GET", "/pods")).json == []
        [listed] = (await site.ask("GET", "/pods?all=1&label=k=v")).json
        assert (listed["state"], listed["containers"][0]["state"]) == ("created", "created")
        started = await site.ask("POST", "/pods/p/start")
        assert started.json["state"] == "running" and started.json["addresses"] == ["10.0.0.2"]
        shown = (await site.ask("GET", "/containers/p%2Fa")).json
        assert (shown["state"], shown["pod"], shown["exit_code"]) == ("running", "p", None)
        assert (await site.ask("POST", "/pods/p/pause")).json["state"] == "paused"
        assert (await site.ask("POST", "/pods/p/unpause")).json["state"] == "running"
        stopped = await site.ask("POST", "/pods/p/stop?timeout=0.1")
        assert stopped.json["state"] == "stopped"
        assert (await site.ask("GET", "/containers/a/wait")).json == {"code": 143, "signal": 15, "oom": False}
        assert (await site.ask("DELETE", "/pods/p")).status == 204
        assert (await site.ask("GET", "/pods/p")).status == 404
        assert not site.world.status and not site.world.files

    serve(tmp_path, work)


def test_what_is_not_there_is_told_with_the_next_step(tmp_path: Path) -> None:
    async def work(site: Site) -> None:
        for path in ("/pods/x", "/containers/x", "/containers/p%2Fx", "/volumes/x", "/images/x"):
            answer = await site.ask("GET", path)
            assert answer.status == 404 and "hyperctl " in answer.json["error"]["hint"], path
        for path in ("/pods/p/top", "/pods/p/stats", "/pods/p/pause"):
            await site.ask("POST", "/pods", {"spec": POD})
            answer = await site.ask("GET" if "pause" not in path else "POST", path)
            assert answer.status == 409 and answer.json["error"]["hint"] == "start it first", path
        for size, hint in (({"vcpus": 250}, "it has "), ({"memory_mib": 1 << 23}, "MiB")):
            answer = await site.ask("POST", "/pods", {"spec": POD | {"name": "q"} | size})
            assert answer.status == 400 and hint in answer.json["error"]["hint"]

    serve(tmp_path, work)


def test_a_full_disk_is_told_with_what_makes_room() -> None:
    full = UnavailableError("cannot write /x: No space left on device")
    assert "hyperctl prune" in error_document(full)["hint"]
    assert error_document(UnavailableError("cannot write /x: Input/output error"))["hint"] == ""


def test_pods_of_files(tmp_path: Path) -> None:
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web"},
        "spec": {"containers": [{"name": "c", "image": "busybox"}]},
    }

    async def work(site: Site) -> None:
        made = await site.ask("POST", "/pods?start=1", {"documents": [manifest]})
        assert made.status == 201 and [pod["name"] for pod in made.json["pods"]] == ["web"]
        assert (await site.ask("GET", "/pods/web")).json["spec"]["containers"][0]["name"] == "c"
        again = await site.ask("POST", "/pods", {"documents": [json.dumps(manifest)]})
        assert again.status == 409

    serve(tmp_path, work)


def test_logs_follow_until_the_end(tmp_path: Path) -> None:
    async def work(site: Site) -> None:
        await site.run()
        assert [line["text"] for line in (await site.ask("GET", "/containers/a/logs")).lines] == ["one\n", "two\n"]
        following = asyncio.create_task(site.ask("GET", "/containers/a/logs?follow=1"))
        await asyncio.sleep(0.05)
        assert not following.done()
        site.world.end(next(iter(site.services.manager.find("p").book.containers)), 0)
        assert len((await following).lines) == 2

    serve(tmp_path, work)


def test_events_from_the_past_and_to_come(tmp_path: Path) -> None:
    async def work(site: Site) -> None:
        await site.run()
        following = asyncio.create_task(site.ask("GET", "/events?follow=1&since=1h&until=1&filter=type=pod"))
        await site.ask("DELETE", "/pods/p?force=1")
        past = (await site.ask("GET", "/events?filter=type=pod&filter=name=p")).lines
        assert [event["action"] for event in past] == ["create", "boot", "start", "remove"]
        await following

    serve(tmp_path, work)


def test_a_start_that_fails_leaves_no_pod(tmp_path: Path) -> None:
    from hyperd.errors import UnavailableError

    async def work(site: Site) -> None:
        site.world.faults["create a"] = UnavailableError('exec: "x": executable file not found in $PATH')
        answer = await site.run()
        assert answer.status == 400 and answer.json["error"]["exit_code"] == 127
        while (await site.ask("GET", "/pods?all=1")).json:
            await asyncio.sleep(0.01)
        assert not site.world.status

    serve(tmp_path, work)


BAD: list[tuple[str, str, Any, int]] = [
    ("GET", "/nonesuch", None, 404),
    ("GET", "/pods/nonesuch", None, 404),
    ("PUT", "/pods", None, 405),
    ("GET", "/pods?al=1", None, 400),
    ("GET", "/pods?all=maybe", None, 400),
    ("GET", "/pods?all=1&all=0", None, 400),
    ("POST", "/pods", None, 400),
    ("POST", "/pods", b"{", 400),
    ("POST", "/pods", b"\xff\xfe", 400),
    ("POST", "/pods", b"[" * 100000, 400),
    ("POST", "/pods", {"spec": {"name": "x", "containers": [{"name": "a"}]}}, 400),
    ("POST", "/pods", {"spec": {"name": "../x"}}, 400),
    ("POST", "/pods", {"spec": {"name": "x", "nonesuch": 1}}, 400),
    ("POST", "/pods", {"spec": {"name": "x"}, "documents": []}, 400),
    ("POST", "/pods", {"documents": []}, 400),
    ("POST", "/pods", {"documents": ["%YAML 9\n--- !!python/object:os.system x"]}, 400),
    ("POST", "/pods/p/kill?signal=NONE", None, 400),
    ("POST", "/pods/p/stop?timeout=-1", None, 400),
    ("POST", "/pods/p/stop?timeout=nan", None, 400),
    ("POST", "/pods/p/unpause", None, 409),
    ("POST", "/pods/p/containers", {"container": {"name": "a", "image": "b"}}, 409),
    ("PATCH", "/pods/p", {"labels": {"a": 1}}, 400),
    ("PATCH", "/pods/p", {"resources": {"cpu": -1}}, 400),
    ("GET", "/containers/a/logs?since=yesterday", None, 400),
    ("GET", "/containers/a/logs?since=" + "9" * 400, None, 400),
    ("GET", "/containers/a/attach", None, 400),
    ("POST", "/containers/a/exec", {"args": []}, 400),
    ("POST", "/containers/a/exec", {"args": ["a\0b"]}, 400),
    ("POST", "/containers/a/exec", {"args": ["sh"]}, 409),
    ("POST", "/containers/a/rename", {"name": "a/b"}, 400),
    ("GET", "/containers/p%2Fnone", None, 404),
    ("GET", "/pods/%00", None, 400),
    ("GET", "/execs/none", None, 404),
    ("GET", "/events?filter=x", None, 400),
    ("GET", "/images/nonesuch", None, 404),
    ("GET", "/images/UPPER%20CASE", None, 404),
    ("POST", "/images/load", b"this is no archive", 200),
    ("POST", "/images/tag", {"source": "a", "target": "b:c:d"}, 400),
    ("GET", "/networks/x", None, 409),
]


def test_bad_requests_are_told_so(tmp_path: Path) -> None:
    async def work(site: Site) -> None:
        await site.ask("POST", "/pods", {"spec": POD})
        site.services.manager.find("p")
        site.world.end("", 0)
        for method, path, body, status in BAD:
            answer = await site.ask(method, path, body)
            assert answer.status == status, f"{method} {path}: {answer}"
            error = answer.lines[-1]["error"] if status == 200 else answer.json["error"]
            assert error["kind"] and error["message"] and "Traceback" not in answer.text
        assert (await site.ask("GET", "/pods?all=1")).json[0]["state"] == "created"
        assert site.services.streams == 0

    serve(tmp_path, work)


def test_a_body_that_is_too_large(tmp_path: Path) -> None:
    async def work(site: Site) -> None:
        answer = await site.ask("POST", "/pods", b'{"spec": "' + b"x" * (2 << 20) + b'"}')
        assert (answer.status, answer.json["error"]["kind"]) == (413, "invalid")

    serve(tmp_path, work, Api(max_body_mib=1))


def test_too_many_streams(tmp_path: Path) -> None:
    async def work(site: Site) -> None:
        await site.run()
        first = asyncio.create_task(site.ask("GET", "/containers/a/logs?follow=1"))
        while site.services.streams == 0:
            await asyncio.sleep(0.01)
        assert (await site.ask("GET", "/containers/a/logs")).status == 503
        first.cancel()
        while site.services.streams:
            await asyncio.sleep(0.01)
        assert (await site.ask("GET", "/containers/a/logs")).status == 200

    serve(tmp_path, work, Api(max_streams=1))


@pytest.mark.parametrize("count", [400, pytest.param(10000, marks=pytest.mark.soak)])
def test_random_requests_make_no_mistakes_of_ours(tmp_path: Path, count: int) -> None:
    """The same each time: what a failure shows can be looked at again."""
    dice = random.Random(5)
    words = ["p", "a", "", "%00", "..", "p%2Fa", "\u00fc", "x" * 300, "1", "-1", "nan", "true", "{}", "[]", "null", "1e400"]
    values: list[Any] = [None, 0, -1, 1e308, "", "a\0b", [], {}, [[]], {"name": "p"}, {"spec": None}, True, "x" * 1000, 2**80]

    def body() -> Any:
        if dice.random() < 0.2:
            return dice.randbytes(dice.randrange(50))
        names = ["spec", "documents", "labels", "resources", "args", "env", "container", "name", "ports", "rows", "columns"]
        return {dice.choice(names): dice.choice(values) for _ in range(dice.randrange(4))}

    async def work(site: Site) -> None:
        from hyperd.api.server import ROUTES

        await site.ask("POST", "/pods", {"spec": POD})
        for _ in range(count):
            route = dice.choice([one for one in ROUTES if not one.path.endswith("/wait")])
            path = "/".join(dice.choice(words) if part.startswith("{") else part for part in route.path.split("/"))
            query = "&".join(f"{dice.choice(['all', 'follow', 'signal', 'tail', 'x'])}={dice.choice(words)}" for _ in range(dice.randrange(3)))
            method = route.method if dice.random() < 0.9 else dice.choice(["GET", "POST", "DELETE", "TRACE"])
            if route.method == "POST" and route.path.endswith("start"):
                continue
            try:
                answer = await asyncio.wait_for(site.ask(method, f"{path}?{query}", body()), 5)
            except (TimeoutError, aiohttp.ClientError, ValueError):
                assert "follow" in query or "events" in path, path
                continue
            assert answer.status < 500 or answer.status == 503, f"{method} {path}?{query}: {answer}"

    serve(tmp_path, work, wait_s=600)


def test_the_description_is_what_is_served(tmp_path: Path) -> None:
    async def work(site: Site) -> None:
        from hyperd.api.server import ROUTES

        document = (await site.ask("GET", "/openapi.json")).json
        described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
        assert len(described) == len(ROUTES)
        assert described == _served(site)
        references = set(_references(document))
        assert references <= {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}

    serve(tmp_path, work)


def _served(site: Site) -> set[tuple[str, str]]:
    from hyperd.api.server import Server

    server = Server(site.services)
    routes = server._app.router.routes()
    found = {(route.method, route.resource.canonical) for route in routes if route.resource is not None}
    return {(method, path) for method, path in found if method != "HEAD"}


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [one for each in value.values() for one in _references(each)]
    return [one for each in value for one in _references(each)] if isinstance(value, list) else []


def test_metrics_count_requests_and_pods(tmp_path: Path) -> None:
    async def work(site: Site) -> None:
        await site.run()
        text = (await site.ask("GET", "/metrics")).text
        assert 'hyperd_pods{state="running"} 1.0' in text
        assert 'hyperd_requests_total{method="POST",route="/v1/pods",status="201"} 1.0' in text

    serve(tmp_path, work)


def test_each_request_has_an_id(tmp_path: Path) -> None:
    async def work(site: Site) -> None:
        assert (await site.ask("GET", "/ping", headers={"X-Request-Id": "mine-1"})).headers["x-request-id"] == "mine-1"
        made = (await site.ask("GET", "/ping", headers={"X-Request-Id": "not mine\t"})).headers["x-request-id"]
        assert len(made) == 16

    serve(tmp_path, work)


@pytest.mark.parametrize("count", [1000])
def test_a_long_list_is_fast(tmp_path: Path, count: int) -> None:
    """As a share of the same machine's time for the shortest request, not in seconds."""

    async def work(site: Site) -> None:
        for number in range(count):
            await site.ask("POST", "/pods", {"spec": {"name": f"p{number}", "containers": [{"name": "a", "image": "b"}]}})
        answer = await site.ask("GET", "/pods?all=1")
        assert len(answer.json) == count

    serve(tmp_path, work)
