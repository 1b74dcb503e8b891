"""System calls that Python does not have, with the kernel's names and argument order. One place turns -1 into ``OSError``."""

import ctypes
import os

CLONE_NEWNS = 0x00020000
CLONE_NEWNET = 0x40000000
CLONE_NEWUSER = 0x10000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_MOVE = 8192
MS_REC = 0x4000
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH = 0x4
MOVE_MOUNT_T_EMPTY_PATH = 0x40
RESOLVE_IN_ROOT = 0x10
_MOUNT_ATTR_IDMAP = 0x00100000

# The same numbers on every architecture (system calls added since 5.2 share one table).
_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_SYS_MOUNT_SETATTR = 442
_SYS_OPENAT2 = 437
_SYS_CLONE3 = 435
_CLONE_INTO_CGROUP = 0x200000000
_SYS_SET_MEMPOLICY = {"x86_64": 238, "aarch64": 237}
_PR_SET_THP_DISABLE = 41
_NODES_MAX = 1024
_SIGCHLD = 17

_libc = ctypes.CDLL(None, use_errno=True)
_locked_libc = ctypes.PyDLL(None, use_errno=True)  # nothing else of Python runs meanwhile


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result


class _CloneArgs(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in ("flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size", "tls", "set_tid", "set_tid_size", "cgroup")
    )


def fork_into(cgroup: int) -> int:
    """clone3(2), CLONE_INTO_CGROUP: as ``os.fork``, but the child is in a cgroup of v2, whose folder ``cgroup`` is a descriptor of, from the first."""
    given = _CloneArgs(flags=_CLONE_INTO_CGROUP, exit_signal=_SIGCHLD, cgroup=cgroup)
    python = ctypes.pythonapi
    python.PyOS_BeforeFork()
    pid: int = _locked_libc.syscall(ctypes.c_long(_SYS_CLONE3), ctypes.byref(given), ctypes.c_size_t(ctypes.sizeof(given)))
    if pid == 0:
        python.PyOS_AfterFork_Child()
    else:
        python.PyOS_AfterFork_Parent()
    return _check(pid, "clone3")


def unshare(flags: int) -> None:
    """unshare(2)."""
    _check(_libc.unshare(ctypes.c_int(flags)), "unshare")


def setns(fd: int, kind: int) -> None:
    """setns(2)."""
    _check(_libc.setns(ctypes.c_int(fd), ctypes.c_int(kind)), "setns")


def join(path: str, kind: int) -> None:
    """setns(2) by the path of a namespace."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(fd, kind)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(fd)


def mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    """mount(2)."""
    _check(
        _libc.mount(
            os.fsencode(source),
            os.fsencode(target),
            os.fsencode(kind) if kind is not None else None,
            ctypes.c_ulong(flags),
            os.fsencode(data) if data else None,
        ),
        target,
    )


def umount2(target: str, flags: int) -> None:
    """umount2(2)."""
    _check(_libc.umount2(os.fsencode(target), ctypes.c_int(flags)), target)


def inotify_init1(flags: int) -> int:
    """inotify_init1(2)."""
    return _check(_libc.inotify_init1(ctypes.c_int(flags)), "inotify")


def inotify_add_watch(fd: int, path: str, mask: int) -> int:
    """inotify_add_watch(2)."""
    return _check(_libc.inotify_add_watch(ctypes.c_int(fd), os.fsencode(path), ctypes.c_uint32(mask)), path)


def disable_huge_pages() -> None:
    """prctl(2), PR_SET_THP_DISABLE: for this process and the programs it executes, even where they ask for them."""
    _check(_libc.prctl(ctypes.c_int(_PR_SET_THP_DISABLE), ctypes.c_ulong(1), 0, 0, 0), "huge pages")


def set_mempolicy(mode: int, nodes: set[int]) -> None:
    """set_mempolicy(2): where this process's memory comes from, and that of the programs it executes."""
    mask = sum(1 << node for node in nodes)
    words = (ctypes.c_ulong * (_NODES_MAX // 64))(*(mask >> shift & (1 << 64) - 1 for shift in range(0, _NODES_MAX, 64)))
    number = _SYS_SET_MEMPOLICY[os.uname().machine]
    _check(
        _libc.syscall(
            ctypes.c_long(number), ctypes.c_int(mode), words if nodes else None, ctypes.c_ulong(_NODES_MAX if nodes else 0)
        ),
        "memory policy",
    )


def open_tree(path: str, *, recursive: bool) -> int:
    """open_tree(2): a detached copy of the mounts at ``path``, as a descriptor."""
    flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (AT_RECURSIVE if recursive else 0)
    return _check(
        _libc.syscall(
            ctypes.c_long(_SYS_OPEN_TREE), ctypes.c_int(AT_FDCWD), os.fsencode(path), ctypes.c_uint(flags)
        ),
        path,
    )


def move_mount(tree_fd: int, target: "str | int") -> None:
    """move_mount(2): attaches what ``open_tree`` returned at ``target``, a path or a descriptor."""
    path, fd = (target, AT_FDCWD) if isinstance(target, str) else ("", target)
    _check(
        _libc.syscall(
            ctypes.c_long(_SYS_MOVE_MOUNT),
            ctypes.c_int(tree_fd),
            b"",
            ctypes.c_int(fd),
            os.fsencode(path),
            ctypes.c_uint(MOVE_MOUNT_F_EMPTY_PATH | (0 if path else MOVE_MOUNT_T_EMPTY_PATH)),
        ),
        path or "move_mount",
    )


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def openat2(folder: int, path: str, flags: int, resolve: int) -> int:
    """openat2(2)."""
    how = _OpenHow(flags, 0, resolve)
    return _check(
        _libc.syscall(
            ctypes.c_long(_SYS_OPENAT2),
            ctypes.c_int(folder),
            os.fsencode(path),
            ctypes.byref(how),
            ctypes.c_size_t(ctypes.sizeof(how)),
        ),
        path,
    )


def make_slave(tree_fd: int) -> None:
    """mount_setattr(2) on what ``open_tree`` returned: from now on it follows the mounts it is a copy of, and they do not follow it."""
    _mount_setattr(tree_fd, AT_RECURSIVE, (0, 0, MS_SLAVE, 0))


def map_ids(tree_fd: int, namespace: int, *, recursive: bool) -> None:
    """mount_setattr(2) on what ``open_tree`` returned: its files belong to those that the user namespace maps their owners to."""
    _mount_setattr(tree_fd, AT_RECURSIVE if recursive else 0, (_MOUNT_ATTR_IDMAP, 0, 0, namespace))


def _mount_setattr(tree_fd: int, flags: int, values: tuple[int, int, int, int]) -> None:
    attributes = (ctypes.c_uint64 * 4)(*values)
    _check(
        _libc.syscall(
            ctypes.c_long(_SYS_MOUNT_SETATTR),
            ctypes.c_int(tree_fd),
            b"",
            ctypes.c_uint(AT_EMPTY_PATH | flags),
            attributes,
            ctypes.c_size_t(ctypes.sizeof(attributes)),
        ),
        "mount_setattr",
    )
