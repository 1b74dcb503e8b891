"""The host's cgroups: where the processes of a container sit, so that the host's statistics see them. v1 and v2.

The path in config.json is followed as runc follows it. Limits inside the guest are the guest's matter (guest/cgroup.c).
"""

import os
import time

from runv.errors import ConfigError, HostError
from runv.files import read_text

_REMOVE_TIMEOUT_S = 2.0
_REMOVE_POLL_S = 0.005


class Hierarchy:
    """One mounted hierarchy: where, and whether it is v1's cpuset, which must be given CPUs before processes."""

    __slots__ = ("mount", "needs_cpuset")

    def __init__(self, mount: str, needs_cpuset: bool) -> None:
        self.mount = mount
        self.needs_cpuset = needs_cpuset


def parse_mountinfo(text: str) -> list[Hierarchy]:
    """The cgroup hierarchies of /proc/self/mountinfo. A v2 mount beside v1 ones (hybrid) is one of them. Pure."""
    found = []
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, rest = after.partition(" ")
        if kind not in ("cgroup", "cgroup2"):
            continue
        mount = before.split()[4].replace("\\040", " ")
        controllers = rest.split()[-1].split(",") if kind == "cgroup" else []
        found.append(Hierarchy(mount, "cpuset" in controllers))
    return found


def relative_path(cgroups_path: str, container: str, *, systemd: bool) -> str:
    """The path under each hierarchy's mount that ``linux.cgroupsPath`` means, without a leading slash. Pure.

    With ``systemd`` it has the form ``slice:prefix:name`` and becomes ``slice/prefix-name.scope``.

    :raise ConfigError: it has another form, or leaves the hierarchy
    """
    path = cgroups_path or (f":runv:{container}" if systemd else f"/{container}")
    if systemd:
        path = _systemd_path(path)
    parts = [part for part in path.split("/") if part and part != "."]
    if ".." in parts or not parts:
        raise ConfigError(f"config.json: $.linux.cgroupsPath: invalid path {cgroups_path!r}")
    return "/".join(parts)


def _systemd_path(path: str) -> str:
    fields = path.split(":")
    if len(fields) != 3:
        raise ConfigError(f"config.json: $.linux.cgroupsPath: expected slice:prefix:name, not {path!r}")
    parent, prefix, name = fields
    unit = name if name.endswith(".slice") else f"{prefix}-{name}.scope" if prefix else f"{name}.scope"
    return "/".join([*_slice_folders(parent or "system.slice"), unit])


def _slice_folders(name: str) -> list[str]:
    """systemd nests slices by their dashes: ``a-b.slice`` is the folder ``a.slice/a-b.slice``."""
    stem = name.removesuffix(".slice")
    if stem in ("-", ""):
        return []
    words = stem.split("-")
    return ["-".join(words[: count + 1]) + ".slice" for count in range(len(words))]


def plan(relative: str) -> list[str]:
    """The folders that stand for ``relative`` in this host's hierarchies, absolute."""
    return [os.path.join(hierarchy.mount, relative) for hierarchy in _hierarchies()]


def _hierarchies() -> list[Hierarchy]:
    return parse_mountinfo(read_text("/proc/self/mountinfo"))


def missing_folders(folders: list[str]) -> list[str]:
    """Of ``folders`` and their parents those that do not exist, outermost first: what ``create`` will make, and ``remove`` take away."""
    missing: list[str] = []
    for folder in folders:
        chain = []
        while not os.path.isdir(folder) and folder != "/":
            chain.append(folder)
            folder = os.path.dirname(folder)
        missing += reversed(chain)
    return list(dict.fromkeys(missing))


def create(folders: list[str]) -> None:
    """Makes cgroups, parents before children; those that exist are fine.

    :raise HostError: the kernel refused
    """
    cpusets = {h.mount for h in _hierarchies() if h.needs_cpuset}
    for folder in folders:
        try:
            os.mkdir(folder, 0o755)
        except FileExistsError:
            continue
        except OSError as error:
            raise HostError(f"create cgroup {folder}", error) from error
        if any(folder.startswith(mount + "/") for mount in cpusets):
            _inherit_cpuset(folder)


def _inherit_cpuset(folder: str) -> None:
    # v1: a new cpuset has no CPUs and no memory nodes, and takes no process until it has some.
    parent = os.path.dirname(folder)
    for name in ("cpuset.cpus", "cpuset.mems"):
        _write(os.path.join(folder, name), read_text(os.path.join(parent, name)).strip())


def enter(folders: list[str]) -> None:
    """Moves the calling process. Raises ``OSError``, with the file's name: it runs in a child before it executes."""
    for folder in folders:
        _write(os.path.join(folder, "cgroup.procs"), "0")


def of_process(pid: int) -> list[str]:
    """The cgroups a process sits in, below the hierarchies' roots."""
    paths = {line.split(":", 2)[2].strip("/") for line in read_text(f"/proc/{pid}/cgroup").splitlines()} - {""}
    folders = [os.path.join(hierarchy.mount, path) for hierarchy in _hierarchies() for path in sorted(paths)]
    return [folder for folder in folders if _holds(folder, pid)]


def _holds(folder: str, pid: int) -> bool:
    try:
        return str(pid) in read_text(os.path.join(folder, "cgroup.procs")).split()
    except OSError:
        return False


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(fd)


def remove(folders: list[str]) -> None:
    """Removes cgroups that we made, children first. Those in use by others, or gone, stay as they are."""
    deadline = time.monotonic() + _REMOVE_TIMEOUT_S
    for folder in reversed(folders):
        _remove_one(folder, deadline)


def _remove_one(folder: str, deadline: float) -> None:
    while True:
        try:
            os.rmdir(folder)
            return
        except FileNotFoundError:
            return
        except OSError:
            # A process that was just killed may leave its cgroup a moment after it is gone for wait(2).
            if _occupied(folder) or time.monotonic() > deadline:
                return
            time.sleep(_REMOVE_POLL_S)


def _occupied(folder: str) -> bool:
    """Whether others use the cgroup: it has children, or processes."""
    try:
        has_children = any(entry.is_dir(follow_symlinks=False) for entry in os.scandir(folder))
        return has_children or bool(read_text(os.path.join(folder, "cgroup.procs")).strip())
    except OSError:
        return False
