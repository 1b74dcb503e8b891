"""The size of a pod's machine, and the limits of its containers, changed while they run."""

from typing import Annotated, Any

import msgspec

from hyperd import spec
from hyperd.api.call import Body
from hyperd.errors import ConflictError, HyperError, InvalidError, MissingError
from hyperd.pods.pod import Pod
from hyperd.pods.ports import Runtime
from hyperd.pods.runv import RunvFailure
from hyperd.pods.size import check_size
from hyperd.store import ContainerRecord

_PERIOD_US = 100_000
_PHASES = ("running", "starting")


class MachineBody(Body, frozen=True):
    """``vcpus``, ``memory_mib``: what the machine is to have; None: as it is."""

    vcpus: Annotated[int, msgspec.Meta(ge=1, le=255)] | None = None
    memory_mib: Annotated[int, msgspec.Meta(ge=48, le=1 << 24)] | None = None


class ResourcesBody(Body, frozen=True):
    """``cpu``: how many, ``memory``: MiB; None: as it is."""

    cpu: Annotated[float, msgspec.Meta(ge=0.01, le=1024)] | None = None
    memory: Annotated[int, msgspec.Meta(ge=4, le=1 << 24)] | None = None


class PatchBody(Body, frozen=True):
    """``labels``: null removes one. ``machine``: its size. ``resources``: limits of each of the pod's containers, or of the one that ``container`` names."""

    labels: dict[str, str | None] | None = None
    machine: MachineBody | None = None
    resources: ResourcesBody | None = None
    container: str | None = None


async def resize(runtime: Runtime, pod: Pod, wanted: PatchBody) -> None:
    """Makes a pod's machine and containers as large as ``wanted`` says; of one that does not run, when it starts next.

    :raise MissingError: the container is none of the pod's
    :raise ConflictError: the machine cannot have that size; all is as it was
    """
    if wanted.container is not None and wanted.resources is None:
        raise InvalidError("container: it is resources that one container has")
    machine, resources = wanted.machine or MachineBody(), wanted.resources or ResourcesBody()
    check_size(machine.vcpus or 0, machine.memory_mib or 0)
    chosen = _chosen(pod, wanted.container)
    if pod.book.pod.phase == "running" and (machine != MachineBody() or resources != ResourcesBody()):
        await _resize(runtime, pod, machine, [one for one in chosen if one.phase in _PHASES], resources)
    was = pod.book.pod.spec
    names = {one.name for one in chosen}
    changed = msgspec.structs.replace(
        was,
        vcpus=machine.vcpus or was.vcpus,
        memory_mib=machine.memory_mib or was.memory_mib,
        containers=tuple(limited(one, resources) if one.name in names else one for one in was.containers),
        init_containers=tuple(limited(one, resources) if one.name in names else one for one in was.init_containers),
    )
    if changed != was:
        await pod.book.change(spec=changed)


def _chosen(pod: Pod, name: str | None) -> list[ContainerRecord]:
    records = pod.book.of_kind("sidecar", "main")
    if name is None:
        return records
    found = [one for one in records if name in (one.name, one.id)]
    if not found:
        raise MissingError(f"pod {pod.book.pod.name} has no container {name}", hint="it has " + ", ".join(one.name for one in records))
    return found


def limited(container: spec.Container, wanted: ResourcesBody) -> spec.Container:
    """A container with those limits that ``wanted`` names. Pure."""
    changes: dict[str, Any] = {} if wanted.cpu is None else {"cpus": wanted.cpu}
    changes |= {} if wanted.memory is None else {"memory": wanted.memory << 20}
    return msgspec.structs.replace(container, resources=msgspec.structs.replace(container.resources, **changes))


async def _resize(runtime: Runtime, pod: Pod, machine: MachineBody, records: list[ContainerRecord], wanted: ResourcesBody) -> None:
    """What runs. What was done is undone when a later step is refused."""
    before = runtime.machine_size(pod.book.pod.id)
    specs = {one.name: one for one in (*pod.book.pod.spec.containers, *pod.book.pod.spec.init_containers)}
    done: list[ContainerRecord] = []
    try:
        if machine != MachineBody():
            await _set_machine(runtime, pod, machine)
        for record in records if wanted != ResourcesBody() else []:
            await _set_limits(runtime, record, limited(specs[record.name], wanted).resources)
            done.append(record)
    except HyperError as error:
        for record in reversed(done):
            await _set_limits(runtime, record, specs[record.name].resources)
        if machine != MachineBody() or done:
            await _set_machine(runtime, pod, MachineBody(vcpus=before[0], memory_mib=before[1]))
        if isinstance(error, RunvFailure) and error.code > 0:
            raise ConflictError(error.message) from error
        raise


async def _set_machine(runtime: Runtime, pod: Pod, wanted: MachineBody) -> None:
    flags = [f"--vcpus={wanted.vcpus}"] if wanted.vcpus else []
    flags += [f"--memory={wanted.memory_mib}M"] if wanted.memory_mib else []
    await runtime.call("update", "--vm", *flags, pod.book.pod.id)


async def _set_limits(runtime: Runtime, record: ContainerRecord, wanted: spec.Resources) -> None:
    limits: dict[str, Any] = {
        "memory": {"limit": wanted.memory or -1, "swap": wanted.memory + wanted.swap if wanted.memory else -1},
        "cpu": {"quota": max(1000, round(wanted.cpus * _PERIOD_US)) if wanted.cpus else -1, "period": _PERIOD_US},
    }
    await runtime.call("update", "--resources", "-", record.id, stdin=msgspec.json.encode(limits))
