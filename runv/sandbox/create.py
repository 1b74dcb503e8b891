"""Making a container: config.json and a bundle in, a created container out. What fails half-way is undone by ``remove``."""

import os
from typing import Any, NamedTuple

from runv import OCI_VERSION, cgroups, limits
from runv.agent.client import Agent
from runv.errors import AgentError, AgentLostError, ConfigError, StateError, VmError, reason
from runv.files import locked_folder, write_atomic
from runv.idmaps import with_root
from runv.log import Log
from runv.network import lend
from runv.network.lend import Loan
from runv.network.wire import Wiring
from runv.processes import Identity
from runv.sandbox import claims, hookpoints, join, view, wishes
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
from runv.settings import Settings, program
from runv.spec.annotations import is_infra
from runv.spec.config import Config, Document, parse_config
from runv.spec.infra import settle_infra
from runv.state import Container, ContainerRecord, check_id, make_root, timestamp
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


def read_bundle(bundle: str) -> Document:
    """config.json of a bundle, checked.

    :raise ConfigError: it is missing or wrong
    """
    path = os.path.join(bundle, "config.json")
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError as error:
        if not os.path.isdir(bundle):
            raise ConfigError(f"cannot open bundle {bundle}: no such file or directory") from error
        raise ConfigError(f"JSON specification file {path} not found", hint="`runv spec` writes one") from error
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {reason(error)}") from error
    return parse_config(data, "config.json")


def _plan(container: Container, options: Options, settings: Settings, log: Log) -> _Plan:
    document = settle_infra(read_bundle(options.bundle))
    config = document.config
    if config.process is None:
        raise ConfigError("config.json: $.process is needed to create a container")
    check_terminal(config, options)
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
        loans=loans_of(config),
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


def loans_of(config: Config) -> list[Loan]:
    """The devices of the host's that a container is to have.

    :raise HostError: one is not there
    """
    wanted = config.linux.net_devices or {}
    return [lend.plan(device, entry.name or device) for device, entry in wanted.items()]


def check_terminal(config: Config, options: Options) -> None:
    """:raise ConfigError: the process wants a terminal and there is none for it, or the other way round"""
    terminal = config.process is not None and config.process.terminal
    if options.foreground:
        if options.console_socket:
            raise ConfigError("cannot use console socket if runv will not detach or allocate tty")
        if terminal and not os.isatty(0):
            raise ConfigError("cannot allocate tty: standard input is not a terminal")
    elif terminal and not options.console_socket:
        raise ConfigError("cannot allocate tty if runv will detach without setting console socket")
    elif options.console_socket and not terminal:
        raise ConfigError("cannot use console socket if runv will not detach or allocate tty")


def _make(container: Container, plan: _Plan, log: Log) -> Identity:
    config = plan.document.config
    sandbox = _sandbox_for(container, plan)
    own = cgroups.own_folders(plan.groups, claims.claimed(container.root))
    record = ContainerRecord(
        id=container.id,
        sandbox=sandbox.name,
        bundle=plan.options.bundle,
        rootfs=plan.storage.rootfs,
        oci_version=config.oci_version or OCI_VERSION,
        created=timestamp(),
        annotations=config.annotations or {},
        groups=plan.groups,
        made_groups=own,
    )
    # From here on `delete --force` finds everything: it is written down before it is made.
    container.save(record)
    _save_config(container, plan)
    if notify.wanted():
        notify.prepare(container)
    cgroups.create(own)
    wanted = limits.settings(config.linux.resources, _extra(plan))
    cgroups.apply(plan.groups, [setting for setting in wanted if not setting.late])
    waited = bool(plan.pool) and take(plan.pool, sandbox, lambda: boot.describe(plan.wanted))
    standing = standin.start(
        plan.wanted.standin,
        container.id,
        pid_file=container.path("init.pid"),
        groups=plan.groups,
        network=network.namespace_of(sandbox) if waited else _network_of(plan),
        foreground_terminal=_foreground_terminal(plan),
        own_mounts=True,
    )
    agent = _enter_sandbox(container, sandbox, plan, standing.identity, log, waited=waited)
    try:
        mounts = _carry(container, sandbox, agent, plan, standing.identity)
        unwatched = _watch(container, sandbox, agent, plan)
        _share_memory(agent, plan)
        terminal = _create_in_guest(container, sandbox, agent, plan, mounts, log)
        view.show(standing.identity, config, _binds(plan), container.folder)
        hand_over(standing, agent, container, terminal, cgroups.memory_folder(plan.groups), brings_machine=plan.host is None)
    finally:
        agent.close()
    cgroups.apply(plan.groups, [setting for setting in wanted if setting.late])
    container.mark_ready()
    if plan.options.pid_file:
        write_atomic(plan.options.pid_file, str(standing.identity.pid), 0o644)
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


def _save_config(container: Container, plan: _Plan) -> None:
    import json

    write_atomic(container.path("config.json"), json.dumps(plan.document.raw))


def _sandbox_for(container: Container, plan: _Plan) -> SandboxFolder:
    if plan.host is None:
        return SandboxFolder(container.root, os.urandom(6).hex())
    return SandboxFolder(container.root, plan.host.load().sandbox)


def _foreground_terminal(plan: _Plan) -> bool:
    process = plan.document.config.process
    return plan.options.foreground and process is not None and process.terminal


def _network_of(plan: _Plan) -> str:
    """The namespace the stand-in joins: the given one, the sandbox's, or (empty) a new one."""
    if plan.network or plan.host is None:
        return plan.network
    host = plan.host.standin()
    return f"/proc/{host.pid}/ns/net" if host is not None and host.alive() else ""


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


def hand_over(
    standing: standin.Standin,
    agent: Agent,
    container: Container,
    terminal: standin.Terminal,
    memory_group: str,
    *,
    brings_machine: bool,
) -> None:
    """Gives a stand-in the container's first process, and its terminal. That of the container that brings the machine watches the network.

    :raise RunvError: as of ``standin.attach``
    """
    sync = (program(), "--root", container.root, "interface", "sync", container.id) if brings_machine else ()
    try:
        standin.attach(standing, agent, container.id, "init", terminal, memory_group=memory_group, sync=sync)
    finally:
        if terminal.fd >= 0:
            os.close(terminal.fd)
