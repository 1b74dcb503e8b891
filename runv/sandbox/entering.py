"""Three ways for a container into a sandbox: into one that runs, into a machine that waited, or into a new one.

Docker's hook, which fills the network namespace, takes as long as a machine takes to come up. So what of a machine no hook can be about is
done while the first one runs; what is shared with it, and its links, are looked at when all have run.
"""

import os

from runv import cgroups, limits
from runv.agent.client import Agent
from runv.errors import AgentLostError, StateError, VmError
from runv.files import locked_folder, write_atomic
from runv.log import Log
from runv.network.wire import Wiring
from runv.processes import Identity
from runv.quick import Any
from runv.sandbox import hookpoints, wishes
from runv.sandbox.connection import connect
from runv.sandbox.layout import SandboxFolder
from runv.sandbox.links import network
from runv.sandbox.links.netrecord import NetRecord
from runv.sandbox.machine import boot
from runv.sandbox.machine.fresh import own_setup, share_setup
from runv.sandbox.planning import Plan
from runv.sandbox.remove import kill_processes
from runv.sandbox.storage import disks
from runv.sandbox.waiting.pool import wake
from runv.state import Container
from runv.vm.namespace import add_binds
from runv.vm.qemu import Bind


def enter(container: Container, sandbox: SandboxFolder, plan: Plan, process: Identity, log: Log, *, waited: bool) -> Agent:
    """Runs the hooks of the creation, and brings what the container is to have into its sandbox, which is made or joined.

    :param process: the container's stand-in
    :param waited: the sandbox is a machine that waited, taken for this container
    :raise RunvError: it could not be done
    """
    if plan.host is not None:
        hookpoints.at_creation(container, plan.document.config, process.pid)
        return _enter_existing(container, sandbox, plan)
    if not waited:
        for folder in (sandbox.folder, sandbox.path("members"), sandbox.path("share")):
            os.mkdir(folder, 0o700)
    with locked_folder(sandbox.folder):
        write_atomic(sandbox.path("members", container.id), "")
        way = _Waiting(container, sandbox, plan) if waited else _New(container, sandbox, plan, process)
        try:
            hookpoints.at_creation(container, plan.document.config, process.pid, way.begin)
            network.begin(sandbox, process.pid, plan.network, plan.loans)
            try:
                return way.finish(log)
            except (AgentLostError, VmError) as error:
                if not waited:
                    raise
                log.warning(f"the machine that waited is of no use ({error}); another one is made")
                kill_processes(sandbox)
            way.close()
            way = _New(container, sandbox, plan, process)
            return way.finish(log)
        finally:
            way.close()


class _Waiting:
    """Into a machine that waited: it is woken, and told what is its own, before the container's files and links come."""

    def __init__(self, container: Container, sandbox: SandboxFolder, plan: Plan) -> None:
        self._container = container
        self._sandbox = sandbox
        self._plan = plan
        self._agent: Agent | None = None
        self._failure: AgentLostError | VmError | None = None

    def begin(self) -> None:
        """Keeps for ``finish`` what another machine can make good."""
        try:
            wake(self._sandbox, self._container.id, self._plan.groups)
            self._agent = connect(self._sandbox)
            self._agent.call("setup", _own(self._plan))
        except (AgentLostError, VmError) as error:
            self._failure = error
        if hookpoints.any_at_creation(self._plan.document.config):
            network.expect_links()

    def finish(self, log: Log) -> Agent:
        """:raise AgentLostError: the machine has died, or does not wake up"""
        agent, qemu = self._agent, self._sandbox.process("qemu.pid")
        if self._failure is not None or agent is None or qemu is None:
            raise self._failure or AgentLostError("the container's sandbox has ended")
        add_binds(qemu, self._sandbox.path("share"), self._plan.binds)
        disks.attach(self._sandbox, disks.write_down(self._sandbox, self._container.id, self._plan.opened))
        network.bring_new(self._sandbox, agent)
        self._agent = None  # it is the caller's
        return agent

    def close(self) -> None:
        """Lets go of what came of it, if nobody has it."""
        if self._agent is not None:
            self._agent.close()
            self._agent = None


class _New:
    """Into a machine that is made. Where a hook may fill a namespace that is empty, it is made with a spare card while the hook runs."""

    def __init__(self, container: Container, sandbox: SandboxFolder, plan: Plan, process: Identity) -> None:
        self._container = container
        self._sandbox = sandbox
        self._plan = plan
        self._process = process
        self._wiring = Wiring()
        self._launched: boot.Launched | None = None
        # Of what a machine starts with, links and devices of the host's are a hook's to change.
        self._may_begin = not (plan.network or plan.loans or plan.devices.pci) and hookpoints.any_at_creation(plan.document.config)

    def begin(self) -> None:
        """Starts the machine, if that may be. What is in the namespace by now may be half of it: nobody looks."""
        if self._may_begin:
            self._launched = self._launch(network.prepare(self._sandbox, self._process.pid, self._plan.wanted.vcpus), [])
            network.expect_links()

    def finish(self, log: Log) -> Agent:
        """:raise RunvError: it does not come up, or something could not be brought in"""
        sandbox, plan = self._sandbox, self._plan
        early, self._launched = self._launched, None
        if early is None:
            wiring = network.bring_in(sandbox, self._process.pid, plan.wanted.vcpus, spare=not plan.options.starts)
        agent = boot.wait(early or self._launch(wiring, plan.binds), log)
        try:
            qemu = sandbox.process("qemu.pid")
            if early and qemu is not None:
                add_binds(qemu, sandbox.path("share"), plan.binds)
            disks.attach(sandbox, disks.write_down(sandbox, self._container.id, plan.opened))
            agent.call("setup", {**_own(plan), **_share(sandbox, plan), **self._wiring.setup})
            if early:
                network.bring_new(sandbox, agent)
        except BaseException:
            agent.close()
            raise
        return agent

    def _launch(self, wiring: Wiring, binds: list[Bind]) -> boot.Launched:
        plan, self._wiring = self._plan, wiring
        host = boot.Host(plan.groups, self._process.pid, wiring.cards, wishes.memory_policy(plan.document.config), plan.devices.pci)
        return boot.launch(self._sandbox, plan.wanted, host, self._container.id, binds)

    def close(self) -> None:
        """Lets go of what only its start needs, whether it was waited for or not."""
        if self._launched is not None:
            self._launched.origin.close()
        self._wiring.close()


def _enter_existing(container: Container, sandbox: SandboxFolder, plan: Plan) -> Agent:
    try:
        with locked_folder(sandbox.folder):
            qemu = sandbox.process("qemu.pid")
            if qemu is None or not sandbox.alive():
                raise StateError(f"cannot join sandbox {sandbox.name}: it has ended")
            write_atomic(sandbox.path("members", container.id), "")
            _share_processors(container.root, sandbox)
            network.borrow(NetRecord(sandbox), network.namespace_of(sandbox), plan.loans)
            add_binds(qemu, sandbox.path("share"), plan.binds)
            disks.attach(sandbox, disks.write_down(sandbox, container.id, plan.opened))
            return _with_share(sandbox, plan)
    except FileNotFoundError:
        raise StateError(f"cannot join sandbox {sandbox.name}: it has ended") from None


def _with_share(sandbox: SandboxFolder, plan: Plan) -> Agent:
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


def _own(plan: Plan) -> dict[str, Any]:
    hostname = plan.document.config.hostname
    return {**own_setup(), "hostname": hostname} if hostname else own_setup()


def _share(sandbox: SandboxFolder, plan: Plan) -> dict[str, Any]:
    """Nothing where the container needs no share: a machine that has one cannot be saved."""
    return share_setup(sandbox, plan.wanted.share) if plan.storage.shared else {}
