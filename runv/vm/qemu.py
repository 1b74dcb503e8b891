"""The QEMU process: its private mount namespace, its start, its end."""

import os

from runv import cgroups, linux
from runv.idmaps import IdMap, map_tree
from runv.processes import Identity, spawn
from runv.quick import NamedTuple
from runv.vm.cmdline import qemu_arguments
from runv.vm.machine import Machine

# One heap for all threads, from which glib takes its small pieces as well: what is freed after a start can be given back. 0.8 MB for each machine.
# The thresholds are glibc's own at the start, and once said do not grow with what is freed: the top of the heap and large pieces go back at once.
_MALLOC = {"G_SLICE": "always-malloc", "MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "131072", "MALLOC_MMAP_THRESHOLD_": "131072"}
_ENVIRONMENT = {"PATH": os.defpath, **_MALLOC}


class Bind(NamedTuple):
    """A folder or file of the host shown in the sandbox's share folder under ``name`` (``<container>/rootfs``)."""

    source: str
    name: str
    recursive: bool = True
    idmap: IdMap | None = None

    def open(self) -> int:
        """A detached copy of its mounts, with the ids they are to have. Raises ``OSError``."""
        tree = linux.open_tree(self.source, recursive=self.recursive)
        if self.idmap is not None:
            try:
                map_tree(tree, self.idmap)
            except OSError as error:
                os.close(tree)
                raise OSError(error.errno, error.strerror, self.source) from None
        return tree


def start(
    machine: Machine,
    *,
    share: str,
    binds: list[Bind],
    groups: list[str],
    netns_pid: int,
    pid_file: str,
    null_fd: int,
    memory_policy: tuple[int, set[int]] | None = None,
) -> Identity:
    """Starts QEMU in a mount namespace of its own, in which ``share`` holds ``binds`` and nothing else.

    The mounts are nowhere but in that namespace: when QEMU ends, however it ends, they are gone.

    :raise HostError: it could not be started
    """

    def prepare() -> None:
        if machine.accelerator == "tcg":
            # QEMU asks for them for its tables, of which it then uses a part: 2 MB for each machine, and 5 % of the time that a start takes.
            linux.disable_huge_pages()
        if memory_policy is not None:
            linux.set_mempolicy(*memory_policy)
        linux.join(f"/proc/{netns_pid}/ns/net", linux.CLONE_NEWNET)
        linux.unshare(linux.CLONE_NEWNS)
        linux.mount("none", "/", None, linux.MS_REC | linux.MS_SLAVE)
        linux.mount("share", share, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=755,size=16m")
        # virtiofsd lives in a copy of this namespace, and must see what is added later.
        linux.mount("none", share, None, linux.MS_SHARED)
        attach([(bind.open(), bind) for bind in binds], share)

    keep = [machine.transport.fd, machine.qmp_fd, machine.console_fd]
    keep += [fd for nic in machine.nics for fd in (*nic.fds, *nic.vhost_fds)]
    keep += [*(machine.restore or ()), *([] if machine.memory.fd < 0 else [machine.memory.fd])]
    keep += [plugged.disk.fd for plugged in machine.plugged]
    return spawn(
        qemu_arguments(machine),
        env=_ENVIRONMENT | ({"LD_PRELOAD": machine.shim} if machine.shim else {}),
        stdio=(null_fd, null_fd, machine.console_fd),
        keep=keep,
        pid_file=pid_file,
        entry=cgroups.Entry(groups),
        prepare=prepare,
    )


def attach(trees: list[tuple[int, Bind]], share: str) -> None:
    """Puts mount trees (``linux.open_tree``) in place under ``share``; runs inside the namespace. Raises ``OSError``."""
    for tree, bind in trees:
        target = os.path.join(share, bind.name)
        os.makedirs(os.path.dirname(target), 0o755, exist_ok=True)
        if os.path.isdir(bind.source):
            os.makedirs(target, 0o755, exist_ok=True)
        else:
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
        linux.move_mount(tree, target)
        os.close(tree)
