"""Making a container: config.json and a bundle in, a created container out. What fails half-way is undone by ``remove``."""

import os
from typing import Any, NamedTuple

from runv import cgroups, limits
from runv.agent.client import Agent
from runv.errors import AgentError, AgentLostError, ConfigError, StateError, VmError
from runv.files import locked_folder, write_atomic
from runv.idmaps import with_root
from runv.log import Log
from runv.network.lend import Loan
from runv.network.wire import Wiring
from runv.processes import Identity
from runv.sandbox import hookpoints, join, making, view, wishes
from runv.sandbox.connection import connect
from runv.sandbox.filters import built
from runv.sandbox.layout import SandboxFolder
from runv.sandbox.links import network
from runv.sandbox.links.netrecord import NetRecord
from runv.sandbox.machine import boot
from runv.sandbox.machine.fresh import own_setup, share_setup
from runv.sandbox.machine.size import Size, machine_size, most
from runv.sandbox.process import Options, guest_process, open_terminal
from runv.sandbox.remove import kill_processes, remove
from runv.sandbox.residents import notify, relay, standin
from runv.sandbox.storage import disks
from runv.sandbox.waiting.pool import take, wake
from runv.settings import Settings
from runv.spec.annotations import is_infra
from runv.spec.config import Config, Document
from runv.spec.infra import settle_infra
from runv.state import Container, check_id, make_root
from runv.storage import plan as storage
from runv.storage.devices import DevicePlan, place_devices, plan_devices
from runv.storage.images import merge
from runv.storage.memory import share_of
from runv.vm.namespace import add_binds
from runv.vm.qemu import Bind


class _Plan(NamedTuple):
    """Everything decided before anything is made."""

    document: Document
    storage: storage.StoragePlan
    devices: DevicePlan
    opened: disks.Opened
    wanted: boot.Wanted
    groups: list[str]
    host: Container | None
    network: str
    loans: list[Loan]
    options: Options
    pool: str  # the folder of machines of which one might do; empty for none


def create(root: str, container_id: str, options: Options, settings: Settings, log: Log) -> Identity:
    """Creates a container; returns its stand-in, the process engines know it by.

    :raise RunvError: it could not; nothing is left of it then
    """
    check_id(container_id)
    container = Container(root, container_id)
    plan = _plan(container, options, settings, log)
    try:
        container.reserve()
        with locked_folder(container.folder):
            try:
                return _make(container, plan, log)
            except BaseException:
                remove(container)
                raise
    finally:
        plan.opened.close()
        for fd in plan.storage.held:
            os.close(fd)


def _plan(container: Container, options: Options, settings: Settings, log: Log) -> _Plan:
    document = settle_infra(making.read_bundle(options.bundle))
    config = document.config
    if config.process is None:
        raise ConfigError("config.json: $.process is needed to create a container")
    making.check_terminal(config, options)
    make_root(container.root)
    host = join.find_host(container.root, config)
    network = join.network_path(config)
    if network:
        join.check_network(network)
    relative = cgroups.relative_path(config.linux.cgroups_path, container.id, systemd=options.systemd_cgroup)
    planned = storage.plan(container.id, options.bundle, config, document.raw)
    devices = plan_devices(config, document.raw, planned.disks)
    if devices.pci and host is not None:
        raise ConfigError(f"cannot pass {', '.join(devices.pci)} through: the sandbox runs already")
    settings = wishes.with_annotations(wishes.with_vm(settings, config), config)
    size = machine_size(config, Size(settings.number("vcpus"), settings.number("memory_mib")))
    largest = most(config, size, Size(settings.number("vcpus_max"), settings.number("memory_max_mib")))
    wanted = boot.settle(settings, size, largest, passes_through=bool(devices.pci))
    log.debug(f"accelerator {wanted.accelerator}, transport {wanted.transport}, share {wanted.share}, {wanted.kind}")
    return _Plan(
        document=document,
        storage=notify.with_socket(planned, container) if notify.wanted() else planned,
        devices=devices,
        wanted=wanted,
        groups=cgroups.plan(relative),
        host=host,
        network=network,
        loans=making.loans_of(config),
        options=options,
        pool=settings.text("pool_folder") if host is None and not network and planned.shared and _is_usual(config, devices) else "",
        # Last: from here on there is something to close.
        opened=disks.Opened(merge([*planned.disks, *devices.disks]), _disks_of(host)),
    )


def _is_usual(config: Config, devices: DevicePlan) -> bool:
    """Whether what is decided when QEMU starts is as it is for most."""
    return not devices.pci and wishes.memory_policy(config) is None


def _disks_of(host: Container | None) -> dict[str, bool]:
    return disks.used(SandboxFolder(host.root, host.load().sandbox)) if host is not None else {}


def _make(container: Container, plan: _Plan, log: Log) -> Identity:
    config = plan.document.config
    sandbox = making.sandbox_of(container, plan.host)
    record = making.write_down(container, sandbox, plan.document, plan.options, plan.groups, rootfs=plan.storage.rootfs)
    if notify.wanted():
        notify.prepare(container)
    late = making.enter_cgroups(record, config, _extra(plan))
    waited = bool(plan.pool) and take(plan.pool, sandbox, lambda: boot.describe(plan.wanted))
    namespace = network.namespace_of(sandbox) if waited else making.namespace_for(plan.network, plan.host)
    standing = making.stand_in(container, plan.wanted.standin, config, plan.options, plan.groups, namespace)
    agent = _enter_sandbox(container, sandbox, plan, standing.identity, log, waited=waited)
    try:
        mounts = _carry(container, sandbox, agent, plan, standing.identity)
        unwatched = _watch(container, sandbox, agent, plan)
        _share_memory(agent, plan)
        terminal = _create_in_guest(container, sandbox, agent, plan, mounts, log)
        view.show(standing.identity, config, _binds(plan), container.folder)
        making.hand_over(standing, agent, container, terminal, cgroups.memory_folder(plan.groups), brings_machine=plan.host is None)
    finally:
        agent.close()
    cgroups.apply(plan.groups, late)
    making.make_ready(container, plan.options, standing)
    # Only now: Podman takes the log of a failure for one message.
    if unwatched:
        log.warning(unwatched)
    for sentence in wishes.ignored(config, plan.document.raw, joins=plan.host is not None) + plan.devices.ignored:
        log.warning(f"config.json: {sentence}")
    return standing.identity


def _extra(plan: _Plan) -> limits.Extra:
    if plan.host is not None:
        return limits.of_standin()
    return limits.of_machine(plan.wanted.memory_mib, plan.wanted.vcpus, cloned_mib=plan.wanted.memory_mib if plan.wanted.templates else 0)


def _binds(plan: _Plan) -> list[Bind]:
    binds = [Bind(*shared) for shared in plan.storage.shared]
    if plan.wanted.share != "9p":
        return binds
    return [bind._replace(idmap=with_root(bind.idmap)) if bind.idmap is not None else bind for bind in binds]


def _enter_sandbox(
    container: Container, sandbox: SandboxFolder, plan: _Plan, process: Identity, log: Log, *, waited: bool
) -> Agent:
    if plan.host is not None:
        hookpoints.at_creation(container, plan.document.config, process.pid)
        return _enter_existing(container, sandbox, plan)
    if not waited:
        for folder in (sandbox.folder, sandbox.path("members"), sandbox.path("share")):
            os.mkdir(folder, 0o700)
    with locked_folder(sandbox.folder):
        write_atomic(sandbox.path("members", container.id), "")
        # Engines fill the namespace before they call us, or from a hook: what is there after the hooks the machine starts with.
        hookpoints.at_creation(container, plan.document.config, process.pid)
        network.begin(sandbox, process.pid, plan.network, plan.loans)
        if waited:
            try:
                return _enter_waiting(container, sandbox, plan)
            except (AgentLostError, VmError) as error:
                log.warning(f"the machine that waited is of no use ({error}); another one is made")
                kill_processes(sandbox)
        wiring = network.bring_in(sandbox, process.pid, plan.wanted.vcpus, spare=not plan.options.starts)
        try:
            return _boot(container, sandbox, plan, process, wiring, log)
        finally:
            wiring.close()


def _enter_waiting(container: Container, sandbox: SandboxFolder, plan: _Plan) -> Agent:
    """:raise AgentLostError: the machine has died, or does not wake up"""
    qemu = wake(sandbox, container.id, plan.groups)
    add_binds(qemu, sandbox.path("share"), _binds(plan))
    agent = connect(sandbox)
    try:
        disks.attach(sandbox, disks.write_down(sandbox, container.id, plan.opened))
        agent.call("setup", _own(plan))
        network.bring_new(sandbox, agent)
    except BaseException:
        agent.close()
        raise
    return agent


def _boot(
    container: Container, sandbox: SandboxFolder, plan: _Plan, process: Identity, wiring: Wiring, log: Log
) -> Agent:
    policy = wishes.memory_policy(plan.document.config)
    host = boot.Host(plan.groups, process.pid, wiring.cards, policy, plan.devices.pci)
    launched = boot.launch(sandbox, plan.wanted, host, container.id, _binds(plan))
    agent = boot.wait(launched, log)
    try:
        disks.attach(sandbox, disks.write_down(sandbox, container.id, plan.opened))
        agent.call("setup", {**_own(plan), **_share(sandbox, plan), **wiring.setup})
    except BaseException:
        agent.close()
        raise
    return agent


def _enter_existing(container: Container, sandbox: SandboxFolder, plan: _Plan) -> Agent:
    try:
        with locked_folder(sandbox.folder):
            qemu = sandbox.process("qemu.pid")
            if qemu is None or not sandbox.alive():
                raise StateError(f"cannot join sandbox {sandbox.name}: it has ended")
            write_atomic(sandbox.path("members", container.id), "")
            _share_processors(container.root, sandbox)
            network.borrow(NetRecord(sandbox), network.namespace_of(sandbox), plan.loans)
            add_binds(qemu, sandbox.path("share"), _binds(plan))
            disks.attach(sandbox, disks.write_down(sandbox, container.id, plan.opened))
            return _with_share(sandbox, plan)
    except FileNotFoundError:
        raise StateError(f"cannot join sandbox {sandbox.name}: it has ended") from None


def _with_share(sandbox: SandboxFolder, plan: _Plan) -> Agent:
    """A connection, once the guest has the share, if the container needs it: those before may have had no use for it."""
    agent = connect(sandbox)
    if plan.storage.shared and not os.path.exists(sandbox.path("shared")):
        try:
            agent.call("setup", share_setup(sandbox, sandbox.load().machine.get("share", plan.wanted.share)))
        except BaseException:
            agent.close()
            raise
    return agent


def _share_processors(root: str, sandbox: SandboxFolder) -> None:
    """The machine runs in the cgroup of the container it was made for; that one's quota is not to hold for others."""
    try:
        owner = Container(root, sandbox.load().container).load()
    except StateError:
        return  # deleted before: it was lifted when the first one joined, or its machine's cgroups are anybody's
    cgroups.apply([group for group in owner.groups if os.path.isdir(group)], limits.without_quota())


def _own(plan: _Plan) -> dict[str, Any]:
    hostname = plan.document.config.hostname
    return {**own_setup(), "hostname": hostname} if hostname else own_setup()


def _share(sandbox: SandboxFolder, plan: _Plan) -> dict[str, Any]:
    """Nothing where the container needs no share: a machine that has one cannot be saved."""
    return share_setup(sandbox, plan.wanted.share) if plan.storage.shared else {}


def _carry(
    container: Container, sandbox: SandboxFolder, agent: Agent, plan: _Plan, process: Identity
) -> list[dict[str, Any]]:
    """Starts what carries connections from inside; the mounts, complete."""
    place = relay.Place(plan.wanted.relay, plan.groups, process.pid, sandbox.path("relay.pid"), sandbox.name)
    if plan.host is None:
        relay.carry_resolver(agent, place)
    if not plan.storage.carried:
        return plan.storage.mounts
    place = place._replace(pid_file=container.path("relay.pid"), label=container.id)
    sources = relay.carry(agent, plan.storage.carried, place)
    return [
        {**mount, "source": sources[index]} if index in sources else mount
        for index, mount in enumerate(plan.storage.mounts)
    ]


def _watch(container: Container, sandbox: SandboxFolder, agent: Agent, plan: _Plan) -> str:
    """Has the container told of what the host changes in its shared folders; a sentence about what is missing of it."""
    shared = [entry for entry in plan.storage.shared if entry.name != f"{container.id}/rootfs"]
    qemu = sandbox.process("qemu.pid")
    if not plan.wanted.watch or not shared or qemu is None:
        return ""
    from runv.sandbox.residents import watch

    return watch.start(
        plan.wanted.watch,
        agent,
        shared,
        kind=plan.wanted.share,
        share=sandbox.path("share"),
        qemu=qemu,
        groups=plan.groups,
        pid_file=container.path("watch.pid"),
        label=container.id,
    )


def _share_memory(agent: Agent, plan: _Plan) -> None:
    for memory in plan.storage.memory:
        try:
            agent.call("setup", {"shares": [share_of(memory)]})
        except AgentError as error:
            if error.kind != "exists":  # then another container of the pod has brought it
                raise


def _create_in_guest(
    container: Container, sandbox: SandboxFolder, agent: Agent, plan: _Plan, mounts: list[dict[str, Any]], log: Log
) -> standin.Terminal:
    raw, config = plan.document.raw, plan.document.config
    found, characters = disks.find(agent, plan.opened.wishes, plan.devices)
    placed = place_devices(plan.devices, found, characters)
    if placed.left_out:
        log.debug(f"left out devices that the guest does not have: {' '.join(placed.left_out)}")
    linux = {**(raw.get("linux") or {}), "devices": placed.devices}
    if linux.get("resources"):
        linux["resources"] = limits.for_guest({**linux["resources"], "devices": placed.rules}, config.oci_version)
    if linux.get("seccomp"):
        linux["seccomp"] = built(plan.wanted.filter, linux["seccomp"])
    linux["namespaces"] = join.guest_namespaces(container.root, config, plan.host, sandbox)
    oci = {
        "root": storage.placed_root(plan.storage, found),
        "process": guest_process(notify.with_variable(raw["process"]) if notify.wanted() else raw["process"]),
        "mounts": storage.placed_mounts(mounts, found),
        "linux": linux,
    } | hookpoints.for_guest(container, raw)
    for name in ("hostname", "domainname"):
        if raw.get(name):
            oci[name] = raw[name]
    if is_infra(config.annotations or {}):
        oci["pause"] = True
    agent.call("create", {"container": container.id, "oci": oci})
    return open_terminal(config.process, plan.options) if config.process else standin.Terminal("none")
