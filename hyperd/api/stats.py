"""What pods use: counted in the guest for containers, on the host for the machine."""

import asyncio
import time
from typing import Any

import msgspec

from hyperd.api.services import Services
from hyperd.api.views import timestamp
from hyperd.errors import ConflictError, HyperError
from hyperd.pods import policy
from hyperd.pods.pod import Pod


class Cpu(msgspec.Struct, frozen=True):
    """Time used since the start, in nanoseconds."""

    usage_ns: int


class Memory(msgspec.Struct, frozen=True):
    """In bytes; ``limit``: of a pod, or of a container that has none, what the machine has."""

    usage: int
    limit: int


class Network(msgspec.Struct, frozen=True):
    """Since the start, as the pod counts."""

    rx_bytes: int
    tx_bytes: int


class Block(msgspec.Struct, frozen=True):
    """Since the start."""

    read_bytes: int
    write_bytes: int


class ContainerStats(msgspec.Struct, frozen=True):
    """Of one container."""

    name: str
    id: str
    cpu: Cpu
    memory: Memory
    block: Block
    pids: int


class PodStats(msgspec.Struct, frozen=True):
    """Of a pod: the sums of its containers, and its network."""

    pod: str
    id: str
    time: str
    cpu: Cpu
    memory: Memory
    network: Network
    block: Block
    pids: int
    containers: list[ContainerStats]


async def pod_stats(services: Services, pod: Pod) -> PodStats:
    """:raise ConflictError: it does not run"""
    if pod.book.pod.phase != "running":
        raise ConflictError(f"pod {pod.book.pod.name} is {policy.state_of(pod.book.pod)}", hint="start it first")
    running = [one for one in pod.book.of_kind("main", "sidecar", "init") if one.phase == "running"]
    machine = services.tools.runtime.machine_size(pod.book.pod.id)[1] << 20
    found = await asyncio.gather(*(_container_stats(services, one.id, one.name, machine) for one in running))
    containers = [one for one in found if one is not None]
    return PodStats(
        pod=pod.book.pod.name,
        id=pod.book.pod.id,
        time=timestamp(time.time()),
        cpu=Cpu(sum(one.cpu.usage_ns for one in containers)),
        memory=Memory(sum(one.memory.usage for one in containers), machine),
        network=await asyncio.to_thread(_network, services.tools.runtime.pid(pod.book.pod.id)),
        block=Block(sum(one.block.read_bytes for one in containers), sum(one.block.write_bytes for one in containers)),
        pids=sum(one.pids for one in containers),
        containers=containers,
    )


async def _container_stats(services: Services, identity: str, name: str, machine: int) -> ContainerStats | None:
    """None: it has ended meanwhile. ``machine``: bytes of its memory."""
    try:
        event = msgspec.json.decode(await services.tools.runtime.call("events", "--stats", identity), type=dict[str, Any])
    except (HyperError, msgspec.DecodeError):
        return None
    data = event.get("data") or {}
    memory = ((data.get("memory") or {}).get("usage")) or {}
    limit = int(memory.get("limit") or 0)
    return ContainerStats(
        name=name,
        id=identity,
        cpu=Cpu(int((((data.get("cpu") or {}).get("usage")) or {}).get("total") or 0)),
        memory=Memory(int(memory.get("usage") or 0), limit if 0 < limit < 1 << 62 else machine),
        block=_block(data.get("blkio") or {}),
        pids=int((data.get("pids") or {}).get("current") or 0),
    )


def _block(counted: dict[str, Any]) -> Block:
    sums = {"Read": 0, "Write": 0}
    for entry in counted.get("ioServiceBytesRecursive") or []:
        if entry.get("op") in sums:
            sums[entry["op"]] += int(entry.get("value") or 0)
    return Block(sums["Read"], sums["Write"])


def _network(pid: int) -> Network:
    """The counters of the namespace's links: what they receive the pod receives."""
    rx = tx = 0
    try:
        with open(f"/proc/{pid}/net/dev") as file:
            for line in file.readlines()[2:]:
                name, _, numbers = line.partition(":")
                fields = numbers.split()
                if name.strip().startswith("eth"):
                    rx, tx = rx + int(fields[0]), tx + int(fields[8])
    except OSError:
        pass  # the machine has ended meanwhile
    return Network(rx, tx)
