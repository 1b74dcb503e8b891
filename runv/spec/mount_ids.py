"""The ids of an id-mapped mount (spec: config.md, "Mounts"; config-linux.md, "User namespace mappings"). Pure."""


from runv.errors import ConfigError
from runv.idmaps import IdMap, Range
from runv.quick import Any

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from runv.spec.config import Linux, Mount

# The file systems of the guest's that have such mounts.
DISKS = frozenset(("ext2", "ext3", "ext4", "erofs", "xfs"))
WORDS = frozenset(("idmap", "ridmap"))
_ID_MAX = 2**32 - 1
# user_namespaces(7)
_RANGES_MAX = 340


def mount_ids(mount: "Mount", linux: "Linux", where: str) -> IdMap | None:
    """How a mount's ids are mapped; None where they are as they are. ``where`` is how messages call the mount.

    :raise ConfigError: the mapping is none, or there is none to use
    """
    words = WORDS.intersection(mount.options or [])
    given = (mount.uid_mappings, mount.gid_mappings)
    if not words and not any(given):
        return None
    if not any(given):
        own = any(namespace.type == "user" and not namespace.path for namespace in linux.namespaces or [])
        given = (linux.uid_mappings, linux.gid_mappings) if own else (None, None)
    uids, gids = given
    if not uids or not gids:
        raise ConfigError(f"{where}: an id-mapped mount needs uidMappings and gidMappings, or a container with a user namespace of its own")
    if not mount.is_bind and mount.type not in DISKS:
        raise ConfigError(f"{where}: id-mapped mounts cannot be honoured but for bind mounts and disks of type {', '.join(sorted(DISKS))}")
    return IdMap(_ranges(uids, f"{where}.uidMappings"), _ranges(gids, f"{where}.gidMappings"), "ridmap" in words)


def _ranges(entries: list[dict[str, Any]], where: str) -> tuple[Range, ...]:
    if len(entries) > _RANGES_MAX:
        raise ConfigError(f"{where} has {len(entries)} ranges; a kernel takes at most {_RANGES_MAX}")
    ranges: list[Range] = []
    for index, entry in enumerate(entries):
        one = Range(*(_number(entry, member, f"{where}[{index}]") for member in ("containerID", "hostID", "size")))
        if one.size == 0 or max(one.disk, one.shown) + one.size > _ID_MAX:
            raise ConfigError(f"{where}[{index}]: ids are between 0 and {_ID_MAX - 1}, and a range has at least one")
        if any(_overlap(one.disk, other.disk, one, other) or _overlap(one.shown, other.shown, one, other) for other in ranges):
            raise ConfigError(f"{where}[{index}] overlaps with one before it")
        ranges.append(one)
    return tuple(ranges)


def _overlap(first: int, second: int, one: Range, other: Range) -> bool:
    return first < second + other.size and second < first + one.size


def _number(entry: dict[str, Any], member: str, where: str) -> int:
    value = entry.get(member, 0 if member != "size" else None)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ConfigError(f"{where}.{member} must be a whole number that is not negative, not {value!r}")
    return value
