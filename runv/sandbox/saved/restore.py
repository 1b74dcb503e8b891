"""``restore``: a machine that was saved goes on, with its containers, in a sandbox of its own.

The first container that is restored brings the machine. The others of its pod go on in it, and are restored by a call each, with a bundle that joins
the first one's sandbox as it would at ``create``; until then their output waits in the guest.
"""

import json
import os
from typing import Any, NamedTuple

from runv import cgroups, limits
from runv.agent.client import Agent
from runv.errors import ConfigError, StateError
from runv.files import locked_folder, read_text, write_atomic
from runv.log import Log
from runv.processes import Identity
from runv.sandbox import hookpoints, join, making, view, wishes
from runv.sandbox.connection import connect
from runv.sandbox.layout import SandboxFolder
from runv.sandbox.links import network
from runv.sandbox.machine import boot
from runv.sandbox.machine.size import Size
from runv.sandbox.machine.wanted import SHAPE, Wanted, settle, shape_of
from runv.sandbox.process import Options, open_terminal
from runv.sandbox.remove import remove
from runv.sandbox.saved import image, programs
from runv.sandbox.saved.comeback import Source, begin_anew, come_back, greeted
from runv.sandbox.saved.image import Saved, SavedContainer
from runv.sandbox.saved.placing import Placing
from runv.sandbox.storage import disks
from runv.settings import Settings
from runv.spec.config import Config, Document
from runv.spec.infra import settle_infra
from runv.state import Container, check_id, make_root, timestamp
from runv.storage.places import disk_paths

# What the kernel calls a file without a name.
_NAMELESS = " (deleted)"


class Request(NamedTuple):
    """``folder``: the checkpoint. ``source``: which of its containers it is; empty where that is plain. ``bundles``: those of the pod's other
    containers, by their ids, where their disks are not at their old places."""

    folder: str
    source: str = ""
    bundles: dict[str, str] = {}  # noqa: RUF012 - never changed


class _Plan(NamedTuple):
    """Everything decided before anything is made."""

    document: Document
    saved: Saved
    entry: SavedContainer
    host: Container | None
    network: str
    groups: list[str]
    wanted: Wanted
    paths: dict[str, str]
    options: Options
    folder: str


def restore(root: str, container_id: str, options: Options, request: Request, settings: Settings, log: Log) -> Identity:
    """Lets a container that was saved go on under ``container_id``; returns its stand-in.

    :raise RunvError: it could not; nothing is left of it then, and the checkpoint is as it was
    """
    check_id(container_id)
    container = Container(root, container_id)
    plan = _plan(container, options, request, settings)
    container.reserve()
    with locked_folder(container.folder):
        try:
            return _make(container, plan, log)
        except BaseException:
            remove(container)
            raise


def _plan(container: Container, options: Options, request: Request, settings: Settings) -> _Plan:
    saved = image.read(request.folder)
    document = settle_infra(making.read_bundle(options.bundle))
    config = document.config
    if config.process is None:
        raise ConfigError("config.json: $.process is needed to restore a container")
    making.check_terminal(config, options)
    entry = _entry(request, saved, container.id)
    if bool(entry.config.get("process", {}).get("terminal")) != config.process.terminal:
        raise ConfigError("config.json: $.process.terminal: must be as it was when the container was saved")
    make_root(container.root)
    host = join.find_host(container.root, config)
    netns = join.checked_network(config)
    relative = cgroups.relative_path(config.linux.cgroups_path, container.id, systemd=options.systemd_cgroup)
    return _Plan(
        document=document,
        saved=saved,
        entry=entry,
        host=host,
        network=netns,
        groups=cgroups.plan(relative),
        wanted=_wanted(request.folder, saved, wishes.with_vm(settings, config)),
        paths=_paths(request, saved, entry, options.bundle, config),
        options=options,
        folder=request.folder,
    )


def _entry(request: Request, saved: Saved, container: str) -> SavedContainer:
    wanted = request.source or container
    found = next((entry for entry in saved.containers if entry.id == wanted), None)
    if found is None and not request.source and len(saved.containers) == 1:
        return saved.containers[0]
    if found is None:
        there = ", ".join(entry.id for entry in saved.containers)
        raise ConfigError(f"cannot restore from {request.folder}: there is no container {wanted} in it", hint=f"--from names one of {there}")
    return found


def _wanted(folder: str, saved: Saved, settings: Settings) -> Wanted:
    """The same machine, of this host's programs.

    :raise ConfigError: this host has others, or cannot run it
    """
    size, most = Size(saved.vcpus, saved.memory_mib), Size(saved.vcpus_max, saved.memory_max_mib)
    ours = settle(settings, size, most)
    for name in ("accelerator", "transport"):
        if getattr(ours, name) != saved.machine.get(name):
            raise ConfigError(f"cannot restore from {folder}: it was made with {name} {saved.machine.get(name)}, and here it is {getattr(ours, name)}")
    if programs.processor(ours.accelerator) != saved.processor:
        raise ConfigError(f"cannot restore from {folder}: it was made on another kind of processor")
    programs.check(folder, shape_of(ours), saved.programs)
    shape: dict[str, Any] = {name: saved.machine[name] for name in SHAPE if name in saved.machine and name not in programs.NAMES}
    if shape.keys() | {*programs.NAMES} != {*SHAPE}:
        raise ConfigError(f"cannot restore from {folder}: checkpoint.json is damaged: what shapes the machine is missing")
    return ours._replace(**shape, vcpus=saved.vcpus, memory_mib=saved.memory_mib, most=most, templates="")


def _paths(request: Request, saved: Saved, entry: SavedContainer, bundle: str, config: Config) -> dict[str, str]:
    """Where each disk of the machine is, or is to be.

    :raise ConfigError: a bundle has not as many disks as the container had
    """
    paths = {disk.serial: disk.path for disk in saved.disks}
    for other in saved.containers:
        place = bundle if other is entry else request.bundles.get(other.id, other.bundle)
        paths |= {serial: os.path.join(place, "") for serial in other.used if paths.get(serial, "").endswith(_NAMELESS)}
    for other in saved.containers:
        if other.id in request.bundles:
            given = request.bundles[other.id]
            paths |= _paired(other, disk_paths(given, settle_infra(making.read_bundle(given)).config))
    unknown = sorted(request.bundles.keys() - {other.id for other in saved.containers})
    if unknown:
        raise ConfigError(f"cannot restore from {request.folder}: there is no container {unknown[0]} in it")
    return paths | _paired(entry, disk_paths(bundle, config))


def _paired(entry: SavedContainer, paths: list[str]) -> dict[str, str]:
    if len(paths) != len(entry.disks):
        raise ConfigError(f"config.json: it names {len(paths)} disks, and container {entry.id} had {len(entry.disks)} when it was saved")
    return {serial: path for serial, path in zip(entry.disks, paths, strict=True) if serial}


def _make(container: Container, plan: _Plan, log: Log) -> Identity:
    config = plan.document.config
    sandbox = making.sandbox_of(container, plan.host)
    record = making.write_down(container, sandbox, plan.document, plan.options, plan.groups, rootfs="")
    if plan.entry.volumes:
        write_atomic(container.path("volumes.json"), plan.entry.volumes)
    late = making.enter_cgroups(record, config, _extra(plan))
    namespace = making.namespace_for(plan.network, plan.host)
    standing = making.stand_in(container, plan.wanted.standin, config, plan.options, plan.groups, namespace)
    agent = _enter(container, sandbox, plan, standing.identity, log)
    try:
        if container.id != plan.entry.id:
            agent.call("rename", {"container": plan.entry.id, "to": container.id})
        terminal = open_terminal(config.process, plan.options)
        view.show(standing.identity, config, [], container.folder)
        memory, own_pids = cgroups.memory_folder(plan.groups), join.has_own_pids(config)
        making.hand_over(standing, agent, container, terminal, memory, own_pids=own_pids, brings_machine=plan.host is None)
    finally:
        agent.close()
    cgroups.apply(plan.groups, late)
    if plan.entry.started:
        record.started = timestamp()
        container.save(record)
    if plan.entry.paused:
        write_atomic(container.path("paused"), "")
    _no_longer_waits(sandbox, plan.entry.id)
    making.make_ready(container, plan.options, standing)
    return standing.identity


def _extra(plan: _Plan) -> limits.Extra:
    if plan.host is not None:
        return limits.of_standin()
    return limits.of_machine(plan.wanted.memory_mib, plan.wanted.vcpus, cloned_mib=0)


def _enter(container: Container, sandbox: SandboxFolder, plan: _Plan, process: Identity, log: Log) -> Agent:
    if plan.host is not None:
        return _enter_restored(container, sandbox, plan, process)
    for folder in (sandbox.folder, sandbox.path("members"), sandbox.path("share"), sandbox.path("disks")):
        os.mkdir(folder, 0o700)
    with locked_folder(sandbox.folder):
        write_atomic(sandbox.path("members", container.id), "")
        write_atomic(sandbox.path("waiting.json"), json.dumps({entry.id: entry.used for entry in plan.saved.containers}))
        # Of those who wait, too: nobody else may take these disks for his.
        for entry in plan.saved.containers:
            name = container.id if entry is plan.entry else _waiting_name(entry.id)
            write_atomic(sandbox.path("disks", name), json.dumps(entry.used))
        hookpoints.at_creation(container, plan.document.config, process.pid)
        network.begin(sandbox, process.pid, plan.network, making.loans_of(plan.document.config))
        return _boot(container, sandbox, plan, process, log)


def _boot(container: Container, sandbox: SandboxFolder, plan: _Plan, process: Identity, log: Log) -> Agent:
    policy = wishes.memory_policy(plan.document.config)
    placing = Placing(plan.folder, plan.saved.disks, plan.paths)
    try:
        wiring, missing = network.bring_back(sandbox, process.pid, [(card.number, card.queues, card.link) for card in plan.saved.cards])
        disks.keep_names(sandbox, {disk.serial: plan.paths[disk.serial] for disk in plan.saved.disks})
        try:
            host = boot.Host(plan.groups, process.pid, wiring.cards, policy)
            agent = come_back(sandbox, Source(plan.folder, plan.saved, plan.wanted), host, container.id, placing.plugged)
        finally:
            wiring.close()
        try:
            begin_anew(sandbox, agent, wiring.setup)
        except BaseException:
            agent.close()
            raise
        placing.keep()
    finally:
        placing.close()
    for link in missing:
        log.warning(f"the container had a network link {link}, and there is none in its network namespace")
    return agent


def _enter_restored(container: Container, sandbox: SandboxFolder, plan: _Plan, process: Identity) -> Agent:
    """A further container of a machine that was restored for its first one."""
    hookpoints.at_creation(container, plan.document.config, process.pid)
    try:
        with locked_folder(sandbox.folder):
            if plan.entry.id not in _waiting(sandbox):
                raise StateError(f"cannot restore container {plan.entry.id} into sandbox {sandbox.name}: it does not wait there")
            write_atomic(sandbox.path("members", container.id), "")
            os.rename(sandbox.path("disks", _waiting_name(plan.entry.id)), sandbox.path("disks", container.id))
            return greeted(connect(sandbox))
    except FileNotFoundError:
        raise StateError(f"cannot join sandbox {sandbox.name}: it has ended") from None


def _waiting_name(container: str) -> str:
    """What the disks of a container that waits are written down as: no container's id."""
    return f"@{container}"


def _waiting(sandbox: SandboxFolder) -> dict[str, dict[str, bool]]:
    try:
        return dict(json.loads(read_text(sandbox.path("waiting.json"))))
    except FileNotFoundError:
        return {}


def _no_longer_waits(sandbox: SandboxFolder, container: str) -> None:
    with locked_folder(sandbox.folder):
        left = _waiting(sandbox)
        left.pop(container, None)
        write_atomic(sandbox.path("waiting.json"), json.dumps(left))
