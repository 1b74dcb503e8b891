"""The second half of a creation, from a stand-in that waits to a container whose program does: its sandbox, what is carried into it, and the container
in the guest. Nothing here is needed before the stand-in is started, and it is imported while that is on its way."""

from runv import cgroups, limits
from runv.agent.client import Agent
from runv.errors import AgentError, RunvError
from runv.log import Log
from runv.processes import Identity
from runv.quick import Any
from runv.sandbox import hookpoints, join, making, notified, view
from runv.sandbox.connection import connect
from runv.sandbox.entering import enter
from runv.sandbox.filters import Filter
from runv.sandbox.layout import SandboxFolder
from runv.sandbox.planning import Plan
from runv.sandbox.process import guest_process, open_terminal
from runv.sandbox.residents import relay, standin
from runv.sandbox.storage import disks
from runv.spec.annotations import is_infra
from runv.spec.config import Config
from runv.state import Container
from runv.storage import plan as storage
from runv.storage.devices import place_devices
from runv.storage.memory import share_of

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from collections.abc import Callable


def complete(
    container: Container, sandbox: SandboxFolder, plan: Plan, standing: standin.Standin, seccomp: Filter, log: Log, *, waited: bool
) -> tuple[str, Agent | None]:
    """Makes or joins the container's sandbox, makes the container in it, and gives the stand-in its process. Returns a sentence about what is missing, empty
    when nothing is; and where the start follows at once a connection for it, so that nobody has to wait for that then.

    :param waited: the sandbox is a machine that waited, taken for this container
    :raise RunvError: it could not be done
    """
    config = plan.document.config
    agent = enter(container, sandbox, plan, standing.identity, log, waited=waited)
    starter = None
    try:
        mounts = _carry(container, sandbox, agent, plan, standing.identity)
        unwatched = _watch(container, sandbox, agent, plan)
        _share_memory(agent, plan)
        request = _request(container, sandbox, agent, plan, mounts, seccomp, log)
        _create_in_guest(agent, request, config, lambda: view.show(standing.identity, config, plan.binds, container.folder), view.needs_guest(config, plan.binds))
        terminal = open_terminal(config.process, plan.options) if config.process else standin.Terminal("none")
        memory, own_pids = cgroups.memory_folder(plan.groups), join.has_own_pids(config)
        if plan.options.starts:
            starter = connect(sandbox)
        making.hand_over(standing, agent, container, terminal, memory, own_pids=own_pids, brings_machine=plan.host is None)
    except BaseException:
        if starter is not None:
            starter.close()
        raise
    finally:
        agent.close()
    return unwatched, starter


def _carry(
    container: Container, sandbox: SandboxFolder, agent: Agent, plan: Plan, process: Identity
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


def _create_in_guest(agent: Agent, request: dict[str, Any], config: Config, show: "Callable[[], None]", shows_last: bool) -> None:
    """Has the guest make the container, and meanwhile does what need not wait for that."""
    agent.post("create", request)
    try:
        if config.process is None or not config.process.terminal:
            agent.ask_streams(request["container"], "init", standin.STREAMS)
        if not shows_last:
            show()
    except RunvError:
        agent.take()  # what the guest has to say is told first
        raise
    agent.take()
    if shows_last:
        show()


def _request(
    container: Container,
    sandbox: SandboxFolder,
    agent: Agent,
    plan: Plan,
    mounts: list[dict[str, Any]],
    seccomp: Filter,
    log: Log,
) -> dict[str, Any]:
    """What the guest is to make; what of it only the guest knows is asked."""
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
        "process": guest_process(notified.with_variable(raw["process"]) if notified.wanted() else raw["process"]),
        "mounts": storage.placed_mounts(mounts, found),
        "linux": linux,
    } | hookpoints.for_guest(container, raw)
    for name in ("hostname", "domainname"):
        if raw.get(name):
            oci[name] = raw[name]
    if is_infra(config.annotations or {}):
        oci["pause"] = True
    return {"container": container.id, "oci": oci}
