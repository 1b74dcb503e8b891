"""The size of a machine that runs: memory and virtual CPUs that come to it, and go.

What a machine may grow to is settled when it is made (``runv.sandbox.machine.size.most``). Less memory than it was started with it cannot have.
"""

import json
from typing import Any

from runv import cgroups, limits
from runv.errors import ConfigError, NotFoundError, RunvError, StateError
from runv.files import locked_folder, read_text
from runv.log import Log
from runv.sandbox.connection import connect
from runv.sandbox.layout import SandboxFolder, SandboxRecord
from runv.sandbox.machine.size import Size, cpus_of_quota, host_memory_mib, with_overhead
from runv.spec.config import parse_resources
from runv.state import CREATED, RUNNING, Container
from runv.vm import resize as machine

Raw = dict[str, Any]
_MIB = 1 << 20
_MAX_HINT = "what a machine can grow to is settled when it is made: memory_max_mib, vcpus_max"


def resize(container: Container, wanted: Size, log: Log) -> None:
    """Gives the machine that a container lives in another size; 0: as it is.

    :raise StateError: the container is not running
    :raise ConfigError: the machine cannot have that size; nothing is changed
    :raise RunvError: QEMU or the guest refused; it is as it was then
    """
    try:
        with locked_folder(container.folder):
            record = container.load()
            if container.status(record)[0] not in (CREATED, RUNNING):
                raise StateError("container not running")
            sandbox = SandboxFolder(container.root, record.sandbox)
            with locked_folder(sandbox.folder):
                had = sandbox.load()
                settled = settle(had, wanted)
                grow(sandbox, settled)
                shrink(sandbox, settled, log)
    except FileNotFoundError:
        raise NotFoundError("container does not exist") from None


def settle(had: SandboxRecord, wanted: Size) -> Size:
    """The size to be, of whole steps. Pure.

    :raise ConfigError: the machine cannot have it
    """
    vcpus, memory_mib = wanted.vcpus or had.vcpus, wanted.memory_mib or had.memory_mib
    if vcpus > had.vcpus_max:
        raise ConfigError(f"cannot give the machine {vcpus} virtual CPUs: it {_can(had.vcpus, had.vcpus_max)}", hint=_MAX_HINT)
    if memory_mib > had.memory_max_mib:
        raise ConfigError(f"cannot give the machine {memory_mib} MiB of memory: it {_can(had.memory_mib, had.memory_max_mib, ' MiB')}", hint=_MAX_HINT)
    if memory_mib < had.boot_mib:
        raise ConfigError(f"cannot leave the machine {memory_mib} MiB of memory: it was started with {had.boot_mib} MiB, and only what came later can go")
    steps = -(-(memory_mib - had.boot_mib) // machine.STEP_MIB)
    return Size(vcpus, min(had.boot_mib + steps * machine.STEP_MIB, had.memory_max_mib))


def needed(had: SandboxRecord, own: Raw, old: Raw, others: list[Raw]) -> Size:
    """The size of a machine that can grow, in which a container's linux.resources become ``own`` from ``old``, beside ``others``'. It grows with what they may use, as far as it
    can, and gives back what a container that is alone in it does without. Pure.

    :raise ConfigError: the container is to have more memory than the machine can
    """
    limit, before = _limit(own), _limit(old)
    if had.boot_mib < had.memory_max_mib and had.memory_max_mib * _MIB < limit < host_memory_mib() * _MIB and (before <= 0 or limit > before):
        raise ConfigError(
            f"cannot set a memory limit of {limit >> 20} MiB: the machine {_can(had.memory_mib, had.memory_max_mib, ' MiB')}", hint=_MAX_HINT
        )
    memory_mib, vcpus = had.memory_mib, had.vcpus
    if limit > 0 and limit != before:
        wanted = min(with_overhead(limit + sum(max(0, _limit(other)) for other in others)), had.memory_max_mib)
        memory_mib = max(had.boot_mib, wanted) if not others and limit < before else max(memory_mib, wanted)
    if _quota(own) != _quota(old):
        vcpus = max(vcpus, min(sum(map(_quota, [own, *others])), had.vcpus_max))
    return Size(vcpus, memory_mib)


def _limit(resources: Raw) -> int:
    return (resources.get("memory") or {}).get("limit") or 0


def _quota(resources: Raw) -> int:
    cpu = resources.get("cpu") or {}
    return cpus_of_quota(cpu.get("quota") or 0, cpu.get("period") or 0)


def resources_of(config: str) -> Raw:
    """linux.resources of a config.json. Pure."""
    return (json.loads(config).get("linux") or {}).get("resources") or {}


def _can(now: int, most: int, unit: str = "") -> str:
    return f"can grow to {most}{unit}" if most > now else f"has {now}{unit} and cannot grow"


def grow(sandbox: SandboxFolder, wanted: Size) -> None:
    """What ``wanted`` is more than there is. The caller holds the lock.

    :raise RunvError: QEMU or the guest refused; it is as it was then
    """
    had = sandbox.load()
    larger = Size(max(had.vcpus, wanted.vcpus), max(had.memory_mib, wanted.memory_mib))
    if larger == (had.vcpus, had.memory_mib):
        return
    # First the room on the host, and what a command that is cut off here leaves behind: the record says at least what there is.
    before = _fit_host(sandbox, _save(sandbox, larger))
    try:
        if larger.memory_mib > had.memory_mib:
            _grow_memory(sandbox, had, larger.memory_mib)
        if larger.vcpus > had.vcpus:
            machine.add_vcpus(sandbox.path("qmp.sock"), larger.vcpus)
            _use_cpus(sandbox, larger.vcpus)
    except RunvError:
        _set_memory(sandbox, had, had.memory_mib)
        _save(sandbox, Size(had.vcpus, had.memory_mib))
        cgroups.restore(before)
        raise


def _grow_memory(sandbox: SandboxFolder, had: SandboxRecord, memory_mib: int) -> None:
    got = _set_memory(sandbox, had, memory_mib)
    if got < memory_mib:
        raise RunvError(
            f"cannot give the machine {memory_mib} MiB of memory: its kernel took {got - had.memory_mib} MiB of the {memory_mib - had.memory_mib} that came",
            hint="its tables for new memory take 1/64 of it from the old: grow in smaller steps",
        )


def shrink(sandbox: SandboxFolder, wanted: Size, log: Log) -> None:
    """What ``wanted`` is less than there is. Memory that the guest cannot empty stays, with a warning. The caller holds the lock.

    :raise RunvError: QEMU or the guest refused
    """
    had = sandbox.load()
    vcpus, memory_mib = min(had.vcpus, wanted.vcpus), had.memory_mib
    if vcpus < had.vcpus:
        _use_cpus(sandbox, vcpus)
    if wanted.memory_mib < had.memory_mib:
        memory_mib = _set_memory(sandbox, had, wanted.memory_mib)
        if memory_mib > wanted.memory_mib:
            log.warning(f"the machine keeps {memory_mib} MiB of memory for now: its kernel gives {memory_mib - wanted.memory_mib} MiB more when it can")
    if (vcpus, memory_mib) != (had.vcpus, had.memory_mib):
        _fit_host(sandbox, _save(sandbox, Size(vcpus, memory_mib)))


def _set_memory(sandbox: SandboxFolder, had: SandboxRecord, memory_mib: int) -> int:
    shared = sandbox.process("virtiofsd.pid") is not None
    most = had.memory_max_mib - had.boot_mib
    if not most:
        return had.boot_mib
    return had.boot_mib + machine.set_memory(sandbox.path("qmp.sock"), memory_mib - had.boot_mib, most, shared=shared)


def _use_cpus(sandbox: SandboxFolder, count: int) -> None:
    with connect(sandbox) as agent:
        agent.call("cpus", {"count": count})


def _save(sandbox: SandboxFolder, size: Size) -> SandboxRecord:
    record = sandbox.load()
    record.vcpus, record.memory_mib = size
    sandbox.save(record)
    return record


def extra_of(record: SandboxRecord) -> limits.Extra:
    """What the host's cgroup of the container that a machine was made for has to hold beside that."""
    cloned_mib = record.boot_mib if record.cloned else 0
    return limits.of_machine(record.memory_mib, record.vcpus, cloned_mib=cloned_mib, records=bool(record.keeps))


def _fit_host(sandbox: SandboxFolder, record: SandboxRecord) -> Any:
    """Fits the limits of the cgroup that the machine is in; returns what they were."""
    owner = Container(sandbox.path("..", ".."), record.container)
    try:
        groups = owner.load().groups
        text = read_text(owner.path("config.json"))
    except (RunvError, FileNotFoundError):
        return []  # who brought the machine has left it
    resources, _ = parse_resources(json.dumps(resources_of(text)).encode(), "resources")
    fitted = limits.settings(resources, extra_of(record))
    return cgroups.apply(groups, [setting for setting in fitted if setting.what.startswith(("memory.", "pids."))])
