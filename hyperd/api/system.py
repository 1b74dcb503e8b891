"""The daemon itself: version, state of the host, events, metrics, its own description."""

import asyncio
import os
import platform
import shutil
import time
from collections import Counter
from typing import Any

import msgspec
from aiohttp import web

from hyperd.api.call import Call, Params, Route
from hyperd.api.logs import moment
from hyperd.api.metrics import CONTENT_TYPE, DESCRIPTION, METRICS
from hyperd.api.streams import Lines, until_closing
from hyperd.api.views import EventView, container_state, event_view
from hyperd.errors import InvalidError
from hyperd.pods import policy
from hyperd.store import Event
from runv import OCI_VERSION, VERSION, settings
from runv.vm import choice

_FILTERS = ("type", "pod", "container", "action", "id", "name")


class Version(msgspec.Struct, frozen=True):
    """Versions of what takes part."""

    version: str
    api: str
    runv: str
    oci: str
    python: str
    kernel: str


class EventParams(Params, frozen=True):
    """``filter``: KEY=VALUE with type, pod, container, action, id or name; may be repeated. Times as for logs."""

    since: str = ""
    until: str = ""
    follow: bool = False
    filter: tuple[str, ...] = ()


class Vm(msgspec.Struct, frozen=True):
    """A running machine. ``pid``: the host's process that stands for it."""

    id: str
    pod: str
    pid: int
    vcpus: int
    memory_mib: int
    state: str


async def ping(call: Call) -> web.Response:
    """It is there."""
    return web.Response(text="OK")


async def version(call: Call) -> Version:
    """Versions."""
    return Version(VERSION, "v1", VERSION, OCI_VERSION, platform.python_version(), os.uname().release)


async def info(call: Call) -> dict[str, Any]:
    """What the daemon has and uses."""
    services = call.services
    pods = services.manager.all()
    disk = await asyncio.to_thread(shutil.disk_usage, services.config.root)
    everyone = [(pod, one) for pod in pods for one in pod.book.containers.values()]
    return {
        "version": VERSION,
        "root": services.config.root,
        "state": services.config.state,
        "hostname": os.uname().nodename,
        "kernel": os.uname().release,
        "cpus": os.cpu_count(),
        "memory": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "accelerator": await asyncio.to_thread(lambda: choice.accelerator(settings.load()).value),
        "ready_machines": services.manager.ready.count,
        "pods": Counter(policy.state_of(pod.book.pod) for pod in pods),
        "containers": Counter(container_state(pod, one) for pod, one in everyone),
        "images": len(services.images.list()),
        "volumes": len(await asyncio.to_thread(services.volumes.list)),
        "networks": len(services.networks.list()) if services.networks is not None else 0,
        "storage": {"size": disk.total, "free": disk.free},
        "warnings": await services.networks.check() if services.networks is not None else (),
    }


async def events(call: Call) -> Any:
    """What has happened, and with follow what happens."""
    wanted = [_filter(text) for text in call.params.filter]
    since, until = moment(call.params.since, 0.0 if not call.params.follow else time.time()), moment(call.params.until, float("inf"))
    source = call.services.tools.bus.stream(since, until, follow=call.params.follow)
    async with Lines(call) as lines:
        async for event in until_closing(call, source):
            if lines.closed:
                break
            if all(_matches(event, key, value) for key, value in wanted):
                await lines.send(event_view(event))
    return lines.response


def _filter(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if key not in _FILTERS or not equals:
        raise InvalidError(f"cannot filter by {text[:60]!r}", hint=f"give KEY=VALUE with {', '.join(_FILTERS)}")
    return key, value


def _matches(event: Event, key: str, value: str) -> bool:
    if key == "type":
        return event.kind == value
    if key in ("pod", "container"):
        named = value in (event.id, event.name) and event.kind == key
        return named or event.attributes.get(key) == value
    return getattr(event, key) == value  # type: ignore[no-any-return]


async def metrics(call: Call) -> web.Response:
    """For Prometheus."""
    return web.Response(body=call.request.app[METRICS].text(), headers={"Content-Type": CONTENT_TYPE})


async def description(call: Call) -> web.Response:
    """The API, as OpenAPI 3 describes it."""
    return web.Response(body=call.request.app[DESCRIPTION], content_type="application/json")


async def vms(call: Call) -> list[Vm]:
    """The machines that run."""
    runtime = call.services.tools.runtime
    return [
        Vm(pod.book.pod.id, pod.book.pod.name, runtime.pid(pod.book.pod.id), pod.book.pod.spec.vcpus, pod.book.pod.spec.memory_mib, policy.state_of(pod.book.pod))
        for pod in call.services.manager.all()
        if pod.machine.alive()
    ]


ROUTES = (
    Route("GET", "/ping", ping, "Ask whether the daemon is there", kind="text"),
    Route("GET", "/version", version, "Versions", answer=Version),
    Route("GET", "/info", info, "State of daemon and host", answer=dict[str, Any]),
    Route("GET", "/events", events, "Events", EventParams, answer=EventView, kind="ndjson"),
    Route("GET", "/metrics", metrics, "Metrics for Prometheus", kind="text"),
    Route("GET", "/openapi.json", description, "This description", answer=dict[str, Any]),
    Route("GET", "/vms", vms, "List machines", answer=list[Vm]),
)
