"""How big a machine is: what its containers may use, by the limits of the first one and by what engines say of the whole pod. Pure."""

import json
import os
from typing import NamedTuple

from runv.errors import ConfigError
from runv.spec.annotations import MEMORY_MIB, POD_CPU_PERIOD, POD_CPU_QUOTA, POD_MEMORY, POD_RESOURCES, VCPUS
from runv.spec.config import Config, Cpu
from runv.spec.lists import number_list

_MIB = 1 << 20
# What the machine needs beside what its containers may use: the guest's kernel, init and caches, and 1/32 for its tables of pages.
_OVERHEAD_MIB = 64
_TABLES_SHIFT = 5
_LEAST_MIB = 48
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
        _own(annotations, MEMORY_MIB, _LEAST_MIB, _host_memory_mib())
        or hardware.memory_mib
        or max(least.memory_mib, min(memory_mib, _host_memory_mib())),
    )


def _hardware(config: Config) -> Size:
    """``vm.hwConfig``; 0 for what it does not say."""
    hardware = config.vm.hw_config if config.vm else None
    vcpus = (hardware.vcpus if hardware else None) or 0
    memory_mib = -(-(hardware.memory or 0) // _MIB) if hardware else 0
    for member, value, most in (("vcpus", vcpus, _host_cpus()), ("memory", memory_mib, _host_memory_mib())):
        if value > most:
            raise ConfigError(f"config.json: $.vm.hwConfig.{member}: the host has {most}{' MiB' if member == 'memory' else ''} only")
    return Size(vcpus, memory_mib)


def _limits(config: Config) -> Size:
    resources = config.linux.resources
    memory = resources.memory.limit if resources and resources.memory else None
    cpu = resources.cpu if resources else None
    return Size(_cpus(cpu) if cpu else 0, _with_overhead(memory or 0))


def _cpus(cpu: Cpu) -> int:
    by_quota = _by_quota(cpu.quota or 0, cpu.period or 0)
    by_set = len(number_list(cpu.cpus, "$.linux.resources.cpu.cpus"))
    return min(by_quota, by_set) if by_quota and by_set else by_quota or by_set


def _by_quota(quota: int, period: int) -> int:
    return -(-quota // (period or _PERIOD_US)) if quota > 0 and period >= 0 else 0


def _with_overhead(limit: int) -> int:
    if limit <= 0:
        return 0
    memory_mib = -(-limit // _MIB)
    return memory_mib + _OVERHEAD_MIB + (memory_mib >> _TABLES_SHIFT)


def _containerd(annotations: dict[str, str]) -> Size:
    quota, period, memory = (_number(annotations, name) for name in (POD_CPU_QUOTA, POD_CPU_PERIOD, POD_MEMORY))
    return Size(_by_quota(quota, period), _with_overhead(memory))


def _crio(annotations: dict[str, str]) -> Size:
    for name in POD_RESOURCES:
        try:
            values = json.loads(annotations.get(name) or "{}")
            numbers = [int(values.get(key) or 0) for key in ("cpu_quota", "cpu_period", "memory_limit_in_bytes")]
        except (ValueError, TypeError, AttributeError):
            raise ConfigError(f"config.json: $.annotations[{name!r}]: not an object of numbers") from None
        if any(numbers):
            return Size(_by_quota(numbers[0], numbers[1]), _with_overhead(numbers[2]))
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


def _host_memory_mib() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // _MIB
