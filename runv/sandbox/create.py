"""Making a container: config.json and a bundle in, a created container out. What fails half-way is undone by ``remove``."""

from typing import Any

from runv import cgroups, limits
from runv.agent.client import Agent
from runv.errors import AgentError, HostError
from runv.files import locked_folder
from runv.log import Log
from runv.processes import Identity
from runv.sandbox import hookpoints, join, making, wishes
from runv.sandbox.filters import Filter
from runv.sandbox.layout import SandboxFolder
from runv.sandbox.links import network
from runv.sandbox.machine import boot
from runv.sandbox.planning import Plan, settle
from runv.sandbox.process import Options, guest_process, open_terminal
from runv.sandbox.remove import remove
from runv.sandbox.residents import notify, standin
from runv.sandbox.storage import disks
from runv.sandbox.waiting.pool import take
from runv.settings import Settings
from runv.spec.annotations import is_infra
from runv.state import Container, check_id
from runv.storage import plan as storage
from runv.storage.devices import place_devices
from runv.storage.memory import share_of


def create(root: str, container_id: str, options: Options, settings: Settings, log: Log) -> Identity:
    """Creates a container; returns its stand-in, the process engines know it by.

    :raise RunvError: it could not; nothing is left of it then
    """
    check_id(container_id)
    container = Container(root, container_id)
    plan = settle(container, options, settings, log)
    try:
        container.reserve()
        with locked_folder(container.folder):
            try:
                with Filter(plan.wanted.filter, plan.document.raw) as seccomp:
                    return _make(container, plan, seccomp, log)
            except BaseException:
                remove(container)
                raise
    finally:
        plan.close()


def _make(container: Container, plan: Plan, seccomp: Filter, log: Log) -> Identity:
    config = plan.document.config
    sandbox = making.sandbox_of(container, plan.host)
    record = making.write_down(container, sandbox, plan.document, plan.options, plan.groups, rootfs=plan.storage.rootfs)
    if notify.wanted():
        notify.prepare(container)
    late = making.enter_cgroups(record, config, plan.extra)
    waited = bool(plan.pool) and take(plan.pool, sandbox, lambda: boot.describe(plan.wanted))
    namespace = network.namespace_of(sandbox) if waited else making.namespace_for(plan.network, plan.host)
    standing = making.stand_in(container, plan.wanted.standin, config, plan.options, plan.groups, namespace, _import_the_rest)
    from runv.sandbox import view
    from runv.sandbox.entering import enter

    agent = enter(container, sandbox, plan, standing.identity, log, waited=waited)
    try:
        mounts = _carry(container, sandbox, agent, plan, standing.identity)
        unwatched = _watch(container, sandbox, agent, plan)
        _share_memory(agent, plan)
        terminal = _create_in_guest(container, sandbox, agent, plan, mounts, seccomp, log)
        view.show(standing.identity, config, plan.binds, container.folder)
        memory, own_pids = cgroups.memory_folder(plan.groups), join.has_own_pids(config)
        making.hand_over(standing, agent, container, terminal, memory, own_pids=own_pids, brings_machine=plan.host is None)
    finally:
        agent.close()
    cgroups.apply(plan.groups, late)
    making.make_ready(container, plan.options, standing)
    if plan.rehearses:
        _translate(plan.wanted, log)
    # Only now: Podman takes the log of a failure for one message.
    if unwatched:
        log.warning(unwatched)
    for sentence in wishes.ignored(config, plan.document.raw, joins=plan.host is not None) + plan.devices.ignored:
        log.warning(f"config.json: {sentence}")
    return standing.identity


def _translate(wanted: boot.Wanted, log: Log) -> None:
    """The machines that follow are to have it easier. What cannot be made is no reason to fail."""
    if boot.taken(wanted):
        return
    from runv.sandbox.rehearsal import translate

    try:
        translate.begin(wanted)
    except (OSError, HostError) as error:
        log.debug(f"nobody can be asked to keep what is translated: {error}")


def _import_the_rest() -> None:
    """What is needed after the stand-in is there, or while hooks run: a fifth of all that is to be imported."""
    import runv.network.look
    import runv.network.taps
    import runv.sandbox.entering
    import runv.sandbox.residents.relay
    import runv.sandbox.view  # noqa: F401


def _carry(
    container: Container, sandbox: SandboxFolder, agent: Agent, plan: Plan, process: Identity
) -> list[dict[str, Any]]:
    """Starts what carries connections from inside; the mounts, complete."""
    from runv.sandbox.residents import relay

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


def _watch(container: Container, sandbox: SandboxFolder, agent: Agent, plan: Plan) -> str:
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


def _share_memory(agent: Agent, plan: Plan) -> None:
    for memory in plan.storage.memory:
        try:
            agent.call("setup", {"shares": [share_of(memory)]})
        except AgentError as error:
            if error.kind != "exists":  # then another container of the pod has brought it
                raise


def _create_in_guest(
    container: Container,
    sandbox: SandboxFolder,
    agent: Agent,
    plan: Plan,
    mounts: list[dict[str, Any]],
    seccomp: Filter,
    log: Log,
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
        linux["seccomp"] = seccomp.take()
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
