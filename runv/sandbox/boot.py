"""Starting a sandbox's machine and waiting until its agent answers: QEMU, the bridge, virtiofsd, in this order."""

import fcntl
import os
import secrets
import socket
import struct
import time
from typing import NamedTuple

from runv.agent.carrier import Carrier
from runv.agent.client import Agent
from runv.errors import AgentError, AgentLostError, BootError, HostError, VmError
from runv.files import read_text, short_path
from runv.log import Log
from runv.processes import spawn
from runv.sandbox.layout import SandboxFolder, SandboxRecord
from runv.sandbox.remove import kill_processes
from runv.sandbox.size import Size
from runv.settings import Settings
from runv.storage import TAG
from runv.vm import choice, qemu, virtiofsd
from runv.vm.machine import Machine, Nic, Share, Transport
from runv.vm.qemu import Bind

_CONSOLE_LINES = 12
_CID_TRIES = 32
_CID_FIRST = 3
_VHOST_VSOCK_SET_GUEST_CID = 0x4008AF60


class Wanted(NamedTuple):
    """What the machine is to be, settled before anything is created."""

    qemu: str
    kernel: str
    initrd: str
    bridge: str
    standin: str
    kernel_parameters: str
    accelerator: str
    transport: str
    kind: str
    share: str
    virtiofsd: str
    vcpus: int
    memory_mib: int
    boot_timeout_s: int


def settle(settings: Settings, size: Size) -> Wanted:
    """Finds programs and artefacts, and chooses.

    :raise RunvError: something is missing
    """
    return Wanted(
        qemu=choice.qemu_program(settings),
        kernel=choice.artefact(settings, "kernel"),
        initrd=choice.artefact(settings, "initrd"),
        bridge=choice.artefact(settings, "bridge"),
        standin=choice.artefact(settings, "standin"),
        kernel_parameters=settings.text("kernel_parameters"),
        accelerator=choice.accelerator(settings).value,
        transport=choice.transport(settings).value,
        kind=choice.machine(settings).value,
        share=choice.share(settings).value,
        virtiofsd=settings.text("virtiofsd"),
        vcpus=size.vcpus,
        memory_mib=size.memory_mib,
        boot_timeout_s=settings.number("boot_timeout_s"),
    )


class Host(NamedTuple):
    """Where on the host the machine's processes are to sit. ``cards``: the taps they find there, with their cards' addresses."""

    groups: list[str]
    netns_pid: int
    cards: tuple[tuple[int, str], ...] = ()


class Launched(NamedTuple):
    """A machine on its way up: everything needed to wait for it, and to start it once more."""

    sandbox: SandboxFolder
    wanted: Wanted
    host: Host
    container: str
    binds: list[Bind]
    record: SandboxRecord


def launch(sandbox: SandboxFolder, wanted: Wanted, host: Host, container: str, binds: list[Bind]) -> Launched:
    """Starts the machine's processes and does not wait for the guest.

    :raise VmError, HostError: a process could not be started
    """
    record = _start(sandbox, wanted, host, container, binds)
    return Launched(sandbox, wanted, host, container, binds, record)


def wait(machine: Launched, log: Log) -> Agent:
    """Waits until the agent answers, and claims it. A guest that hangs is tried once more.

    :raise BootError: it did not come up; the message has the end of its console
    """
    sandbox = machine.sandbox
    for last_try in (False, True):
        deadline = time.monotonic() + machine.wanted.boot_timeout_s
        try:
            return _first_connection(sandbox, machine.record, deadline)
        except AgentLostError as error:
            # Whether it hangs (worth another try: see docs/kernel.md on calibration) or ended (it would again). Not by
            # looking for the process: its connections end a moment before it does.
            hangs = time.monotonic() >= deadline
            failure = BootError(_boot_message(sandbox, hangs, machine.wanted, error))
            kill_processes(sandbox)
            if not hangs or last_try:
                raise failure from error
        log.debug("the guest did not answer in time; starting it once more")
        machine = launch(sandbox, machine.wanted, machine.host, machine.container, machine.binds)
    raise BootError("cannot boot the guest")


def _start(sandbox: SandboxFolder, wanted: Wanted, host: Host, container: str, binds: list[Bind]) -> SandboxRecord:
    for name in ("agent.sock", "qmp.sock", "fs.sock"):
        if os.path.exists(sandbox.path(name)):
            os.unlink(sandbox.path(name))
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    console = os.open(
        sandbox.path("console.log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600
    )
    qmp = _listen(sandbox.path("qmp.sock"))
    opened = [null, console]
    try:
        if wanted.transport == "vsock":
            device, cid = _claim_cid()
            opened.append(device)
            record = _record(wanted, container, "vsock", cid)
            transport = Transport("vsock", device, cid)
        else:
            near, far = socket.socketpair()
            record = _record(wanted, container, "serial", 0)
            transport = Transport("serial", far.detach())
            opened += [transport.fd, near.detach()]
        sandbox.save(record)
        # Anew for each try: what a QEMU that ended has claimed is of no use to another.
        vhosts = [_open_vhost_net() for _ in host.cards]
        opened[:0] = [fd for fd in vhosts if fd >= 0]
        nics = tuple(Nic(fd, mac, vhost) for (fd, mac), vhost in zip(host.cards, vhosts, strict=True))
        machine = _machine(sandbox, wanted, transport, qmp.fileno(), console)._replace(nics=nics)
        _start_processes(sandbox, machine, wanted, host, binds, opened, null)
    finally:
        qmp.close()
        for fd in opened:
            os.close(fd)
    return record


def _record(wanted: Wanted, container: str, transport: str, cid: int) -> SandboxRecord:
    return SandboxRecord(
        secret=secrets.token_hex(32),
        transport=transport,
        cid=cid,
        container=container,
        vcpus=wanted.vcpus,
        memory_mib=wanted.memory_mib,
    )


def _start_processes(
    sandbox: SandboxFolder,
    machine: Machine,
    wanted: Wanted,
    host: Host,
    binds: list[Bind],
    opened: list[int],
    null: int,
) -> None:
    listener = virtiofsd.listen(sandbox.path("fs.sock")) if wanted.share == "virtiofs" else None
    share = sandbox.path("share")
    process = qemu.start(
        machine,
        share=share,
        binds=binds,
        groups=host.groups,
        netns_pid=host.netns_pid,
        pid_file=sandbox.path("qemu.pid"),
        null_fd=null,
    )
    if wanted.transport == "serial":
        _start_bridge(sandbox, wanted.bridge, opened[-1], null)
    if listener is not None:
        virtiofsd.start(
            wanted.virtiofsd,
            share,
            listener,
            qemu_pid=process.pid,
            groups=host.groups,
            pid_file=sandbox.path("virtiofsd.pid"),
            null_fd=null,
        )
        listener.close()


def _machine(sandbox: SandboxFolder, wanted: Wanted, transport: Transport, qmp_fd: int, console_fd: int) -> Machine:
    socket_path = sandbox.path("fs.sock") if wanted.share == "virtiofs" else ""
    return Machine(
        name=sandbox.name,
        qemu=wanted.qemu,
        kind=wanted.kind,
        accelerator=wanted.accelerator,
        kernel=wanted.kernel,
        initrd=wanted.initrd,
        kernel_parameters=wanted.kernel_parameters,
        tsc_khz=host_tsc_khz(),
        vcpus=wanted.vcpus,
        memory_mib=wanted.memory_mib,
        transport=transport,
        shares=(Share(TAG, sandbox.path("share"), wanted.share, socket_path),),
        qmp_fd=qmp_fd,
        console_fd=console_fd,
    )


def host_tsc_khz() -> int:
    """The speed of the host's time stamp counter, which TCG hands to the guest; 0 when it is not known.

    On a host that is itself a guest, and on processors with a constant counter, /proc/cpuinfo has it.
    """
    for line in read_text("/proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "cpu MHz":
            return int(float(value) * 1000)
    return 0


def _listen(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with short_path(path) as address:
            listener.bind(address)
        listener.listen(64)
    except OSError as error:
        listener.close()
        raise HostError(f"listen on {path}", error) from error
    return listener


def _start_bridge(sandbox: SandboxFolder, program: str, link: int, null: int) -> None:
    with _listen(sandbox.path("agent.sock")) as listener:
        fd = listener.fileno()
        spawn(
            [program, "--link-fd", str(link), "--listen-fd", str(fd), "--label", sandbox.name],
            env={},
            stdio=(null, null, null),
            keep=[link, fd],
            pid_file=sandbox.path("bridge.pid"),
        )


def _open_vhost_net() -> int:
    """vhost-net for one card; -1 where the host's kernel has none, and QEMU carries the packets."""
    try:
        return os.open("/dev/vhost-net", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return -1


def _claim_cid() -> tuple[int, int]:
    """An open vhost-vsock device that holds a free CID."""
    try:
        device = os.open("/dev/vhost-vsock", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise HostError("open /dev/vhost-vsock", error, hint="set transport to serial or auto") from error
    for _ in range(_CID_TRIES):
        cid = _CID_FIRST + secrets.randbelow(2**32 - 2 - _CID_FIRST)
        try:
            fcntl.ioctl(device, _VHOST_VSOCK_SET_GUEST_CID, struct.pack("Q", cid))
            return device, cid
        except OSError:
            continue
    os.close(device)
    raise VmError("cannot find a free vsock context id")


def _first_connection(sandbox: SandboxFolder, record: SandboxRecord, deadline: float) -> Agent:
    carrier = Carrier(record.transport, cid=record.cid, path=sandbox.path("agent.sock"))
    try:
        agent = Agent(carrier, record.secret, deadline, sandbox.alive)
    except AgentError as error:
        raise BootError(f"the guest's agent was claimed by somebody else: {error}") from error
    if not agent.claimed:
        agent.close()
        raise BootError("the guest's agent was claimed by somebody else")
    return agent


def _boot_message(sandbox: SandboxFolder, hangs: bool, wanted: Wanted, error: AgentLostError) -> str:
    what = f"did not answer within {wanted.boot_timeout_s} s, twice" if hangs else "ended before its agent answered"
    try:
        lines = [line.strip() for line in read_text(sandbox.path("console.log")).splitlines() if line.strip()]
    except OSError:
        lines = []
    console = " | ".join(lines[-_CONSOLE_LINES:]) or "nothing"
    return f"cannot boot the guest with kernel {wanted.kernel}: it {what} ({error}); its console said: {console}"
