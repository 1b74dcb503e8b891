"""The shape of a wanted machine: what QEMU is told of it, and by which a template, translations, or one that waits, are found for it."""

from runv.quick import dumps
from runv.sandbox.layout import SandboxFolder
from runv.sandbox.machine.wanted import Wanted, waiting
from runv.storage.plan import TAG
from runv.vm import host_devices, template, translations
from runv.vm.machine import Machine, Share, Transport


def machine_of(sandbox: SandboxFolder, wanted: Wanted, transport: Transport, qmp_fd: int, console_fd: int) -> Machine:
    """As it boots, without cards."""
    socket_path = sandbox.path("fs.sock") if wanted.share == "virtiofs" else ""
    return Machine(
        name=sandbox.name,
        qemu=wanted.qemu,
        kind=wanted.kind,
        accelerator=wanted.accelerator,
        kernel=wanted.kernel,
        initrd=wanted.initrd,
        kernel_parameters=wanted.kernel_parameters,
        shim=wanted.qemu_shim if wanted.share == "9p" else "",
        tsc_khz=host_devices.tsc_khz(),
        vcpus=wanted.vcpus,
        memory_mib=wanted.memory_mib,
        transport=transport,
        shares=(Share(TAG, sandbox.path("share"), wanted.share, socket_path),),
        qmp_fd=qmp_fd,
        console_fd=console_fd,
        ports=wanted.hotplug_ports,
        vcpus_max=wanted.most.vcpus,
        memory_max_mib=wanted.most.memory_mib,
        tcg_buffer_mib=wanted.tcg_buffer_mib,
        tcg_release_s=wanted.tcg_release_s,
        keeps=wanted.keeps,
    )


def shape(wanted: Wanted) -> Machine:
    """A machine without cards, as far as it has a shape: to look for its template."""
    return machine_of(SandboxFolder("", ""), wanted, Transport(wanted.transport, 0), 0, 0)


def describe(wanted: Wanted) -> str:
    """All that a machine that waits must have in common with one that is wanted, but its cards."""
    return dumps([bool(wanted.templates), template.describe(shape(waiting(wanted)))])


def taken(wanted: Wanted) -> str:
    """The path of the translations that machines like this take; empty where there are none."""
    return translations.find(wanted.translations, shape(wanted), wanted.translations_name, "")


def records(wanted: Wanted) -> bool:
    """Whether what a machine like this translates is worth to be kept: it can be, and there is nothing of that name."""
    return bool(wanted.translations) and not translations.find(wanted.translations, shape(wanted), wanted.translations_name)
