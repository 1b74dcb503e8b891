"""Looks: lists, numbers, everything."""

import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import click

from hyperctl.app import (
    POD,
    POD_OR_CONTAINER,
    App,
    Name,
    command,
    format_option,
    no_trunc_option,
    now,
    pass_app,
    quiet_option,
)
from hyperctl.client import path
from hyperctl.errors import ConnectError, CtlError
from hyperctl.humans import age, show_size
from hyperctl.names import container, each, find
from hyperctl.output import Column, out, records, short, table, value

_WHAT = {"pod": "pods", "pods": "pods", "container": "containers", "containers": "containers", "vm": "vms", "vms": "vms"}
_WORST = ("unhealthy", "starting", "healthy")
_INSPECTED = ("pods", "containers", "images", "volumes", "networks")


def _identifier(no_trunc: bool) -> Any:
    return lambda row: str(row.get("id") or "") if no_trunc else short(str(row.get("id") or ""))


def pod_columns(no_trunc: bool = False) -> tuple[Column, ...]:
    moment = now()
    return (
        Column("POD ID", _identifier(no_trunc), keep=True),
        Column("NAME", lambda row: str(row.get("name", ""))),
        Column("STATUS", lambda row: _pod_status(row), keep=True),
        Column("READY", lambda row: _ready(row.get("containers") or []), keep=True),
        Column("ADDRESS", lambda row: ", ".join(a.partition("/")[0] for a in row.get("addresses") or [])),
        Column("PORTS", lambda row: ", ".join(show_port(port) for port in row.get("ports") or [] if port.get("host_port"))),
        Column("AGE", lambda row: age(row.get("created") or "", moment), keep=True),
    )


def container_columns(no_trunc: bool = False) -> tuple[Column, ...]:
    moment = now()
    return (
        Column("CONTAINER ID", _identifier(no_trunc), keep=True),
        Column("NAME", lambda row: str(row.get("name", ""))),
        Column("POD", lambda row: str(row.get("pod") or row.get("pod_id") or "")),
        Column("IMAGE", lambda row: str(row.get("image", ""))),
        Column("STATUS", lambda row: _container_status(row), keep=True),
        Column("RESTARTS", lambda row: str(row.get("restarts") or 0), right=True),
        Column("AGE", lambda row: age(row.get("created") or "", moment), keep=True),
    )


_VM_COLUMNS = (
    Column("VM", lambda row: str(row.get("id", "")), keep=True),
    Column("POD", lambda row: str(row.get("pod", ""))),
    Column("PID", lambda row: str(row.get("pid") or "-"), right=True),
    Column("CPUS", lambda row: str(row.get("vcpus") or "-"), right=True),
    Column("MEMORY", lambda row: f"{row['memory_mib']} MiB" if row.get("memory_mib") else "-", right=True),
    Column("STATUS", lambda row: str(row.get("state", ""))),
)


def show_port(port: dict[str, Any]) -> str:
    """``127.0.0.1:8080->80/tcp``."""
    address = f"[{port['host_ip']}]" if ":" in (port.get("host_ip") or "") else port.get("host_ip") or ""
    return f"{address}{':' if address else ''}{port.get('host_port', 0)}->{port.get('container_port')}/{port.get('protocol') or 'tcp'}"


def _ready(members: Sequence[dict[str, Any]]) -> str:
    lasting = [m for m in members if m.get("kind") != "init"]
    good = sum(bool(m.get("ready", m.get("state") == "running")) for m in lasting)
    return f"{good}/{len(lasting)}"


def _pod_status(row: dict[str, Any]) -> str:
    state, code = str(row.get("state", "")), row.get("exit_code")
    health = [one["health"] for one in row.get("containers") or [] if one.get("health")]
    if health and state == "running":
        return f"{state} ({next((one for one in _WORST if one in health), health[0])})"
    return f"{state} ({code})" if state in ("stopped", "failed") and isinstance(code, int) else state


def _container_status(row: dict[str, Any]) -> str:
    state, code = str(row.get("state", "")), row.get("exit_code")
    if health := (row.get("health") or {}).get("status"):
        return f"{state} ({health})"
    if state != "exited" or not isinstance(code, int):
        return state
    return f"exited ({code}{', out of memory' if row.get('oom') else ''})"


@command(
    "list",
    examples="""
    hyperctl list                                pods
    hyperctl list container -p web               the containers of one
    hyperctl list -q -l tier=front               only names
    hyperctl list --format 'table {{.Name}}\\t{{.State}}\\t{{join .Addresses ","}}'
    """,
)
@click.option("-a", "--all", "everything", is_flag=True, help="Accepted: what has ended is shown unless --running is given.")
@click.option("--running", is_flag=True, help="Only what runs.")
@click.option("-p", "--pod", type=POD, metavar="POD", help="Only of this pod.")
@click.option("-m", "--vm", metavar="VM", help="Only of this machine.")
@click.option("-l", "--label", multiple=True, metavar="NAME[=VALUE]", help="Only pods with the label.")
@quiet_option
@no_trunc_option
@format_option
@click.argument("what", default="pod", type=click.Choice(list(_WHAT)), metavar="[pod|container|vm]")
@pass_app
def list_(app: App, what: str, everything: bool, running: bool, pod: str | None, vm: str | None, label: tuple[str, ...], quiet: bool, no_trunc: bool, kind: str | None) -> None:  # fmt: skip
    """List pods, containers or machines."""
    kinds = _WHAT[what]
    query: dict[str, Any] = {} if kinds == "vms" else {"all": not running}
    if kinds == "pods":
        query["label"] = list(label)
    rows = [row for row in app.client.request("GET", f"/{kinds}", query=query) if _is_of(row, kinds, pod, vm)]
    if running:
        rows = [row for row in rows if row.get("state") in ("running", "paused")]
    if quiet:
        for row in rows:
            out(str(row.get("id") if no_trunc or not row.get("name") else _quiet_name(row, kinds)))
        return
    columns = {"pods": pod_columns, "containers": container_columns}
    records(rows, columns[kinds](no_trunc) if kinds in columns else _VM_COLUMNS, kind, no_trunc=no_trunc)


def _quiet_name(row: dict[str, Any], kinds: str) -> str:
    return f"{row['pod']}/{row['name']}" if kinds == "containers" and row.get("pod") else str(row["name"])


def _is_of(row: dict[str, Any], kinds: str, pod: str | None, vm: str | None) -> bool:
    if pod:
        mine = (row.get("id"), row.get("name")) if kinds == "pods" else (row.get("pod"), row.get("pod_id"))
        if pod not in mine and not any(str(name or "").startswith(pod) for name in mine[:1] if kinds == "pods"):
            return False
    return not vm or vm in (row.get("vm"), row.get("id") if kinds == "vms" else None, row.get("pod_id"))


@command("inspect", examples="hyperctl inspect web\nhyperctl inspect --format '{{.State}} {{json .Labels}}' web")
@click.option("--type", "only", type=click.Choice([k.removesuffix("s") for k in _INSPECTED]), help="What the names are of.")
@format_option
@click.argument("names", metavar="NAME...", nargs=-1, required=True, type=Name("pods", "containers", "images", "volumes", "networks"))
@pass_app
def inspect(app: App, names: tuple[str, ...], only: str | None, kind: str | None) -> None:
    """Everything about pods, containers, images, volumes or networks, as JSON."""
    found: list[Any] = []
    try:
        each(names, lambda name: found.append(find(app.client, name, (f"{only}s",) if only else _INSPECTED).record))
    finally:
        if found:
            value(found, "json" if kind in (None, "table") else str(kind))


@command("top")
@click.argument("name", type=POD)
@pass_app
def top(app: App, name: str) -> None:
    """The processes of a pod, as its machine numbers them."""
    found = app.client.get(path("pods", name, "top"))
    table([str(title) for title in found["titles"]], [[str(cell) for cell in row] for row in found["processes"]])


@command("diff")
@click.argument("name", type=POD_OR_CONTAINER)
@pass_app
def diff(app: App, name: str) -> None:
    """What a container has changed in its root: A is new, C changed, D removed."""
    for change in app.client.get(f"{container(app.client, name).where}/diff"):
        out(f"{str(change.get('kind', '?'))[:1].upper()} {change.get('path', '')}")


# --- numbers ---


@command("stats", examples="hyperctl stats\nhyperctl stats --no-stream --format json web")
@click.option("--no-stream", is_flag=True, help="Once, and not every second.")
@format_option
@click.argument("names", metavar="[POD]...", nargs=-1, type=POD)
@pass_app
def stats(app: App, names: tuple[str, ...], no_stream: bool, kind: str | None) -> None:
    """What pods use of CPU, memory, network and disks; of all that run where none is named. ctrl-c ends it."""
    before: dict[str, Any] = {}
    if no_stream or kind or not sys.stdout.isatty():
        first = _samples(app, names)
        if not kind or kind == "table":
            before = {str(row.get("pod")): row for row in first}
            time.sleep(1)  # the share of a CPU is that of a span of time
            first = _samples(app, names)
        records([_with_rate(row, before) for row in first] if before else first, _STATS_COLUMNS, kind)
        return
    _watch(_rounds(app, names))


def _rounds(app: App, names: tuple[str, ...]) -> Iterator[list[dict[str, Any]]]:
    before: dict[str, Any] = {}
    while True:
        rows = _samples(app, names)
        yield [_with_rate(row, before) for row in rows]
        before = {str(row.get("pod")): row for row in rows}
        time.sleep(1)


def _samples(app: App, names: tuple[str, ...]) -> list[dict[str, Any]]:
    if names:
        return [_sample(app, name) for name in names]
    found = []
    for pod in app.client.request("GET", "/pods"):
        if pod.get("state") == "running":
            try:
                found.append(_sample(app, str(pod["name"])))
            except ConnectError:
                raise
            except CtlError:
                pass  # it has ended since
    return found


def _sample(app: App, name: str) -> dict[str, Any]:
    row: dict[str, Any] = app.client.get(path("pods", name, "stats"))
    row.setdefault("pod", name)
    row["_taken"] = time.monotonic()
    return row


def _with_rate(row: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """With ``_percent``: of one CPU, since the sample before."""
    earlier = before.get(str(row.get("pod")))
    if earlier is None:
        return row
    span = row["_taken"] - earlier["_taken"]
    used = _number(row, "cpu", "usage_ns") - _number(earlier, "cpu", "usage_ns")
    return row | {"_percent": max(used, 0) / 1e7 / span if span > 0 else 0.0}


def _number(row: dict[str, Any], part: str, name: str) -> float:
    found = (row.get(part) or {}).get(name)
    return float(found) if isinstance(found, int | float) else 0.0


def _pair(row: dict[str, Any], part: str, first: str, second: str) -> str:
    return f"{show_size(_number(row, part, first))} / {show_size(_number(row, part, second))}"


_STATS_COLUMNS = (
    Column("POD", lambda row: str(row.get("pod", ""))),
    Column("CPU", lambda row: f"{row['_percent']:.1f}%" if "_percent" in row else "-", keep=True, right=True),
    Column("MEMORY / LIMIT", lambda row: _pair(row, "memory", "usage", "limit"), keep=True),
    Column("NETWORK IN / OUT", lambda row: _pair(row, "network", "rx_bytes", "tx_bytes")),
    Column("DISK READ / WRITTEN", lambda row: _pair(row, "block", "read_bytes", "write_bytes")),
    Column("PIDS", lambda row: str(row.get("pids") or 0), keep=True, right=True),
)


def _watch(rounds: Iterator[list[dict[str, Any]]]) -> None:
    from rich.live import Live

    from hyperctl.output import rich_table

    with Live(auto_refresh=False, screen=False) as live:
        for rows in rounds:
            cells = [[c.cell(row) for c in _STATS_COLUMNS] for row in rows]
            live.update(rich_table([c.heading for c in _STATS_COLUMNS], cells, _STATS_COLUMNS, width=live.console.width), refresh=True)
