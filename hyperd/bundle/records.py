"""What a bundle is made of beside the pod's own specification: the image, the place, and where volumes are."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol


class ImageConfig(Protocol):
    """The part of an image's configuration that containers start with. None and empty are the same."""

    @property
    def entrypoint(self) -> Sequence[str] | None: ...
    @property
    def cmd(self) -> Sequence[str] | None: ...
    @property
    def env(self) -> Sequence[str] | None: ...
    @property
    def working_dir(self) -> str | None: ...
    @property
    def user(self) -> str | None: ...
    @property
    def volumes(self) -> Any: ...
    @property
    def stop_signal(self) -> str | None: ...


class ImageView(NamedTuple):
    """``passwd`` and ``group`` are the image's files, empty where it has none. ``layers``: paths of EROFS images, bottom first."""

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    working_dir: str = ""
    user: str = ""
    volumes: tuple[str, ...] = ()
    stop_signal: str = ""
    passwd: bytes = b""
    group: bytes = b""
    layers: tuple[str, ...] = ()


def image_view(config: ImageConfig, passwd: bytes = b"", group: bytes = b"", layers: Sequence[str] = ()) -> ImageView:
    return ImageView(
        entrypoint=tuple(config.entrypoint or ()),
        cmd=tuple(config.cmd or ()),
        env=tuple(config.env or ()),
        working_dir=config.working_dir or "",
        user=config.user or "",
        volumes=tuple(sorted(config.volumes or ())),
        stop_signal=config.stop_signal or "",
        passwd=passwd,
        group=group,
        layers=tuple(layers),
    )


class Place(NamedTuple):
    """Where a container lives. ``infra_pid`` is what ``runv state`` says of the pod's infra container. ``files``: a folder of the host for the container's
    small files. Addresses are without prefix; ``dns_*`` are what the pod's networks say."""

    pod_id: str
    container_id: str
    infra_pid: int = 0
    files: str = ""
    cgroup: str = ""
    addresses: tuple[str, ...] = ()
    host_addresses: tuple[str, ...] = ()
    node_name: str = ""
    dns_servers: tuple[str, ...] = ()
    dns_searches: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()


class Folder(NamedTuple):
    """A directory or file of the host, shared with the machine."""

    path: str


class Disk(NamedTuple):
    """A disk image (raw, or qcow2 by its name) or block device with a file system. ``populate``: from the image, when it is empty."""

    path: str
    fstype: str
    populate: bool = False


class Memory(NamedTuple):
    """A tmpfs of the guest's. ``size`` in bytes, 0: half of the machine's memory. ``shared``: its name in the machine, where it stays as long as the
    machine does; empty: the container's alone. "shm" is taken."""

    size: int = 0
    mode: int = 0o1777
    gid: int = 0
    shared: str = ""


Source = Folder | Disk | Memory


class HostFile(NamedTuple):
    """A file that is to be written on the host before the container is made."""

    path: str
    content: bytes
    mode: int = 0o644
    uid: int = 0
    gid: int = 0


class Bundle(NamedTuple):
    """``config`` is config.json. ``archive``: a tar that is extracted at the container's root when it is created, before its program runs; or empty."""

    config: dict[str, Any]
    files: tuple[HostFile, ...]
    archive: bytes = b""
