"""From a ``Machine`` to QEMU's argument list and the guest's kernel command line. Pure: golden tests hold it."""


from runv.quick import dumps
from runv.vm import disks
from runv.vm.machine import Machine, Nic, Share

# What QEMU keeps of the guest's console once it is up.
CONSOLE_RING_BYTES = 65536

# Those before are the console's.
_FIRST_DISK_FDSET = 16

# Ports that devices can be plugged into are called by this and a number.
PORT_PREFIX = "port"
# The port that is kept for memory: of those that come and go, none is ever sure to be free.
MEMORY_PORT = "memory-port"
# Memory that comes later is what the kernel can empty again, as far as the kernel's own share of all memory allows that (1 to 3).
_MEMORY_WORDS = ("memory_hotplug.online_policy=auto-movable",)

# One console line from the kernel costs milliseconds on an emulated serial port: only what is wrong is shown.
_KERNEL_WORDS = ("console=ttyS0", "quiet", "loglevel=4", "panic=-1", "reboot=t", "random.trust_cpu=on", "rootfstype=ramfs")


def kernel_command_line(machine: Machine) -> str:
    """The words the guest's kernel and init are started with."""
    words = [*_KERNEL_WORDS, f"runv.transport={machine.transport.kind}"]
    if machine.accelerator == "tcg":
        # TCG hands the host's counter on. Calibrating it against an emulated timer now and then never ends: so Linux is told.
        words += [f"tsc_early_khz={machine.tsc_khz}"] if machine.tsc_khz else []
        words += ["tsc=reliable", "no_timer_check"]
        # The APIC timer's calibration waits 0.1 s. On microvm it is the only timer, and must stay.
        words += ["nolapic_timer"] if machine.kind == "q35" and machine.vcpus == 1 and not machine.grows_vcpus else []
    # QEMU's tables do not grant microvm's guest the hot-plug of PCI Express; q35 uses ACPI's.
    words += ["pcie_ports=native"] if machine.kind == "microvm" else []
    words += _MEMORY_WORDS if machine.grows_memory else []
    if machine.kernel_parameters:
        words.append(machine.kernel_parameters)
    return " ".join(words)


def qemu_arguments(machine: Machine) -> list[str]:
    """QEMU's whole argument list, the program first."""
    return [
        machine.qemu,
        "-name", f"guest={_escaped(machine.name)}",
        "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
        "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        *_accelerator(machine),
        *_board(machine),
        "-kernel", machine.kernel,
        "-initrd", machine.initrd,
        "-append", kernel_command_line(machine),
        *_console(machine),
        "-chardev", f"socket,id=qmp,fd={machine.qmp_fd},server=on,wait=off", "-mon", "chardev=qmp,mode=control",
        *_transport(machine),
        "-device", disks.PORT,
        *[word for share in machine.shares for word in _share(share)],
        *[word for nic in machine.nics for word in _nic(nic)],
        *[word for number in range(machine.ports) for word in _port(number)],
        *_memory_port(machine),
        *[word for address in machine.pci for word in ("-device", f"vfio-pci,host={address}")],
        *_disks(machine),
        *_restore(machine),
    ]  # fmt: skip


def _escaped(text: str) -> str:
    """QEMU's own quoting: a comma in a value is doubled."""
    return text.replace(",", ",,")


def _accelerator(machine: Machine) -> list[str]:
    if machine.accelerator == "kvm":
        return ["-accel", "kvm", "-cpu", "host"]
    words = ["tcg", f"thread={'multi' if machine.parallel else 'single'}", f"tb-size={machine.tcg_buffer_mib}"]
    words += [f"idle-release={machine.tcg_release_s}"] if machine.tcg_release_s else []
    words += [f"kept={_escaped(machine.translations)}"] if machine.translations else []
    words += ["keep=on"] if machine.keeps else []
    # A guest that is told of fast string instructions copies a byte with each round of the emulated loop, else eight.
    return ["-accel", ",".join(words), "-cpu", "max,-erms,-fsrm"]


def _board(machine: Machine) -> list[str]:
    most = f",maxmem={machine.memory_max_mib}M" if machine.grows_memory else ""
    possible = f",maxcpus={machine.vcpus_max}" if machine.grows_vcpus else ""
    memory = ["-m", f"{machine.memory_mib}M{most}", "-smp", f"{machine.vcpus}{possible}"]
    backend = _memory_backend(machine)
    if backend:
        memory += ["-object", f"{backend},id=mem,size={machine.memory_mib}M"]
        backend = ",memory-backend=mem"
    if machine.kind == "q35":
        return ["-machine", "q35,smm=off,vmport=off,hpet=off,usb=off" + backend, *memory]
    # Devices sit on PCI Express: virtio-mmio gives each queue 1024 entries, which the drivers fill with buffers, some MB for each device.
    # The old timer and interrupt controller stay on: without them a boot takes seconds longer under KVM and hangs under TCG.
    return ["-machine", "microvm,pcie=on,acpi=on,pit=on,pic=on,rtc=on,isa-serial=on" + backend, *memory]


def _memory_backend(machine: Machine) -> str:
    if machine.shared_memory:
        return "memory-backend-memfd,share=on"
    if machine.memory.path:
        share = "off" if machine.memory.private else "on"
        return f"memory-backend-file,mem-path={_escaped(machine.memory.path)},share={share}"
    return "memory-backend-ram" if machine.memory.named else ""


def _disks(machine: Machine) -> list[str]:
    """What ``disks.plug`` would plug in, for a machine that is restored: there it must be when its state is read."""
    words = ["-device", dumps(disks.CONTROLLER)] if machine.controller else []
    for number, (disk, lun) in enumerate(machine.plugged, _FIRST_DISK_FDSET):
        words += ["-add-fd", f"fd={disk.fd},set={number},opaque={disk.serial}"]
        words += ["-blockdev", dumps(disks.blockdev(disk, number))]
        words += ["-device", dumps({**disks.device(disk), "lun": lun})]
    return words


def _console(machine: Machine) -> list[str]:
    # What a guest says while it boots is wanted when it does not come up; a clone has booted.
    if machine.restore:
        return ["-chardev", f"ringbuf,id=console,size={CONSOLE_RING_BYTES}", "-serial", "chardev:console"]
    return [
        "-add-fd", f"fd={machine.console_fd},set=1",
        "-chardev", "file,id=console,path=/dev/fdset/1,append=on", "-serial", "chardev:console",
    ]  # fmt: skip


def _restore(machine: Machine) -> list[str]:
    if machine.restore is None:
        return []
    return [
        "-chardev", f"socket,id=restore,fd={machine.restore.monitor_fd}", "-mon", "chardev=restore,mode=control",
        "-incoming", "defer",
    ]  # fmt: skip


def _transport(machine: Machine) -> list[str]:
    transport = machine.transport
    if transport.kind == "vsock":
        return ["-device", f"vhost-vsock-pci,guest-cid={transport.cid},vhostfd={transport.fd}"]
    return [
        "-chardev", f"socket,id=agent,fd={transport.fd}",
        "-device", "virtio-serial-pci,max_ports=2",
        "-device", "virtserialport,chardev=agent,name=org.runv.agent",
    ]  # fmt: skip


def _share(share: Share) -> list[str]:
    if share.kind == "virtiofs":
        return [
            "-chardev", f"socket,id=fs-{share.tag},path={_escaped(share.socket)}",
            "-device", f"vhost-user-fs-pci,chardev=fs-{share.tag},tag={share.tag}",
        ]  # fmt: skip
    local = f"local,id=fs-{share.tag},path={_escaped(share.folder)},security_model=passthrough,multidevs=remap"
    return ["-fsdev", local, "-device", f"virtio-9p-pci,fsdev=fs-{share.tag},mount_tag={share.tag}"]


def _nic(nic: Nic) -> list[str]:
    vhost = f",vhost=on,vhostfds={_joined(nic.vhost_fds)}" if nic.vhost_fds else ""
    queues = "".join(f",{name}={value}" for name, value in queue_options(nic).items())
    # Nothing boots from it: without its ROM QEMU needs no file for it. No guest is moved to another host, and with announcements QEMU 7.2
    # crashes when a clone's driver lets go of the card (it deletes a timer twice).
    return [
        "-netdev", f"tap,id={nic.name},fds={_joined(nic.fds)}{vhost}",
        "-device", f"virtio-net-pci,id={card_name(nic.name)},netdev={nic.name},mac={nic.mac},romfile=,guest_announce=off{queues}",
    ]  # fmt: skip


def card_name(netdev: str) -> str:
    """What QEMU calls the card of a netdev."""
    return f"card-{netdev}"


def queue_options(nic: Nic) -> dict[str, str | int]:
    """What a card of several pairs of queues is to be told: an interrupt for each, for the control queue and for changes of the configuration."""
    return {"mq": "on", "vectors": 2 * len(nic.fds) + 2} if len(nic.fds) > 1 else {}


def _joined(fds: tuple[int, ...]) -> str:
    return ":".join(str(fd) for fd in fds)


def _port(number: int) -> list[str]:
    return ["-device", f"pcie-root-port,id={PORT_PREFIX}{number},chassis={number + 1},slot={number + 1}"]


def _memory_port(machine: Machine) -> list[str]:
    return ["-device", f"pcie-root-port,id={MEMORY_PORT},chassis=65,slot=65"] if machine.grows_memory else []
