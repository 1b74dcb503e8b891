"""What a machine is to be, settled before anything is made: programs, artefacts, kind and size. What becomes of it: ``runv.sandbox.machine.shape`` and
``runv.sandbox.machine.boot``. Light: all that is here is done before somebody else has something to do."""

from runv.quick import Any, NamedTuple
from runv.sandbox.machine.size import Size
from runv.settings import Settings
from runv.vm import choice

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from runv.vm.virtiofsd import Virtiofsd

# The most that QEMU has room for in a file of translations: none of it is to be dropped on the way.
_RECORD_MIB = 96
# The members that shape a machine beside its size.
SHAPE = ("qemu", "kernel", "initrd", "kernel_parameters", "accelerator", "transport", "kind", "share", "hotplug_ports")


class Wanted(NamedTuple):
    """What the machine is to be, settled before anything is created."""

    qemu: str
    kernel: str
    initrd: str
    bridge: str
    relay: str
    filter: str
    watch: str  # empty: nobody is to watch
    standin: str
    kernel_parameters: str
    accelerator: str
    transport: str
    kind: str
    share: str
    virtiofsd: "Virtiofsd | None"
    vcpus: int
    memory_mib: int
    most: Size
    hotplug_ports: int
    boot_timeout_s: int
    qemu_shim: str = ""  # empty for none
    templates: str = ""  # their folder; empty to do without
    tcg_buffer_mib: int = 32
    tcg_release_s: int = 0
    translations: str = ""  # the folder of what others have translated; empty to do without
    translations_name: str = ""  # which of it is taken first, and what is kept is called
    keeps: bool = False  # what the machine translates is for others


def settle(settings: Settings, size: Size, most: Size, *, passes_through: bool = False) -> Wanted:
    """Finds programs and artefacts, and chooses. ``most``: what the machine may grow to. ``passes_through``: the machine gets devices of the host's as they are.

    :raise RunvError: something is missing
    """
    share = choice.share(settings).value
    kind = choice.machine(settings, passes_through=passes_through, grows=most != size).value
    qemu_program = choice.qemu_program(settings)
    accelerator = choice.accelerator(settings).value
    return Wanted(
        qemu=qemu_program,
        kernel=settings.artefact("kernel"),
        initrd=settings.artefact("initrd"),
        bridge=settings.artefact("bridge"),
        relay=settings.artefact("relay"),
        filter=settings.artefact("filter"),
        watch=settings.artefact("watch") if settings.text("share_notify") == "on" else "",
        standin=settings.artefact("standin"),
        kernel_parameters=settings.text("kernel_parameters"),
        accelerator=accelerator,
        transport=choice.transport(settings).value,
        kind=kind,
        share=share,
        virtiofsd=_virtiofsd(settings) if share == "virtiofs" else None,
        vcpus=size.vcpus,
        memory_mib=size.memory_mib,
        most=most if kind == "q35" else size,
        hotplug_ports=settings.number("hotplug_ports"),
        boot_timeout_s=settings.number("boot_timeout_s"),
        qemu_shim=choice.qemu_shim(settings),
        templates=settings.text("template_folder") if settings.text("template") == "auto" else "",
        tcg_buffer_mib=settings.number("tcg_buffer_mib"),
        tcg_release_s=choice.tcg_release_s(settings, qemu_program),
        translations=settings.text("template_folder") if choice.keeps_translations(settings, qemu_program, accelerator) else "",
        translations_name=choice.translations_name(settings),
    )


def _virtiofsd(settings: Settings) -> "Virtiofsd":
    from runv.vm import virtiofsd

    return virtiofsd.find(settings.text("virtiofsd"))


def recording(wanted: Wanted) -> Wanted:
    """The same as one whose translations, all from its boot on, can be kept for others."""
    return wanted._replace(templates="", keeps=True, tcg_release_s=0, tcg_buffer_mib=_RECORD_MIB)


def waiting(wanted: Wanted) -> Wanted:
    """The same as it is kept waiting: what it has translated is what it waits for, and is not given back."""
    return wanted._replace(tcg_release_s=0)


def shape_of(wanted: Wanted) -> dict[str, Any]:
    """What shapes a machine beside its size: members of ``Wanted``."""
    return {name: getattr(wanted, name) for name in SHAPE}
