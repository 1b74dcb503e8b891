"""Starting a sandbox's machine and waiting until its agent answers: QEMU, the bridge, virtiofsd, in this order."""

import os
import time

from runv import cgroups
from runv.agent.carrier import CONTROL_PORT
from runv.agent.client import Agent
from runv.errors import AgentError, AgentLostError, BootError
from runv.files import listen_unix, read_text
from runv.log import Log
from runv.network.wire import Card
from runv.processes import exit_status, spawn
from runv.quick import NamedTuple, socket
from runv.sandbox.connection import carrier_of
from runv.sandbox.layout import SandboxFolder, SandboxRecord
from runv.sandbox.links.cards import nic_of
from runv.sandbox.machine import origin as origins
from runv.sandbox.machine.origin import Origin
from runv.sandbox.machine.shape import machine_of, shape
from runv.sandbox.machine.wanted import Wanted, shape_of
from runv.sandbox.remove import kill_processes
from runv.vm import host_devices, qemu, template, translations, virtiofsd
from runv.vm.machine import Machine, Transport
from runv.vm.qemu import Bind

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from collections.abc import Callable

# A clone answers in a tenth of a second, or never.
_CLONE_TIMEOUT_S = 15
# Its connections end a moment before QEMU does.
_END_TIMEOUT_S = 1.0
# QEMU's status when the guest has powered off or reset itself, as after a panic.
_GUEST_RESET = 0
_CONSOLE_LINES = 12


class Host(NamedTuple):
    """Where on the host the machine's processes are to sit, and the network cards it starts with.
    ``memory_policy``: set_mempolicy(2)'s mode and nodes for QEMU. ``pci``: the addresses of devices of the host's that it gets as they are."""

    groups: list[str]
    netns_pid: int
    cards: tuple[Card, ...] = ()
    memory_policy: tuple[int, set[int]] | None = None
    pci: tuple[str, ...] = ()


class Come(NamedTuple):
    """How a machine comes to be that was saved. ``secret``: what its agent was claimed with. ``origin`` of what it is to be; ``ready`` gets the descriptor
    of the serial link before the bridge does, when QEMU runs."""

    secret: str
    origin: "Callable[[Machine], Origin]"
    ready: "Callable[[int], None]"


class Launched(NamedTuple):
    """A machine on its way up: everything needed to wait for it, and to start it once more."""

    sandbox: SandboxFolder
    wanted: Wanted
    host: Host
    container: str
    binds: list[Bind]
    record: SandboxRecord
    origin: Origin


def launch(
    sandbox: SandboxFolder, wanted: Wanted, host: Host, container: str, binds: list[Bind], come: Come | None = None
) -> Launched:
    """Starts the machine's processes and does not wait for the guest. ``come``: how it comes to be, where it does not boot and is no clone.

    :raise VmError, HostError: a process could not be started
    """
    record, origin = _start(sandbox, wanted, host, container, binds, come)
    return Launched(sandbox, wanted, host, container, binds, record, origin)


def wait(machine: Launched, log: Log) -> Agent:
    """Waits until the agent answers, and claims it. A clone that does not is given up for a machine that boots; one that hangs or resets while it
    boots is tried once more.

    :raise BootError: it did not come up; the message has the end of its console
    """
    tried = False
    while True:
        cloned = machine.origin.template
        limit_s = _CLONE_TIMEOUT_S if cloned else machine.wanted.boot_timeout_s
        deadline = time.monotonic() + limit_s
        try:
            with machine.origin:
                return _come_up(machine, deadline, log)
        except AgentLostError as error:
            # See docs/kernel.md on calibration. Not by looking for the process: its connections end a moment before it does.
            hangs = time.monotonic() >= deadline
            failure = BootError(_boot_message(machine.sandbox, hangs, machine.wanted, error))
            status = None if hangs else _end_of(machine.sandbox)
            kill_processes(machine.sandbox)
            # Not one that somebody killed who wants no machine any more (`delete --force`), nor a QEMU that cannot start.
            if cloned and (hangs or (status is not None and status >= 0)):
                log.warning(f"template {cloned.name} does not start ({error}); it is made anew")
                template.discard(cloned)
                translations.discard(machine.origin.machine.translations)
            elif cloned or tried or not (hangs or status == _GUEST_RESET):
                raise failure from error
            else:
                log.debug(f"the guest {'did not answer in time' if hangs else 'ended'}; starting it once more")
                translations.discard(machine.origin.machine.translations)
                tried = True
        machine = launch(machine.sandbox, machine.wanted, machine.host, machine.container, machine.binds)


def _end_of(sandbox: SandboxFolder) -> int | None:
    """QEMU's exit status, negative for a signal; None when it runs."""
    qemu = sandbox.process("qemu.pid")
    return exit_status(qemu, _END_TIMEOUT_S) if qemu is not None else None


def _come_up(machine: Launched, deadline: float, log: Log) -> Agent:
    sandbox, record, origin = machine.sandbox, machine.record, machine.origin
    if origin.template:
        log.debug(f"a clone of template {origin.template.name}")
        return _first_connection(sandbox, record, deadline)
    # asyncio and qemu.qmp load while the guest boots: afterwards their import would be seen.
    from runv.vm import qmp

    if origin.records or machine.wanted.keeps:
        # Before anybody claims the agent: clones are claimed by their own hosts.
        carrier = carrier_of(sandbox, record)
        with carrier.connect(CONTROL_PORT, b"", deadline, sandbox.alive) as link:
            carrier.confirm(link)
    if origin.records:
        origin.save(sandbox.path("qmp.sock"), log)
    if machine.wanted.keeps:
        qmp.keep_anew(sandbox.path("qmp.sock"))
    agent = _first_connection(sandbox, record, deadline)
    try:
        qmp.settle(sandbox.path("qmp.sock"))
    except BaseException:
        agent.close()
        raise
    return agent


def _start(
    sandbox: SandboxFolder, wanted: Wanted, host: Host, container: str, binds: list[Bind], come: Come | None = None
) -> tuple[SandboxRecord, Origin]:
    for name in ("agent.sock", "qmp.sock", "fs.sock"):
        if os.path.exists(sandbox.path(name)):
            os.unlink(sandbox.path(name))
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    console = os.open(
        sandbox.path("console.log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600
    )
    qmp = listen_unix(sandbox.path("qmp.sock"))
    opened = [null, console]
    try:
        if wanted.transport == "vsock":
            device, cid = host_devices.claim_cid()
            opened.append(device)
            record = _record(wanted, container, "vsock", cid)
            transport = Transport("vsock", device, cid)
        else:
            near, far = socket.socketpair()
            record = _record(wanted, container, "serial", 0)
            transport = Transport("serial", far.detach())
            opened += [transport.fd, near.detach()]
        if come is not None:
            record.secret = come.secret
        sandbox.save(record)
        # Anew for each try: what a QEMU that ended has claimed is of no use to another.
        nics = tuple(nic_of(card) for card in host.cards)
        opened[:0] = [fd for nic in nics for fd in nic.vhost_fds]
        machine = machine_of(sandbox, wanted, transport, qmp.fileno(), console)._replace(nics=nics, pci=host.pci)
        if wanted.translations and not wanted.keeps:
            machine = machine._replace(translations=translations.find(wanted.translations, machine, wanted.translations_name, ""))
        origin = come.origin(machine) if come is not None else origins.choose(machine, wanted.templates)
        try:
            _start_processes(sandbox, origin.machine, wanted, host, binds, opened, null, come)
        except BaseException:
            origin.close()
            raise
    finally:
        qmp.close()
        for fd in opened:
            os.close(fd)
    return record, origin


def _record(wanted: Wanted, container: str, transport: str, cid: int) -> SandboxRecord:
    return SandboxRecord(
        secret=os.urandom(32).hex(),
        transport=transport,
        cid=cid,
        container=container,
        vcpus=wanted.vcpus,
        memory_mib=wanted.memory_mib,
        boot_mib=wanted.memory_mib,
        vcpus_max=wanted.most.vcpus,
        memory_max_mib=wanted.most.memory_mib,
        cloned=bool(wanted.templates),
        machine=shape_of(wanted),
        keeps=translations.path_of(wanted.translations, shape(wanted), wanted.translations_name) if wanted.keeps else "",
    )


def _start_processes(
    sandbox: SandboxFolder,
    machine: Machine,
    wanted: Wanted,
    host: Host,
    binds: list[Bind],
    opened: list[int],
    null: int,
    come: Come | None,
) -> None:
    listener = listen_unix(sandbox.path("fs.sock")) if wanted.virtiofsd is not None else None
    share = sandbox.path("share")
    process = qemu.start(
        machine,
        share=share,
        binds=binds,
        groups=host.groups,
        netns_pid=host.netns_pid,
        pid_file=sandbox.path("qemu.pid"),
        null_fd=null,
        memory_policy=host.memory_policy,
    )
    if wanted.transport == "serial":
        if come is not None:
            come.ready(opened[-1])
        _start_bridge(sandbox, wanted.bridge, host.groups, opened[-1], null)
    if wanted.virtiofsd is not None and listener is not None:
        virtiofsd.start(
            wanted.virtiofsd,
            share,
            listener,
            qemu_pid=process.pid,
            groups=host.groups,
            pid_file=sandbox.path("virtiofsd.pid"),
            null_fd=null,
            shim=wanted.qemu_shim,
        )
        listener.close()


def _start_bridge(sandbox: SandboxFolder, program: str, groups: list[str], link: int, null: int) -> None:
    with listen_unix(sandbox.path("agent.sock")) as listener:
        fd = listener.fileno()
        spawn(
            [program, "--link-fd", str(link), "--listen-fd", str(fd), "--label", sandbox.name],
            env={},
            stdio=(null, null, null),
            keep=[link, fd],
            pid_file=sandbox.path("bridge.pid"),
            entry=cgroups.Entry(groups),
        )


def _first_connection(sandbox: SandboxFolder, record: SandboxRecord, deadline: float) -> Agent:
    agent = Agent(carrier_of(sandbox, record), record.secret, deadline, sandbox.alive)
    try:
        if not agent.greet():
            raise BootError("the guest's agent was claimed by somebody else")
    except BaseException as error:
        agent.close()
        if isinstance(error, AgentError):
            raise BootError(f"the guest's agent was claimed by somebody else: {error}") from error
        raise
    return agent


def _boot_message(sandbox: SandboxFolder, hangs: bool, wanted: Wanted, error: AgentLostError) -> str:
    what = f"did not answer within {wanted.boot_timeout_s} s, twice" if hangs else "ended before its agent answered"
    try:
        lines = [line.strip() for line in read_text(sandbox.path("console.log")).splitlines() if line.strip()]
    except OSError:
        lines = []
    console = " | ".join(lines[-_CONSOLE_LINES:]) or "nothing"
    return f"cannot boot the guest with kernel {wanted.kernel}: it {what} ({error}); its console said: {console}"
