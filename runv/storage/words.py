"""Words among a mount's options that are runv's own; no file system sees them. Pure."""

from runv.errors import ConfigError

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from runv.spec.config import Mount

# An empty file system is filled with what the image has at its place.
COPY_UP = "x-runv.copyup"
# It takes all of its disk.
GROW = "x-runv.grow"
# What of the file system or folder is mounted.
SUBPATH = "x-runv.subpath"
# The name of a tmpfs that a machine has once.
SHARED = "x-runv.shared"

# Types whose source is a disk. Which of them the guest can mount is its kernel's business, and its message.
DISK_TYPES = frozenset({"btrfs", "erofs", "exfat", "ext2", "ext3", "ext4", "f2fs", "iso9660", "ntfs3", "squashfs", "udf", "vfat", "xfs"})

_PREFIX = "x-runv."
_NAME_MAX, _NAME_OTHERS = 200, "_.-"


def value_of(mount: "Mount", name: str) -> str:
    """What follows ``name=``; empty where it does not stand."""
    return next((word.partition("=")[2] for word in mount.options or [] if word.startswith(f"{name}=")), "")


def check_words(mount: "Mount", where: str) -> None:
    """``where``: what messages call the options.

    :raise ConfigError: a word is unknown, or not for this kind of mount
    """
    for word in mount.options or []:
        if not word.startswith(_PREFIX):
            continue
        name, _, value = word.partition("=")
        if word not in (COPY_UP, GROW) and not (name == SUBPATH and value) and not (name == SHARED and _is_name(value)):
            raise ConfigError(f"{where}: unknown word {word!r}", hint=f"there are {COPY_UP}, {GROW}, {SUBPATH}=DIRECTORY and {SHARED}=NAME")
        kind, allowed = _KINDS[name]
        if not _is(mount, allowed):
            raise ConfigError(f"{where}: {name} is for {kind}, not for {'bind' if mount.is_bind else mount.type or 'no type'}")


def _is_name(text: str) -> bool:
    return 0 < len(text) <= _NAME_MAX and text.isascii() and all(letter.isalnum() or letter in _NAME_OTHERS for letter in text)


_KINDS = {
    COPY_UP: ("file systems on disks", ("disk",)),
    GROW: ("file systems on disks", ("disk",)),
    SUBPATH: ("file systems on disks, bind mounts and shared tmpfs", ("disk", "bind", "shared")),
    SHARED: ("tmpfs", ("tmpfs",)),
}


def _is(mount: "Mount", allowed: tuple[str, ...]) -> bool:
    if mount.is_bind:
        return "bind" in allowed
    if mount.type in DISK_TYPES:
        return "disk" in allowed
    if mount.type == "tmpfs":
        return "tmpfs" in allowed or ("shared" in allowed and bool(value_of(mount, SHARED)))
    return False
