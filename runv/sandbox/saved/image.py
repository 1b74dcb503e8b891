"""A checkpoint on disk: the machine of a sandbox with all its containers, from which it goes on, here or elsewhere, as often as one likes.

::

    FOLDER/checkpoint.json    what it takes to have the same machine again, and what the other files must be
           state              the machine: its devices and its memory, as QEMU writes them
           disks/<serial>     copies of the disks that its guest writes to

It comes into being by the renaming of its folder. It holds all that the containers have in their memory: it is for its owner alone.
"""

import os
import stat
from typing import Annotated, Any

import msgspec

from runv import VERSION
from runv.errors import ConfigError, HostError, reason
from runv.files import read_text, remove_tree
from runv.storage.copies import Content, content_at

# Of this folder's format, and of what the guest's agent has in its memory.
FORMAT = 1
# As ``storage.images.wish`` makes them; it is the name of a file here.
_SERIAL = r"^[a-z][0-9a-f]+(\.[0-9a-f]+)?$"
_ABOUT, _STATE, _DISKS = "checkpoint.json", "state", "disks"


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class SavedCard(_Record, frozen=True):
    """A network card. ``link``: what it was wired to; empty for nothing."""

    number: int
    queues: int
    link: str


class SavedDisk(_Record, frozen=True):
    """A disk. ``copied``: it is in the checkpoint, whole; else it is read-only, and ``content`` is a likeness of what ``path`` must have."""

    serial: Annotated[str, msgspec.Meta(pattern=_SERIAL)]
    lun: int
    format: str
    path: str
    read_only: bool
    copied: bool
    content: Content


class SavedContainer(_Record, frozen=True):
    """A container. ``config``: its config.json. ``disks``: the serials of what is at ``storage.places.disk_paths`` of it, ``used``: of all that it
    uses, and whether they are read-only. ``volumes``: the text of its volumes.json."""

    id: str
    bundle: str
    config: dict[str, Any]
    started: bool
    paused: bool
    disks: list[str]
    used: dict[str, bool]
    volumes: str


class Saved(_Record, frozen=True):
    """checkpoint.json. ``machine``: members of ``runv.sandbox.machine.wanted.Wanted``; ``programs``: what QEMU, the kernel and the initramfs must be; ``processor``: the host's,
    where the guest sees it."""

    format: int
    version: str
    secret: str
    machine: dict[str, str | int]
    vcpus: int
    memory_mib: int
    vcpus_max: int
    memory_max_mib: int
    named_memory: bool
    processor: str
    programs: dict[str, Content]
    controller: bool
    cards: list[SavedCard]
    disks: list[SavedDisk]
    containers: list[SavedContainer]
    state: Content


class Folder:
    """A checkpoint that is being made: nobody sees it before ``complete``. As a context it leaves nothing of one that is not."""

    def __init__(self, path: str) -> None:
        """:raise ConfigError: there is something at ``path``
        :raise HostError: the folder cannot be made
        """
        self.path = os.path.abspath(path)
        parent, name = os.path.split(self.path)
        self._new = os.path.join(parent, f".{name}.{os.urandom(4).hex()}")
        try:
            os.makedirs(parent, exist_ok=True)
            if os.path.lexists(self.path) and (os.path.islink(self.path) or not os.path.isdir(self.path) or os.listdir(self.path)):
                raise ConfigError(f"cannot write a checkpoint to {self.path}: it is there already, and not an empty folder")
            os.mkdir(self._new, 0o700)
            os.mkdir(self.disk(""), 0o700)
        except OSError as error:
            remove_tree(self._new)
            raise HostError(f"create {self.path}", error) from error

    def __enter__(self) -> "Folder":
        return self

    def __exit__(self, *_: object) -> None:
        remove_tree(self._new)

    @property
    def state(self) -> str:
        """Where the machine's state goes."""
        return os.path.join(self._new, _STATE)

    def disk(self, serial: str) -> str:
        """Where the copy of a disk goes."""
        return os.path.join(self._new, _DISKS, serial)

    def complete(self, saved: Saved) -> None:
        """Writes what describes it, and lets it be seen.

        :raise HostError: the file system refused
        """
        try:
            fd = os.open(os.path.join(self._new, _ABOUT), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.write(msgspec.json.encode(saved))
                file.flush()
                os.fsync(file.fileno())
            os.rename(self._new, self.path)
        except OSError as error:
            raise HostError(f"write {self.path}", error) from error


def read(folder: str) -> Saved:
    """What a checkpoint holds, once it is known to be whole but for the copies of its disks (which are looked at when they are copied).

    :raise ConfigError: it is none, is damaged, or was made by a runv that this one does not understand
    """
    path = os.path.join(folder, _ABOUT)
    try:
        _check_owner(folder)
        text = read_text(path)
        head = msgspec.json.decode(text)
        if isinstance(head, dict) and head.get("format") != FORMAT:
            raise ConfigError(f"cannot restore from {folder}: it is of format {head.get('format')}, made by runv {head.get('version')}; this is runv {VERSION}")
        saved = msgspec.json.decode(text, type=Saved)
        state = content_at(state_of(folder))
    except OSError as error:
        raise ConfigError(f"cannot restore from {folder}: {error.filename}: {reason(error)}") from error
    except (msgspec.MsgspecError, ValueError) as error:
        raise ConfigError(f"cannot restore from {folder}: checkpoint.json is damaged: {error}") from error
    if state != saved.state:
        raise ConfigError(f"cannot restore from {folder}: {_STATE} is damaged: it has not the size or the checksum that was written")
    return saved


def _check_owner(folder: str) -> None:
    """Whoever can write a machine's state runs code in it, and has QEMU read what he likes."""
    status = os.stat(folder)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise ConfigError(f"cannot restore from {folder}: it must be a folder of one's own that nobody else can write to")


def state_of(folder: str) -> str:
    """The path of the machine's state."""
    return os.path.join(folder, _STATE)


def disk_of(folder: str, serial: str) -> str:
    """The path of a disk's copy."""
    return os.path.join(folder, _DISKS, serial)
