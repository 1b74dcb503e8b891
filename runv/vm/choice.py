"""KVM or TCG, vsock or serial, microvm or q35, 9p or virtiofs: what is used here, and why. ``runv check`` prints the reasons."""

import os

from runv.errors import ConfigError, VmError, reason
from runv.files import read_text
from runv.quick import NamedTuple
from runv.settings import AUTO, OWN, OWN_QEMU, Settings

DEBIAN_QEMU = "qemu-system-x86_64"
_NAME_MAX, _NAME_LETTERS = 32, frozenset("abcdefghijklmnopqrstuvwxyz0123456789_")
_VIRTUALISATION_FLAGS = frozenset({"svm", "vmx"})


class Choice(NamedTuple):
    """What was chosen, and a sentence why."""

    value: str
    why: str


def accelerator(settings: Settings) -> Choice:
    """KVM where the processor says it can, and the device opens. A device alone is not enough: on a host that is itself a guest it may
    open and yet never run our kernel."""
    wanted = settings.text("accelerator")
    if wanted != "auto":
        return Choice(wanted, f"set by {settings.sources['accelerator']}")
    if not _can_virtualise(read_text("/proc/cpuinfo")):
        return Choice("tcg", "the processor offers neither svm nor vmx")
    refusal = _cannot_open("/dev/kvm")
    return Choice("tcg", refusal) if refusal else Choice("kvm", "/dev/kvm opens and the processor has virtualisation")


def _can_virtualise(cpuinfo: str) -> bool:
    flags = (line.partition(":")[2].split() for line in cpuinfo.splitlines() if line.startswith("flags"))
    return any(not _VIRTUALISATION_FLAGS.isdisjoint(words) for words in flags)


def transport(settings: Settings) -> Choice:
    """vsock where the host's kernel carries it, else the serial port."""
    wanted = settings.text("transport")
    if wanted != "auto":
        return Choice(wanted, f"set by {settings.sources['transport']}")
    refusal = _cannot_open("/dev/vhost-vsock")
    return Choice("serial", refusal) if refusal else Choice("vsock", "/dev/vhost-vsock opens")


def machine(settings: Settings, *, passes_through: bool = False, grows: bool = False) -> Choice:
    """microvm, unless devices of the host are passed through, whose PCI functions want a PC around them, or the machine may grow while it runs:
    a microvm takes neither CPUs nor memory then.

    :raise ConfigError: there are such devices, and a setting asks for a microvm
    """
    wanted = settings.text("machine")
    if wanted == "microvm" and passes_through:
        raise ConfigError(f"cannot pass a device through: {settings.sources['machine']} sets machine to microvm")
    if wanted != "auto":
        return Choice(wanted, f"set by {settings.sources['machine']}")
    if passes_through:
        return Choice("q35", "a device of the host is passed through")
    if grows:
        return Choice("q35", "the machine may grow while it runs")
    return Choice("microvm", "no device of the host is passed through, and the machine does not grow")


def share(settings: Settings) -> Choice:
    """9p, in QEMU's own process; docs/storage.md has what it costs and lacks."""
    wanted = settings.text("share")
    if wanted != "auto":
        return Choice(wanted, f"set by {settings.sources['share']}")
    return Choice("9p", "starts as a clone and needs less memory; virtiofs is faster with many small files")


def _cannot_open(device: str) -> str:
    """Why ``device`` does not open; empty when it does."""
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"cannot open {device}: {reason(error)}"
    return ""


def qemu_program(settings: Settings) -> str:
    """QEMU's absolute path.

    :raise VmError: it is not there
    """
    wanted = settings.text("qemu")
    if wanted == AUTO:
        wanted = OWN_QEMU if os.access(OWN_QEMU, os.X_OK) else DEBIAN_QEMU
    own = wanted in (OWN, OWN_QEMU)
    found = _find(OWN_QEMU if own else wanted)
    if found is None:
        hint = "`make qemu install` puts it in place" if own else "on Debian: apt-get install qemu-system-x86"
        raise VmError(f"cannot find QEMU: {OWN_QEMU if own else wanted}: no such program", hint=hint)
    return found


def _find(program: str) -> str | None:
    """As ``shutil.which``, which takes longer to import than to search."""
    paths = [program] if "/" in program else [os.path.join(folder, program) for folder in os.get_exec_path()]
    return next((path for path in paths if os.path.isfile(path) and os.access(path, os.X_OK)), None)


def tcg_release_s(settings: Settings, qemu: str) -> int:
    """After how many seconds ``qemu`` is to give a sleeping guest's translated code back: only our own knows how; 0 for never."""
    return settings.number("tcg_release_s") if qemu == OWN_QEMU else 0


def keeps_translations(settings: Settings, qemu: str, accelerator: str) -> bool:
    """Whether machines take what others like them have translated: only our own QEMU knows how, under KVM nothing is translated, and a folder that is
    mounted noexec can hold no code."""
    return settings.text("tcg_keep") != "off" and qemu == OWN_QEMU and accelerator == "tcg" and _holds_code(settings.text("template_folder"))


def _holds_code(folder: str) -> bool:
    """Whether files in ``folder``, which may have to be made, can be mapped to be executed."""
    while True:
        try:
            return not os.statvfs(folder).f_flag & os.ST_NOEXEC
        except FileNotFoundError:
            folder = os.path.dirname(folder)
        except OSError:
            return False


def translations_name(settings: Settings) -> str:
    """Which translations machines take before those without a name; empty for none.

    :raise ConfigError: it is no part of a file's name
    """
    name = settings.text("tcg_name")
    if len(name) > _NAME_MAX or not _NAME_LETTERS.issuperset(name):
        raise ConfigError(f"{settings.sources['tcg_name']}: {name!r} is no name for translations", hint="32 small letters, digits and underscores at most")
    return name


def qemu_shim(settings: Settings) -> str:
    """The library for what serves a share; empty where it is not wanted.

    :raise RunvError: it is not there
    """
    return settings.artefact("qemu_shim") if settings.text("qemu_shim") else ""
