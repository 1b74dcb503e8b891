"""What of a container somebody sees who joins the mount namespace of its stand-in: its root file system, and the host's folders in it.

Podman copies files that way into a running container (``podman cp``), and people look around with ``nsenter``. In the host's own mount namespace they would
read and write the host's files instead. The stand-in itself keeps its view of the host: the container's root is laid over ``/`` of its namespace, where only
who joins it comes to stand (setns(2)). What exists in the guest alone, a tmpfs or /proc, is not there.
"""

import os
import stat

from runv import linux
from runv.processes import Identity
from runv.quick import NamedTuple, suppress
from runv.spec.config import Config
from runv.storage.words import SUBPATH, value_of
from runv.vm.namespace import inside
from runv.vm.qemu import Bind

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from collections.abc import Iterator


class _Placed(NamedTuple):
    """A bind mount: a detached copy of its source, and where it goes in the container."""

    tree: int
    destination: str
    is_folder: bool
    readonly: bool


def show(standin: Identity, config: Config, binds: list[Bind], folder: str) -> None:
    """Lays a container over the mount namespace of its stand-in, which has one of its own. See ``needs_guest``.

    :param binds: what is shared with the guest: ``<container>/rootfs``, and ``<container>/<index>/<name>`` for mounts of config.json
    :param folder: any folder; where the root file system is a disk of the guest's, an empty one is to see
    :raise HostError: the stand-in has ended, or the kernel refused
    """
    inside(standin, lambda: _lay_over(config, binds, folder), "show the files of the container")


def needs_guest(config: Config, binds: list[Bind]) -> bool:
    """Whether a mount point of the container's has yet to be made, by the guest, for ``show`` to show what is there."""
    sources = {bind.name.split("/")[1]: bind for bind in binds}
    if "rootfs" not in sources:
        return False  # they are made where nobody sees them
    return any(not _exists(sources["rootfs"].source, mount.destination) for index, mount in enumerate(config.mounts or []) if str(index) in sources)


def _exists(root: str, destination: str) -> bool:
    try:
        os.close(_target(root, destination))
    except OSError:
        return False
    return True


def _lay_over(config: Config, binds: list[Bind], folder: str) -> None:
    """Runs in the namespace. Raises ``OSError``."""
    sources = {bind.name.split("/")[1]: bind for bind in binds}
    placed = list(_placed(config, sources))
    root = sources["rootfs"].source if "rootfs" in sources else folder
    if root == "/":
        return  # that is what there is to see
    if "rootfs" in sources:
        linux.move_mount(linux.open_tree(root, recursive=True), root)
    else:
        linux.mount("none", root, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=755,size=64k")
    linux.mount("none", root, None, linux.MS_REC | linux.MS_PRIVATE)
    for one in placed:
        # A mount point may be in a tmpfs of the guest's: then it is not here either.
        with suppress(OSError):
            _place(root, one)
    if config.root is not None and config.root.readonly:
        _make_readonly(root)
    linux.mount(root, "/", None, linux.MS_MOVE)


def _placed(config: Config, sources: dict[str, Bind]) -> "Iterator[_Placed]":
    """The bind mounts in their order, taken before anything covers a source."""
    for index, mount in enumerate(config.mounts or []):
        bind = sources.get(str(index))
        # Of a part of a folder only the guest knows which it is.
        if bind is not None and not value_of(mount, SUBPATH):
            tree = bind.open()
            yield _Placed(tree, mount.destination, os.path.isdir(bind.source), "ro" in (mount.options or []))


def _place(root: str, one: _Placed) -> None:
    target = _target(root, one.destination)
    try:
        if stat.S_ISDIR(os.fstat(target).st_mode) != one.is_folder:
            return
        linux.move_mount(one.tree, target)
    finally:
        os.close(target)
    if one.readonly:
        target = _target(root, one.destination)
        try:
            _make_readonly(f"/proc/self/fd/{target}")
        finally:
            os.close(target)


def _target(root: str, destination: str) -> int:
    """A descriptor of ``destination`` as the container sees it: none of its links leads out."""
    folder = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return linux.openat2(folder, destination, os.O_PATH | os.O_CLOEXEC, linux.RESOLVE_IN_ROOT)
    finally:
        os.close(folder)


def _make_readonly(target: str) -> None:
    linux.mount("none", target, None, linux.MS_REMOUNT | linux.MS_BIND | linux.MS_RDONLY)
