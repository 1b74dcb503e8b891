"""Changing the limits of a container that runs, in the guest and on the host. Only what is given changes. The machine grows with what it is to hold."""

import contextlib
import json
from typing import Any

from runv import cgroups, limits
from runv.errors import ConfigError, NotFoundError, StateError
from runv.files import locked_folder, read_text, write_atomic
from runv.log import Log
from runv.sandbox.connection import connect
from runv.sandbox.layout import SandboxFolder, SandboxRecord
from runv.sandbox.machine.resize import extra_of, grow, needed, resources_of, settle, shrink
from runv.sandbox.machine.size import Size
from runv.spec.config import parse_resources
from runv.state import CREATING, STOPPED, Container, ContainerRecord

Raw = dict[str, Any]


def update(container: Container, wanted: Raw, log: Log) -> None:
    """Applies ``wanted`` (linux.resources, any part of it; zeroes and empty texts mean "as it is").

    :raise StateError: the container is not running
    :raise ConfigError: ``wanted`` is wrong, or more than the machine can hold
    :raise RunvError: the host or the guest refused; everything is as it was then
    """
    try:
        with locked_folder(container.folder):
            _update_locked(container, wanted, log)
    except FileNotFoundError:
        raise NotFoundError("container does not exist") from None


def _update_locked(container: Container, wanted: Raw, log: Log) -> None:
    record = container.load()
    if container.status(record)[0] in (CREATING, STOPPED):
        raise StateError("container not running")
    config = json.loads(read_text(container.path("config.json")))
    given = changes(wanted)
    merged = merge((config.get("linux") or {}).get("resources") or {}, given)
    sandbox = SandboxFolder(container.root, record.sandbox)
    with locked_folder(sandbox.folder):
        had = sandbox.load()
        size = _size(container, sandbox, had, merged)
        limit = (given.get("memory") or {}).get("limit") or 0
        if limit > had.memory_max_mib << 20:
            log.warning(f"the machine of container {container.id} has {had.memory_mib} MiB of memory, and cannot grow to as much")
        grow(sandbox, size)
        before: list[tuple[str, str]] = []
        try:
            before = cgroups.apply(record.groups, _host_settings(container, record, sandbox, merged, given))
            with connect(sandbox) as agent:
                agent.call("update", {"container": container.id, "resources": limits.for_guest(given, record.oci_version)})
            config.setdefault("linux", {})["resources"] = merged
            write_atomic(container.path("config.json"), json.dumps(config))
        except BaseException:
            cgroups.restore(before)
            shrink(sandbox, Size(had.vcpus, had.memory_mib), log)
            raise
        shrink(sandbox, size, log)


def _size(container: Container, sandbox: SandboxFolder, had: SandboxRecord, merged: Raw) -> Size:
    """What the machine is to be, of whole steps."""
    old = resources_of(read_text(container.path("config.json")))
    others = []
    for member in sandbox.members():
        with contextlib.suppress(FileNotFoundError):  # it is being made, or removed
            if member != container.id:
                others.append(resources_of(read_text(Container(container.root, member).path("config.json"))))
    return settle(had, needed(had, merged, old, others))


def changes(wanted: Raw) -> Raw:
    """What of ``wanted`` is a change. Unlimited memory brings unlimited swap with it, as runc has it. Pure.

    :raise ConfigError: it asks for what a guest cannot do
    """
    found: Raw = {}
    for section, value in wanted.items():
        if isinstance(value, dict):
            kept = {
                name: each
                for name, each in value.items()
                if each not in (0, "", None) or name in ("idle", "swappiness")
            }
            if kept:
                found[section] = kept
        elif value:
            found[section] = value
    memory = found.get("memory") or {}
    if memory.get("limit", 0) < 0 and "swap" not in memory:
        memory["swap"] = -1
    for name in ("realtimeRuntime", "realtimePeriod"):
        if name in (found.get("cpu") or {}):
            raise ConfigError(
                f"cannot set $.cpu.{name}: cgroups of version 2, as the guest has them, know no real-time limits"
            )
    return found


def merge(old: Raw, given: Raw) -> Raw:
    """``old`` with every member that ``given`` has. Pure."""
    merged = dict(old)
    for section, value in given.items():
        held = merged.get(section)
        merged[section] = held | value if isinstance(held, dict) and isinstance(value, dict) else value
    return merged


def _host_settings(
    container: Container, record: ContainerRecord, sandbox: SandboxFolder, merged: Raw, given: Raw
) -> list[limits.Setting]:
    # Whole sections: some files of the host's are made of two members.
    touched = {name: merged[name] for name in given}
    resources, _ = parse_resources(json.dumps(touched).encode(), "resources")
    machine = sandbox.load()
    own = machine.container == container.id
    extra = extra_of(machine) if own else limits.of_standin()
    wanted = limits.settings(resources, extra)
    # A quota does not hold on the host for a machine of several.
    alone = sandbox.members() == [container.id]
    return [setting for setting in wanted if alone or not setting.late]
