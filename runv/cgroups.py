"""The host's cgroups: where the processes of a container sit, so that the host's statistics and limits hold for them. v1 and v2.

The path in config.json is followed as runc follows it. What is written into the files is ``runv.limits``' matter.
"""

import errno
import os
import time

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from runv.limits import Setting

from runv import processes
from runv.errors import ConfigError, HostError
from runv.files import read_text
from runv.quick import suppress

_REMOVE_TIMEOUT_S = 2.0
_REMOVE_POLL_S = 0.005


class Hierarchy:
    """One mounted hierarchy: where, its version, and, of v1, its controllers (v2 has a file for them in each cgroup)."""

    __slots__ = ("controllers", "mount", "version")

    def __init__(self, mount: str, version: int, controllers: list[str]) -> None:
        self.mount = mount
        self.version = version
        self.controllers = controllers

    @property
    def needs_cpuset(self) -> bool:
        """Whether it is v1's cpuset, which must be given CPUs before processes."""
        return self.version == 1 and "cpuset" in self.controllers

    def holds(self, folder: str) -> bool:
        """Whether a folder is one of its cgroups."""
        return folder.startswith(self.mount + "/")

    def controllers_of(self, folder: str) -> list[str]:
        """What can be set in one of its cgroups."""
        if self.version == 1:
            return self.controllers
        try:
            return read_text(os.path.join(folder, "cgroup.controllers")).split()
        except FileNotFoundError:
            return []


def parse_mountinfo(text: str) -> list[Hierarchy]:
    """The cgroup hierarchies of /proc/self/mountinfo. A v2 mount beside v1 ones (hybrid) is one of them. Pure."""
    found = []
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, rest = after.partition(" ")
        if kind not in ("cgroup", "cgroup2"):
            continue
        mount = before.split()[4].replace("\\040", " ")
        if kind == "cgroup2":
            found.append(Hierarchy(mount, 2, []))
        else:
            found.append(Hierarchy(mount, 1, rest.split()[-1].split(",")))
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


def own_folders(folders: list[str], claimed: "Collection[str]") -> list[str]:
    """Of ``folders`` and their parents those that are ours, outermost first: what ``create`` will make, and ``remove`` take away.

    Ours are those that do not exist, and those that others of our containers have made (``claimed``) and may leave to us.
    """
    own: list[str] = []
    for folder in folders:
        chain = []
        while folder != "/":
            if folder in claimed or not os.path.isdir(folder):
                chain.append(folder)
            folder = os.path.dirname(folder)
        own += reversed(chain)
    return list(dict.fromkeys(own))


def memory_folder(folders: list[str]) -> str:
    """The one of ``folders`` where memory is counted; empty when none is."""
    for hierarchy in _hierarchies():
        for folder in folders:
            if hierarchy.holds(folder) and "memory" in hierarchy.controllers_of(folder):
                return folder
    return ""


def create(folders: list[str]) -> None:
    """Makes cgroups, parents before children; those that exist are fine.

    :raise HostError: the kernel refused
    """
    hierarchies = _hierarchies()
    cpusets = [h for h in hierarchies if h.needs_cpuset]
    unified = [h for h in hierarchies if h.version == 2]
    for folder in folders:
        for hierarchy in unified:
            if hierarchy.holds(folder):
                _hand_down(hierarchy.mount, os.path.dirname(folder))
        try:
            os.mkdir(folder, 0o755)
        except FileExistsError:
            continue
        except OSError as error:
            raise HostError(f"create cgroup {folder}", error) from error
        if any(hierarchy.holds(folder) for hierarchy in cpusets):
            _inherit_cpuset(folder)


def _hand_down(mount: str, folder: str) -> None:
    """v2: a cgroup can limit what all of its ancestors hand down. What one cannot is missed, and told, when it is to be set."""
    if folder != mount:
        _hand_down(mount, os.path.dirname(folder))
    try:
        there = read_text(os.path.join(folder, "cgroup.controllers")).split()
        given = read_text(os.path.join(folder, "cgroup.subtree_control")).split()
    except OSError:
        return
    for name in there:
        if name not in given:
            with suppress(OSError):
                _write(os.path.join(folder, "cgroup.subtree_control"), f"+{name}")


def apply(folders: list[str], wanted: "list[Setting]") -> list[tuple[str, str]]:
    """Writes limits into the cgroups ``folders``. What a hierarchy or the kernel lacks is left to the guest, unless it is ``needed``.

    :return: the files that were written and what they had said, for ``restore``
    :raise HostError: the kernel refused a value, or has no cgroup for a needed one; everything is as it was then
    """
    paths = [(path, text) for folder in folders for path, text in _writes(folder, wanted)]
    _check_needed(folders, wanted)
    before: list[tuple[str, str]] = []
    again: list[tuple[str, str]] = []
    try:
        for path, text in paths:
            before.append((path, read_text(path).strip()))
            # Some pairs (memory and memory with swap, quota and burst) have to be written in an order that depends on what is set.
            if not _put(path, text, patient=True):
                again.append((path, text))
        for path, text in again:
            _put(path, text, patient=False)
    except BaseException:
        restore(before)
        raise
    return before


def restore(before: list[tuple[str, str]]) -> None:
    """Takes back what ``apply`` did, as far as the kernel lets it: files with a line for each device say nothing that can be written."""
    for path, text in [*reversed(before), *before]:
        if text and "\n" not in text:
            with suppress(HostError):
                _put(path, text, patient=True)


def _writes(folder: str, wanted: "list[Setting]") -> "Iterator[tuple[str, str]]":
    for hierarchy in _hierarchies():
        controllers = hierarchy.controllers_of(folder) if hierarchy.holds(folder) else []
        for setting in wanted:
            if setting.version == hierarchy.version and setting.controller in controllers:
                choices = [(os.path.join(folder, file), text) for file, text in setting.choices]
                yield from [choice for choice in choices if os.path.exists(choice[0])][:1]


def _check_needed(folders: list[str], wanted: "list[Setting]") -> None:
    for what in {setting.what for setting in wanted if setting.needed}:
        ways = [setting for setting in wanted if setting.what == what]
        if not any(True for folder in folders for _ in _writes(folder, ways)):
            missing = OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
            raise HostError(f"set $.linux.resources.{what} on the host", missing)


def _put(path: str, text: str, *, patient: bool) -> bool:
    """False: refused, and ``patient``."""
    try:
        _write(path, text)
    except OSError as error:
        if patient and error.errno == errno.EINVAL:
            return False
        raise HostError(f"write {text!r} to {path}", error) from error
    return True


def _inherit_cpuset(folder: str) -> None:
    # v1: a new cpuset has no CPUs and no memory nodes, and takes no process until it has some.
    parent = os.path.dirname(folder)
    for name in ("cpuset.cpus", "cpuset.mems"):
        _write(os.path.join(folder, name), read_text(os.path.join(parent, name)).strip())


class Entry(processes.Entry):
    """The way of a child into cgroups, before it executes. Whom another moves, or who moves by ``cgroup.procs``, waits until all processors have passed by:
    10 to 20 ms. A child is forked into a v2 one, and into those of v1 its only thread moves by itself: for neither does the kernel wait."""

    def __init__(self, folders: list[str], *, forks: bool = True) -> None:
        """:param forks: False for a child that is forked beside us, and enters them all by itself"""
        self._folders = folders
        self._forks = forks
        self._forked_into = ""

    def fork(self) -> int:
        """``os.fork``, into what can be forked into."""
        for folder in self._folders if self._forks else ():
            if not _is_v1(folder):
                from runv import linux  # ctypes: only where there is v2

                try:
                    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                    try:
                        self._forked_into = folder
                        return linux.fork_into(fd)
                    finally:
                        os.close(fd)
                except OSError:  # a kernel before 5.7, a filter of system calls, a cgroup that takes no processes: `enter` tells, if it cannot either
                    self._forked_into = ""
        return os.fork()

    def enter(self) -> None:
        """Moves the calling process, which was forked by ``fork`` and has one thread. Raises ``OSError``, with the file's name."""
        for folder in self._folders:
            if folder != self._forked_into:
                _write(os.path.join(folder, "tasks" if _is_v1(folder) else "cgroup.procs"), "0")


def _is_v1(folder: str) -> bool:
    return os.path.exists(os.path.join(folder, "tasks"))


def move(folders: list[str], pid: int) -> None:
    """Moves a process. What it has of memory stays counted where it was.

    :raise HostError: the kernel refused; one that has ended is fine
    """
    for folder in folders:
        try:
            _write(os.path.join(folder, "cgroup.procs"), str(pid))
        except ProcessLookupError:
            return
        except OSError as error:
            raise HostError(f"move process {pid} into cgroup {folder}", error) from error


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
    for folder in sorted(folders, key=len, reverse=True):
        _remove_one(folder, deadline)


def _remove_one(folder: str, deadline: float) -> None:
    while True:
        try:
            os.rmdir(folder)
            return
        except FileNotFoundError:
            return
        except OSError:
            # A process that was just killed may leave its cgroup a moment after it is gone for wait(2), and those that show an
            # out-of-memory kill end by themselves.
            if _has_children(folder) or time.monotonic() > deadline:
                return
            time.sleep(_REMOVE_POLL_S)


def _has_children(folder: str) -> bool:
    """Whether others use the cgroup as a parent."""
    try:
        return any(entry.is_dir(follow_symlinks=False) for entry in os.scandir(folder))
    except OSError:
        return False
