"""How big a machine is: what its containers may use, by the limits of the first one and by what engines say of the whole pod. Pure."""

import os

from runv.errors import ConfigError
from runv.quick import NamedTuple, loads
from runv.spec.annotations import (
    MEMORY_MAX_MIB,
    MEMORY_MIB,
    POD_CPU_PERIOD,
    POD_CPU_QUOTA,
    POD_MEMORY,
    POD_RESOURCES,
    VCPUS,
    VCPUS_MAX,
)
from runv.spec.config import Config, Cpu
from runv.spec.lists import number_list

_MIB = 1 << 20
# What the machine needs beside what its containers may use: the guest's kernel, init and caches, and 1/32 for its tables of pages.
_OVERHEAD_MIB = 64
_TABLES_SHIFT = 5
_LEAST_MIB = 48
_LEAST_STEP_MIB = 32
# What Linux takes in memory by.
BLOCK_MIB = 128
_PERIOD_US = 100_000  # the kernel's


class Size(NamedTuple):
    """A machine's virtual CPUs and memory."""

    vcpus: int
    memory_mib: int


def machine_size(config: Config, least: Size) -> Size:
    """The size of the machine for ``config``: at least ``least``, and what the limits and annotations of the pod call for, but not more
    than the host has. runv's own annotations, and then ``vm.hwConfig``, go before all of it.

    :raise ConfigError: an annotation is not a number, or the host has less
    """
    annotations = config.annotations or {}
    hardware = _hardware(config)
    vcpus, memory_mib = _limits(config)
    for more in (_containerd(annotations), _crio(annotations)):
        vcpus, memory_mib = max(vcpus, more.vcpus), max(memory_mib, more.memory_mib)
    return Size(
        _own(annotations, VCPUS, 1, _host_cpus()) or hardware.vcpus or max(least.vcpus, min(vcpus, _host_cpus())),
        _own(annotations, MEMORY_MIB, _LEAST_MIB, host_memory_mib())
        or hardware.memory_mib
        or max(least.memory_mib, min(_rounded(memory_mib), host_memory_mib())),
    )


def most(config: Config, size: Size, settings: Size) -> Size:
    """What a machine of ``size`` may grow to, by annotations or else ``settings``; ``size`` itself where it may not. Never more than the host has.

    :raise ConfigError: an annotation is not a number
    """
    annotations = config.annotations or {}
    vcpus = max(_number(annotations, VCPUS_MAX), 0) if VCPUS_MAX in annotations else settings.vcpus
    memory_mib = max(_number(annotations, MEMORY_MAX_MIB), 0) if MEMORY_MAX_MIB in annotations else settings.memory_mib
    return within(size, Size(vcpus, memory_mib))


def within(size: Size, wanted: Size) -> Size:
    """What a machine of ``size`` may grow to where ``wanted`` is asked for: no more than the host has, and memory in whole blocks: what is less than one the
    guest's kernel cannot take."""
    more_mib = max(0, min(wanted.memory_mib, host_memory_mib()) - size.memory_mib)
    return Size(max(size.vcpus, min(wanted.vcpus, _host_cpus())), size.memory_mib + more_mib // BLOCK_MIB * BLOCK_MIB)


def _rounded(memory_mib: int) -> int:
    """More, so that few templates serve many sizes: four sizes from each power of two to the next, 32 MiB apart at least. What nobody touches of it takes no
    memory of the host, and the containers' limits hold in the guest."""
    step = max(_LEAST_STEP_MIB, 1 << memory_mib.bit_length() >> 3)
    return -(-memory_mib // step) * step


def _hardware(config: Config) -> Size:
    """``vm.hwConfig``; 0 for what it does not say."""
    hardware = config.vm.hw_config if config.vm else None
    vcpus = (hardware.vcpus if hardware else None) or 0
    memory_mib = -(-(hardware.memory or 0) // _MIB) if hardware else 0
    for member, value, most in (("vcpus", vcpus, _host_cpus()), ("memory", memory_mib, host_memory_mib())):
        if value > most:
            raise ConfigError(f"config.json: $.vm.hwConfig.{member}: the host has {most}{' MiB' if member == 'memory' else ''} only")
    return Size(vcpus, memory_mib)


def _limits(config: Config) -> Size:
    resources = config.linux.resources
    memory = resources.memory.limit if resources and resources.memory else None
    cpu = resources.cpu if resources else None
    return Size(_cpus(cpu) if cpu else 0, with_overhead(memory or 0))


def _cpus(cpu: Cpu) -> int:
    by_quota = cpus_of_quota(cpu.quota or 0, cpu.period or 0)
    by_set = len(number_list(cpu.cpus, "$.linux.resources.cpu.cpus"))
    return min(by_quota, by_set) if by_quota and by_set else by_quota or by_set


def cpus_of_quota(quota: int, period: int) -> int:
    """How many virtual CPUs a quota can keep busy; 0: there is none."""
    return -(-quota // (period or _PERIOD_US)) if quota > 0 and period >= 0 else 0


def with_overhead(limit: int) -> int:
    """MiB that a machine needs for containers that may use ``limit`` bytes; 0: there is no limit."""
    if limit <= 0:
        return 0
    memory_mib = -(-limit // _MIB)
    return memory_mib + _OVERHEAD_MIB + (memory_mib >> _TABLES_SHIFT)


def _containerd(annotations: dict[str, str]) -> Size:
    quota, period, memory = (_number(annotations, name) for name in (POD_CPU_QUOTA, POD_CPU_PERIOD, POD_MEMORY))
    return Size(cpus_of_quota(quota, period), with_overhead(memory))


def _crio(annotations: dict[str, str]) -> Size:
    for name in POD_RESOURCES:
        try:
            values = loads(annotations.get(name) or "{}")
            numbers = [int(values.get(key) or 0) for key in ("cpu_quota", "cpu_period", "memory_limit_in_bytes")]
        except (ValueError, TypeError, AttributeError):
            raise ConfigError(f"config.json: $.annotations[{name!r}]: not an object of numbers") from None
        if any(numbers):
            return Size(cpus_of_quota(numbers[0], numbers[1]), with_overhead(numbers[2]))
    return Size(0, 0)


def _own(annotations: dict[str, str], name: str, least: int, most: int) -> int:
    """The value of one of runv's own annotations; 0 when it is not there."""
    if name not in annotations:
        return 0
    value = _number(annotations, name)
    if not least <= value <= most:
        raise ConfigError(f"config.json: $.annotations[{name!r}]: {value} is not between {least} and {most}")
    return value


def _number(annotations: dict[str, str], name: str) -> int:
    text = annotations.get(name) or "0"
    if not text.removeprefix("-").isdecimal():
        raise ConfigError(f"config.json: $.annotations[{name!r}]: {text!r} is not a number")
    return int(text)


def _host_cpus() -> int:
    return os.cpu_count() or 1


def host_memory_mib() -> int:
    """All of it."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // _MIB
