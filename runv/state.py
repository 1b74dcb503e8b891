"""What is on disk: the state root, containers, sandboxes, and what may follow what.

::

    ROOT/<container>/state.json      who it is; written whole or not at all
    ROOT/<container>/config.json     config.json as it was at create
    ROOT/<container>/init.pid        the stand-in of its first process, written by the stand-in's own child
    ROOT/<container>/relay.pid       what carries connections from inside to sockets that it was given
    ROOT/<container>/watch.pid       what watches the folders that it shares with the host
    ROOT/<container>/notify/         where its notification socket is, while somebody waits for it to be ready
    ROOT/<container>/exec/<name>.pid the stand-ins of other processes
    ROOT/<container>/paused          its processes stand still
    ROOT/@sandboxes/<sandbox>/       one virtual machine (``runv.sandbox.layout``); @ is not allowed in ids

The folder of a container carries its lock. This module is on the path of every command: it imports next to nothing.
"""

import errno
import os
import time

from runv.errors import ConfigError, ExistsError, HostError, NotFoundError, StateError
from runv.files import read_text, write_atomic
from runv.processes import Identity, read_identity
from runv.quick import dumps, loads, suppress

SANDBOXES = "@sandboxes"
ID_MAX = 128
_ID_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+.-")

CREATING = "creating"
CREATED = "created"
RUNNING = "running"
PAUSED = "paused"
STOPPED = "stopped"


def check_id(container: str) -> None:
    """:raise ConfigError: ``container`` cannot be an id."""
    if not container or len(container) > ID_MAX or container in (".", "..") or not _ID_CHARACTERS.issuperset(container):
        raise ConfigError(
            f"invalid container ID format: {container!r}", hint="ids have 1 to 128 characters of A-Z a-z 0-9 _ + . -"
        )


class ContainerRecord:
    """state.json. Times are RFC 3339; ``started`` is empty until the program was let run. ``groups`` are the host's cgroups that
    its processes sit in, ``made_groups`` those of them, and of their parents, that are ours to remove."""

    __slots__ = ("annotations", "bundle", "created", "groups", "id", "made_groups", "oci_version", "rootfs", "sandbox", "started")

    def __init__(
        self,
        *,
        id: str,  # noqa: A002 - the specification's word
        sandbox: str,
        bundle: str,
        rootfs: str,
        oci_version: str,
        created: str,
        annotations: dict[str, str],
        groups: list[str],
        made_groups: list[str],
        started: str = "",
    ) -> None:
        self.id = id
        self.sandbox = sandbox
        self.bundle = bundle
        self.rootfs = rootfs
        self.oci_version = oci_version
        self.created = created
        self.started = started
        self.annotations = annotations
        self.groups = groups
        self.made_groups = made_groups


def timestamp() -> str:
    """Now, as RFC 3339 with nanoseconds in UTC, as runc writes it."""
    now = time.time_ns()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 10**9)) + f".{now % 10**9:09d}Z"


class Container:
    """One container's folder. Reading needs no lock; whoever changes something holds ``files.locked_folder(folder)``."""

    __slots__ = ("folder", "id", "root")

    def __init__(self, root: str, container: str) -> None:
        self.root = root
        self.id = container
        self.folder = os.path.join(root, container)

    def path(self, *names: str) -> str:
        """A file in the container's folder."""
        return os.path.join(self.folder, *names)

    def exists(self) -> bool:
        """Whether there is anything of it on disk."""
        return os.path.isdir(self.folder)

    def reserve(self) -> None:
        """Takes the id: whoever makes the folder owns it.

        :raise ExistsError: it is taken
        """
        make_root(self.root)
        try:
            os.mkdir(self.folder, 0o711)
        except FileExistsError:
            raise ExistsError(f"container with given ID already exists: {self.id}") from None
        except OSError as error:
            raise HostError(f"create {self.folder}", error) from error

    def load(self) -> ContainerRecord:
        """:raise NotFoundError: there is no such container, or it is not yet, or no longer, one."""
        try:
            return ContainerRecord(**loads(read_text(self.path("state.json"))))
        except (FileNotFoundError, NotADirectoryError):
            raise NotFoundError("container does not exist") from None
        except (ValueError, TypeError) as error:
            raise StateError(
                f"cannot read {self.path('state.json')}: {error}", hint="`runv delete --force` removes the container"
            ) from error

    def save(self, record: ContainerRecord) -> None:
        """Writes state.json; the caller holds the lock."""
        fields = {name: getattr(record, name) for name in ContainerRecord.__slots__}
        write_atomic(self.path("state.json"), dumps(fields))

    def standin(self) -> Identity | None:
        """The host process of the container's first process; None when it was never started."""
        return read_identity(self.path("init.pid"))

    def relay(self) -> Identity | None:
        """The host process that carries its connections to sockets of the host; None where there are none."""
        return read_identity(self.path("relay.pid"))

    def watcher(self) -> Identity | None:
        """The host process that watches its shared folders; None where none does."""
        return read_identity(self.path("watch.pid"))

    def status(self, record: ContainerRecord) -> tuple[str, int]:
        """Status and pid (0 when stopped), found from what is alive now, not from what was written."""
        standin = self.standin()
        if standin is None or not standin.alive():
            return STOPPED, 0
        if not os.path.exists(self.path("ready")):
            return CREATING, standin.pid
        if os.path.exists(self.path("paused")) or os.path.exists(os.path.join(self.root, SANDBOXES, record.sandbox, "paused")):
            return PAUSED, standin.pid
        return (RUNNING if record.started else CREATED), standin.pid

    def mark_ready(self) -> None:
        """Creation is complete: from now on the container is ``created``."""
        write_atomic(self.path("ready"), "")

    def execs_folder(self) -> str:
        """Where the pid files of its other processes are; made with the first of them."""
        return self.path("exec")

    def exec_standins(self) -> list[Identity]:
        """The host processes of the container's other processes, ended ones included."""
        folder = self.execs_folder()
        with suppress(FileNotFoundError):
            return [found for name in os.listdir(folder) if (found := read_identity(os.path.join(folder, name))) is not None]
        return []


def make_root(root: str) -> None:
    """:raise HostError: the state root cannot be made"""
    try:
        os.makedirs(os.path.join(root, SANDBOXES), 0o700, exist_ok=True)
    except OSError as error:
        hint = "runv needs root, or --root naming a folder of your own" if error.errno == errno.EACCES else ""
        raise HostError(f"create state root {root}", error, hint=hint) from error


def containers(root: str) -> list[Container]:
    """Every container under ``root``, by id; none when there is no root yet."""
    try:
        names = sorted(os.listdir(root))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise HostError(f"read state root {root}", error) from error
    return [Container(root, name) for name in names if "@" not in name and not name.startswith(".")]


def default_root() -> str:
    """Where state is kept when ``--root`` does not say."""
    runtime_dir = os.environ.get("XDG_RUNTIME_DIR")
    return os.path.join(runtime_dir, "runv") if os.geteuid() != 0 and runtime_dir else "/run/runv"
