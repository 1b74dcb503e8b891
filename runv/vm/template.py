"""Templates: a machine that has booted, kept as its memory and its devices' state, from which others start where it stood.

::

    FOLDER/<name>/memory       the guest's memory, sparse; clones map it privately and share what they do not change
                  state        QEMU's devices
                  about.json   what shaped the machine, and what the two files were like when they were written

A template comes into being by the renaming of its folder. One that is not as it was written is removed, never used.
"""

import os
import stat
import zlib

from runv import VERSION
from runv.errors import HostError
from runv.files import read_text, remove_tree
from runv.quick import Any, NamedTuple, dumps, loads, suppress
from runv.vm.cmdline import qemu_arguments
from runv.vm.machine import Machine, Memory, Share, Transport

# Each takes what a guest dirties in its boot, some 30 MiB of tmpfs. Those that were not used for longest make room.
TEMPLATES_MAX = 12
STATE_MAX = 64 << 20

_MEMORY, _STATE, _ABOUT = "memory", "state", "about.json"
_HALF_MADE = ".new-"
_REHEARSAL = ".rehearsal"


class Template(NamedTuple):
    """One complete template. ``description``: what shaped it, see ``describe``."""

    folder: str
    name: str
    description: str
    memory_mib: int
    nics: int

    @property
    def memory(self) -> str:
        """The path of the memory file."""
        return os.path.join(self.folder, _MEMORY)

    @property
    def state(self) -> str:
        """The path of the devices' state."""
        return os.path.join(self.folder, _STATE)


def possible(machine: Machine) -> bool:
    """Whether a machine like this can be cloned: not where another process (virtiofsd) shares its memory, or a device of the host's is in it."""
    return not machine.shared_memory and not machine.pci


def describe(machine: Machine) -> str:
    """All that shapes a machine, and nothing of what two machines of one shape differ in: names, paths, descriptors."""
    shape = machine._replace(
        name="",
        tsc_khz=min(machine.tsc_khz, 1),
        transport=Transport(machine.transport.kind, 0),
        shares=tuple(Share(share.tag, "", share.kind) for share in machine.shares),
        nics=tuple(nic._replace(fds=(0,) * len(nic.fds), vhost_fds=(0,) * len(nic.vhost_fds)) for nic in machine.nics),
        qmp_fd=0,
        console_fd=0,
        memory=Memory(),
        restore=None,
        translations="",
    )
    files = [signature(path) for path in (machine.qemu, machine.kernel, machine.initrd)]
    return dumps([VERSION, qemu_arguments(shape), files])


def signature(path: str) -> list[Any]:
    """What tells a program or an artefact from another one in its place."""
    status = os.stat(path)
    return [path, status.st_ino, status.st_size, status.st_mtime_ns]


def _name(machine: Machine, description: str) -> str:
    shape = f"{machine.kind}-{machine.accelerator}-{machine.transport.kind}"
    size = f"{machine.vcpus}x{machine.memory_mib}-{len(machine.nics)}"
    return f"{shape}-{size}-{zlib.crc32(description.encode()):08x}"


def find(folder: str, machine: Machine) -> Template | None:
    """The template for ``machine``, checked; None where there is none that can be used."""
    description = describe(machine)
    path = os.path.join(folder, _name(machine, description))
    if not is_ours(folder):
        return None
    template = _load(path)
    if template is None:
        _remove(path)
        return None
    if template.description != description:
        return None
    with suppress(OSError):
        os.utime(path)  # when it was last used
    return template


def is_ours(folder: str) -> bool:
    """Whether nobody else could have put a template there."""
    try:
        status = os.lstat(folder)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022


def _load(path: str) -> Template | None:
    try:
        about = loads(read_text(os.path.join(path, _ABOUT)))
        if about["files"] != _fingerprint(path):
            return None
        return Template(path, os.path.basename(path), about["description"], about["memory_mib"], about["nics"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _fingerprint(path: str) -> list[Any]:
    """What tells whether the files are as they were written. The memory is too much to be read at each start: size and time must do.
    Its blocks do not: a clone that looks at a page that was never written makes one."""
    memory = os.stat(os.path.join(path, _MEMORY))
    with open(os.path.join(path, _STATE), "rb") as file:
        state = zlib.crc32(file.read(STATE_MAX))
    return [memory.st_size, memory.st_mtime_ns, state]


def save(folder: str, machine: Machine, memory_fd: int, state_fd: int) -> Template:
    """Makes a template from a stopped machine's memory and state, unless there is one by now.

    :raise HostError: no space, or the folder is not ours alone
    """
    make_folder(folder)
    _make_room(folder)
    description = describe(machine)
    path = os.path.join(folder, _name(machine, description))
    new = os.path.join(folder, f"{_HALF_MADE}{os.urandom(4).hex()}")
    try:
        os.mkdir(new, 0o700)
        _copy(memory_fd, os.path.join(new, _MEMORY))
        _copy(state_fd, os.path.join(new, _STATE))
        about = {
            "description": description,
            "memory_mib": machine.memory_mib,
            "nics": len(machine.nics),
            "files": _fingerprint(new),
        }
        with open(os.path.join(new, _ABOUT), "x", encoding="utf-8") as file:
            file.write(dumps(about))
        with suppress(FileExistsError):  # the other maker's is as good
            os.rename(new, path)
    except OSError as error:
        if not os.path.isdir(path):
            raise HostError(f"save template {path}", error) from error
    finally:
        remove_tree(new)
    return Template(path, os.path.basename(path), description, machine.memory_mib, len(machine.nics))


def _copy(source: int, path: str) -> None:
    """A sparse copy: only what there is of the source's data."""
    size = os.fstat(source).st_size
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.truncate(target, size)
        position = 0
        while position < size:
            try:
                position = os.lseek(source, position, os.SEEK_DATA)
            except OSError:  # ENXIO: nothing but holes is left
                return
            end = os.lseek(source, position, os.SEEK_HOLE)
            os.lseek(target, position, os.SEEK_SET)
            while position < end:
                position += os.sendfile(target, source, position, end - position)
    finally:
        os.close(target)


def make_folder(folder: str) -> None:
    """The folder of templates, ours alone: who can write there can run code in every guest.

    :raise HostError: it cannot be made, or somebody else owns it
    """
    try:
        os.makedirs(folder, 0o700, exist_ok=True)
    except OSError as error:
        raise HostError(f"create template folder {folder}", error) from error
    if not is_ours(folder):
        raise HostError(f"use template folder {folder}", PermissionError(1, "it belongs to somebody else"))


def templates(folder: str) -> list[Template]:
    """Every template that can be used, the one used last first."""
    if not is_ours(folder):
        return []
    found = [_load(entry.path) for entry in _entries(folder) if not entry.name.startswith(_HALF_MADE)]
    return [template for template in found if template is not None]


def rehearsal(folder: str) -> str:
    """Where machines are that are to leave something behind beside the templates, and nobody's."""
    return os.path.join(folder, _REHEARSAL)


def _entries(folder: str) -> "list[os.DirEntry[str]]":
    entries = [entry for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False) and entry.name != _REHEARSAL]
    return sorted(entries, key=lambda entry: entry.stat().st_mtime_ns, reverse=True)


def _make_room(folder: str) -> None:
    for entry in _entries(folder)[TEMPLATES_MAX - 1 :]:
        _remove(entry.path)


def discard(template: Template) -> None:
    """Removes a template that did not do. Its clones keep what they have mapped."""
    _remove(template.folder)


def destroy(folder: str) -> int:
    """Removes every template; returns how many there were."""
    if not is_ours(folder):
        return 0
    found = _entries(folder)
    for entry in found:
        _remove(entry.path)
    with suppress(OSError):
        os.rmdir(folder)
    return len(found)


def _remove(path: str) -> None:
    # Renamed first: nobody is to find half of it.
    gone = os.path.join(os.path.dirname(path), f"{_HALF_MADE}{os.urandom(4).hex()}")
    with suppress(OSError):
        os.rename(path, gone)
    remove_tree(gone)


def orders(state_fd: int, *, whole: bool = False) -> bytes:
    """What a clone's monitor is told before QEMU even runs: nobody waits for its answers. ``state_fd``: as QEMU has it. ``whole``: the memory is in the
    state as well, and in no file of its own."""
    ignored = {"capability": "x-ignore-shared", "state": not whole}
    commands: list[tuple[str, dict[str, Any]]] = [
        ("qmp_capabilities", {}),
        ("migrate-set-capabilities", {"capabilities": [ignored]}),
        # A clone must not tell the network the address of its template's cards.
        ("migrate-set-parameters", {"announce-rounds": 0}),
        ("migrate-incoming", {"uri": f"fd:{state_fd}"}),
    ]
    return b"".join(dumps({"execute": name, "arguments": args}).encode() + b"\n" for name, args in commands)
