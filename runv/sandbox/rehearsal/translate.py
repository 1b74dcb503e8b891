"""Making translations (``runv.vm.translations``): a machine boots and walks through a container's life, and QEMU writes down what it has translated on
the way. Where a machine was made without, that goes on in the background. Or somebody's own machine has walked, and what it has translated is kept."""

import os

from runv.errors import ConfigError, HostError, StateError
from runv.files import locked_folder, remove_tree
from runv.log import Log
from runv.processes import spawn
from runv.sandbox.layout import SandboxFolder, sandboxes
from runv.sandbox.machine.factory import default_wanted
from runv.sandbox.machine.shape import shape
from runv.sandbox.machine.wanted import Wanted, recording
from runv.sandbox.pause import locked, standing
from runv.sandbox.remove import end_sandbox
from runv.settings import Settings, program
from runv.state import SANDBOXES, Container
from runv.vm import template, translations
from runv.vm.translations import Translations

_WRITE_TIMEOUT_S = 60.0
# Behind every container.
_NICE = 19
_NEW = "new-"


def make(settings: Settings, log: Log) -> Translations:
    """The translations for machines of the settings' size, made anew. It moves the calling process into a new network namespace.

    :raise RunvError: they cannot be made, or somebody else is making some
    """
    wanted = default_wanted(settings)._replace(translations_name="")  # the rehearsal is of any use
    folder = wanted.translations
    if not folder:
        raise ConfigError("nothing can be kept of what is translated here", hint="it takes an emulated processor, the QEMU that `make qemu` builds, the setting tcg_keep, and a template_folder that is not mounted noexec")
    template.make_folder(folder)
    place = _place(folder)
    with locked_folder(place, 0):
        remove_halves(folder)
        return _make(folder, place, wanted, log)


def keep(container: Container) -> Translations:
    """What the machine of a container has translated becomes the translations for those like it. The machine stands still from then on, paused.

    :raise RunvError: it records nothing, or what it has recorded cannot be kept
    """
    with locked(container) as (sandbox, _):
        record = sandbox.load()
        if not record.keeps:
            translates = record.machine.get("accelerator") == "tcg"
            hint = "create it with the setting tcg_keep = record and our own QEMU, where there are no translations of the name tcg_name yet" if translates else "under KVM nothing is translated"
            raise StateError(f"cannot keep what the machine of {container.id} has translated: it does not record", hint=hint)
        folder = os.path.dirname(record.keeps)
        template.make_folder(folder)
        place = _place(folder)
        with locked_folder(place, _WRITE_TIMEOUT_S):
            made = _keep(sandbox, place, record.keeps)
        record.keeps = ""  # what it translates from now on is not all of it
        sandbox.save(record)
        return made


def _place(folder: str) -> str:
    place = template.rehearsal(folder)
    os.makedirs(os.path.join(place, SANDBOXES), 0o700, exist_ok=True)
    return place


def _keep(sandbox: SandboxFolder, place: str, path: str) -> Translations:
    """The caller holds the lock of ``place``."""
    from runv.vm import qmp

    for name in os.listdir(place):
        if name.startswith(_NEW):
            translations.discard(os.path.join(place, name))  # of one who was killed
    # A name of its own: the machine of one who was killed, or has waited too long, may be about to open its file, and writes what it finds there anew.
    new = os.path.join(place, f"{_NEW}{os.urandom(6).hex()}")
    try:
        with standing(sandbox):
            qmp.keep_translations(sandbox.path("qmp.sock"), new, _WRITE_TIMEOUT_S)
        return translations.publish(new, path)
    except OSError as error:
        raise HostError(f"keep translations in {path}", error) from error
    finally:
        translations.discard(new)


def _make(folder: str, place: str, wanted: Wanted, log: Log) -> Translations:
    from runv.sandbox.rehearsal.machine import rehearsed

    made: list[Translations] = []
    path = translations.path_of(folder, shape(wanted))
    end_sandbox(rehearsed(place, recording(wanted), log, lambda sandbox: made.append(_keep(sandbox, place, path))))
    return made[0]


def remove_halves(folder: str) -> int:
    """Ends machines that somebody who was killed has left. The caller holds the lock of the place, or nobody is at work there."""
    found = sandboxes(template.rehearsal(folder))
    for sandbox in found:
        end_sandbox(sandbox)
    return len(found)


def destroy(folder: str) -> int:
    """Removes all translations, and what is left of one who made some and was killed; returns how many there were.

    :raise StateError: a process does not die
    """
    count = translations.destroy(folder)
    place = template.rehearsal(folder)
    try:
        with locked_folder(place, 0):
            remove_halves(folder)
            remove_tree(place)
    except (FileNotFoundError, StateError):
        return count  # nothing is there, or somebody is at work and will clean up
    return count


def begin(wanted: Wanted) -> None:
    """Has translations made in the background, for machines like this, unless somebody is at it. The caller has found that there are none.

    :raise HostError: the process cannot be started
    """
    place = _place(wanted.translations)
    try:
        with locked_folder(place, 0):
            pass
    except StateError:
        return
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    try:
        spawn(
            [program(), "factory", "translate"],
            env={**_environment(), **_settings(wanted)},
            stdio=(null, null, null),
            pid_file=os.path.join(place, "maker.pid"),
            prepare=_behind_all_others,
        )
    finally:
        os.close(null)


def _behind_all_others() -> None:
    os.nice(_NICE)


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("RUNV_") or name == "PATH"}


def _settings(wanted: Wanted) -> dict[str, str]:
    """What shapes the machine, wherever it was said."""
    return {
        "RUNV_QEMU": wanted.qemu,
        "RUNV_KERNEL": wanted.kernel,
        "RUNV_INITRD": wanted.initrd,
        "RUNV_KERNEL_PARAMETERS": wanted.kernel_parameters,
        "RUNV_MACHINE": wanted.kind,
        "RUNV_VCPUS": str(wanted.vcpus),
        "RUNV_VCPUS_MAX": str(wanted.most.vcpus),
        "RUNV_MEMORY_MIB": str(wanted.memory_mib),
        "RUNV_MEMORY_MAX_MIB": str(wanted.most.memory_mib),
    }
