"""Bundles: what runv is given to make a pod's containers of. Images are found or pulled, disks and files made, config.json written."""

import asyncio
import os
import shutil
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from hyperd import bundle, spec
from hyperd.config import Config
from hyperd.errors import ConflictError, HyperError, InvalidError, MissingError, UnavailableError
from hyperd.images import Image, Images, write_program
from hyperd.pods.health import Check, check_of
from hyperd.pods.ports import Networks, Prepared, Runtime
from hyperd.store import ContainerRecord, ExecRecord, PodRecord
from hyperd.volumes import Volumes
from runv import settings

Pull = Callable[[str, str], Awaitable[Image]]

# The only program of a trial's container; it ends by itself.
TRIAL = "/program"
_FILE_MAX = 64 << 20
_VOLUME_BYTES = 10 << 30


class BundlePreparer:
    """Makes bundles below the folders of the settings.

    :param pull: gets an image by reference and policy
    """

    def __init__(self, config: Config, runtime: Runtime, images: Images, volumes: Volumes, networks: Networks, pull: Pull) -> None:
        self._config = config
        self._runtime = runtime
        self._images = images
        self._volumes = volumes
        self._networks = networks
        self._pull = pull

    async def infra(self, pod: PodRecord, namespace: str) -> Path:
        """The bundle of the machine."""
        most = self._config.machines
        config = bundle.infra(pod.spec, bundle.Place(pod.id, pod.id), namespace, most.vcpus_max, most.memory_max_mib)
        if not namespace:
            for entry in config["linux"]["namespaces"]:
                if entry["type"] == "network":
                    del entry["path"]
        folder = self._folder(pod.id, "infra")
        await asyncio.to_thread(_write_bundle, folder, config, ())
        return folder

    async def trial(self, pod: PodRecord, record: ContainerRecord) -> Path:
        """The bundle of a container as pods have them, of layers and a disk, whose program ends by itself.

        :raise UnavailableError: it cannot be made
        """
        layer = Path(self._config.state) / "trial.erofs"
        if not await asyncio.to_thread(layer.exists):
            await asyncio.to_thread(write_program, layer, settings.load().text("standin"), TRIAL[1:])
        root = self._config.pod_root(pod.id) / record.id
        await asyncio.to_thread(_make_folder, root)
        upper = root / "root.ext4"
        await self._disk(upper, self._config.root_size_mib << 20, empty=False)
        wanted = spec.Container(name=record.name, image="", args=(TRIAL,))
        view = bundle.ImageView(layers=(str(layer),))
        made = bundle.container(pod.spec, wanted, view, self._place(pod, record), {}, upper=str(upper), read=_read)
        folder = self._folder(pod.id, record.id)
        await asyncio.to_thread(_write_bundle, folder, made.config, made.files)
        return folder

    async def looking(self, pod: PodRecord, record: ContainerRecord, helper: str, *, own: bool) -> Path:
        """The bundle of a helper that has the files of a container which does not run.

        :raise HyperError: its image or its disk is not there
        """
        image = await asyncio.to_thread(self._images.find, record.image)
        upper = self._upper(pod, record)
        if not upper.exists():
            raise UnavailableError(f"container {record.name}: cannot read {upper}: No such file or directory")
        place = bundle.Place(helper if own else pod.id, helper, infra_pid=0 if own else self._runtime.pid(pod.id))
        folder = self._folder(pod.id, helper)
        empty = bundle.HostFile(str(folder / "files/empty"), b"")
        config = bundle.looking(place, _view(image), str(upper), own=own, empty=empty.path)
        await asyncio.to_thread(_write_bundle, folder, config, (empty,))
        return folder

    async def forget_look(self, pod: PodRecord, helper: str) -> None:
        """Its bundle."""
        await asyncio.to_thread(_remove, self._folder(pod.id, helper))

    def _upper(self, pod: PodRecord, record: ContainerRecord) -> Path:
        return self._config.pod_root(pod.id) / record.id / "root.ext4"

    async def container(self, pod: PodRecord, record: ContainerRecord, container: spec.Container) -> Prepared:
        """The bundle of one container.

        :raise HyperError: an image, a volume or a file cannot be had
        """
        image = await self._image(record, container)
        root = self._config.pod_root(pod.id) / record.id
        await asyncio.to_thread(_make_folder, root)
        upper = self._upper(pod, record)
        await self._disk(upper, container.root_size or self._config.root_size_mib << 20, empty=False)
        sources = {volume.name: await self._source(pod, volume) for volume in pod.spec.volumes if _mounts(container, volume.name)}
        folder = self._folder(pod.id, record.id)
        made = await asyncio.to_thread(
            bundle.container,
            pod.spec,
            container,
            _view(image),
            self._place(pod, record),
            sources,
            upper=str(upper),
            anonymous=await self._anonymous(root, image, container),
            read=_read,
        )
        await asyncio.to_thread(_write_bundle, folder, made.config, made.files)
        return Prepared(folder, image.id, container.tty, container.stdin, container.stdin_once, container.log or pod.spec.log, made.archive)

    async def _image(self, record: ContainerRecord, container: spec.Container) -> Image:
        """That which the container had before, else that of its name: a container that is started again does not change under its user."""
        if record.image and container.pull != "always":
            try:
                return self._images.find(record.image)
            except MissingError:
                pass  # somebody has removed it by force
        if container.pull != "always":
            try:
                return await asyncio.to_thread(self._images.find, container.image)
            except MissingError:
                if container.pull == "never":
                    raise
        return await self._pull(container.image, container.pull)

    def _place(self, pod: PodRecord, record: ContainerRecord) -> bundle.Place:
        attachments = self._networks.attachments(pod.id)
        return bundle.Place(
            pod_id=pod.id,
            container_id=record.id,
            infra_pid=self._runtime.pid(pod.id),
            files=str(self._folder(pod.id, record.id) / "files"),
            addresses=tuple(address.partition("/")[0] for one in attachments for address in one.addresses),
            host_addresses=tuple(gateway for one in attachments for gateway in one.gateways),
            node_name=os.uname().nodename,
            dns_servers=tuple(dict.fromkeys(server for one in attachments for server in one.dns)),
            dns_searches=tuple(dict.fromkeys(search for one in attachments for search in one.searches)),
        )

    async def _disk(self, path: Path, size: int, *, mode: int = 0o755, gid: int = 0, empty: bool = True) -> None:
        """Makes it unless it is there, whole or not at all."""
        if path.exists():
            return
        temporary = path.with_suffix(".new")
        await asyncio.to_thread(temporary.unlink, True)
        await self._volumes.make_disk(temporary, size, mode=mode, gid=gid, empty=empty)
        temporary.rename(path)

    async def _anonymous(self, root: Path, image: Image, container: spec.Container) -> dict[str, bundle.Source]:
        """A disk for each volume that the image declares and nothing else covers; it goes with the container."""
        taken = {mount.path.rstrip("/") for mount in container.mounts}
        found: dict[str, bundle.Source] = {}
        for number, path in enumerate(sorted(image.config.volumes or ())):
            if path.rstrip("/") not in taken:
                disk = root / f"volume{number}.ext4"
                await self._disk(disk, _VOLUME_BYTES)
                found[path] = bundle.Disk(str(disk), "ext4", populate=True)
        return found

    async def _source(self, pod: PodRecord, volume: spec.Volume) -> bundle.Source:
        source = volume.source
        if isinstance(source, spec.EmptyDir):
            return await self._empty(pod, volume.name, source)
        if isinstance(source, spec.HostPath):
            await asyncio.to_thread(_check_host_path, source)
            return bundle.Folder(source.path)
        if isinstance(source, spec.Named):
            return await self._named(pod, source)
        if isinstance(source, spec.Image):
            if not await asyncio.to_thread(os.path.exists, source.path):
                raise UnavailableError(f"volume {volume.name}: cannot attach {source.path}: No such file or directory")
            return bundle.Disk(source.path, source.fstype or "ext4")
        return await self._files(self._folder(pod.id, "volumes"), volume.name, source, pod.spec.fs_group)

    async def _files(self, folder: Path, name: str, source: spec.Projected, fs_group: int | None) -> bundle.Source:
        """Written once, whole or not at all: other containers of the pod may have it mounted."""
        whole = folder / name
        if not await asyncio.to_thread(whole.exists):
            new = folder / f".{name}"
            await asyncio.to_thread(_write_files, new, bundle.projected(source, str(new), fs_group))
            await asyncio.to_thread(new.rename, whole)
        return bundle.Folder(str(whole))

    async def _empty(self, pod: PodRecord, name: str, source: spec.EmptyDir) -> bundle.Source:
        mode, gid = bundle.root_of(pod.spec, source)
        if source.medium == "memory":
            return bundle.Memory(source.size, mode, gid, shared=f"volume-{name}")
        disk = self._config.pod_root(pod.id) / "volumes" / f"{name}.ext4"
        await asyncio.to_thread(_make_folder, disk.parent)
        await self._disk(disk, source.size or self._config.root_size_mib << 20, mode=mode, gid=gid)
        return bundle.Disk(str(disk), "ext4")

    async def _named(self, pod: PodRecord, source: spec.Named) -> bundle.Source:
        """What is made for a group stays the group's, and is not filled from the image."""
        mode, gid = bundle.root_of(pod.spec, source)
        try:
            volume = self._volumes.find(source.name)
        except MissingError:
            try:
                volume = await self._volumes.create(source.name, source.size, mode=mode, gid=gid)
            except ConflictError:  # another container of somebody's was faster
                volume = self._volumes.find(source.name)
        return bundle.Disk(str(volume.path), volume.fstype, populate=pod.spec.fs_group is None)

    async def stop_signal(self, record: ContainerRecord, container: spec.Container) -> int:
        """The specification's, the image's, or SIGTERM."""
        try:
            return signal.Signals[bundle.stop_signal(container, _view(self._images.find(record.image)))].value
        except (HyperError, KeyError):
            return signal.SIGTERM

    async def health_check(self, record: ContainerRecord, wanted: spec.Healthcheck) -> Check | None:
        """What is asked for, and for the rest what the image says."""
        try:
            config = (await asyncio.to_thread(self._images.find, record.image)).config
        except HyperError:  # somebody has removed it by force
            return check_of(wanted, None)
        return check_of(wanted, config.healthcheck, config.shell)

    async def process(self, pod: PodRecord, record: ContainerRecord, container: spec.Container, wanted: ExecRecord) -> Path:
        """The file that says what ``runv exec`` is to run.

        :raise InvalidError: there is no such user, ...
        """
        image = await asyncio.to_thread(self._images.find, record.image)
        document = bundle.exec_process(
            pod.spec,
            container,
            _view(image),
            self._place(pod, record),
            wanted.args,
            environment=[(name, value) for name, _, value in (entry.partition("=") for entry in wanted.environment)],
            cwd=wanted.cwd,
            user=wanted.user,
            tty=wanted.tty,
            privileged=wanted.privileged,
        )
        folder = self._folder(pod.id, "processes")
        await asyncio.to_thread(_make_folder, folder)
        path = folder / f"{wanted.id or record.id}.json"
        await asyncio.to_thread(path.write_bytes, msgspec.json.encode(document))
        return path

    async def machine(self, pod: PodRecord, wanted: ExecRecord) -> Path:
        """A container with the programs of an image, in no namespaces of its own but those of mounts and of the pod's name: it sees the machine as it is.

        :raise UnavailableError: the image is not here
        """
        try:
            image = await asyncio.to_thread(self._images.find, self._config.machine_image)
        except MissingError:
            hint = f"load it, or name another one in machine_image: {self._config.machine_image}"
            raise UnavailableError("there is no image with programs for the machine", hint=hint) from None
        privileged = spec.Container(
            name="machine", image=self._config.machine_image, tty=wanted.tty, security=spec.Security(privileged=True, user="0")
        )
        record = ContainerRecord(id=wanted.id, pod=pod.id, name="machine", kind="main", position=0, created=wanted.created)
        place = self._place(pod, record)
        made = bundle.container(pod.spec, privileged, _view(image), place, {}, read=_read)
        environment = [(name, value) for name, _, value in (entry.partition("=") for entry in wanted.environment)]
        made.config["process"] = bundle.exec_process(
            pod.spec,
            privileged,
            _view(image),
            place,
            wanted.args,
            environment=environment,
            cwd=wanted.cwd,
            user=wanted.user,
            tty=wanted.tty,
            privileged=True,
        )
        made.config["linux"]["namespaces"] = [{"type": "network", "path": f"/proc/{place.infra_pid}/ns/net"}, {"type": "mount"}, {"type": "uts"}]
        folder = self._folder(pod.id, wanted.id)
        await asyncio.to_thread(_write_bundle, folder, made.config, made.files)
        return folder

    async def forget_container(self, pod: PodRecord, record: ContainerRecord) -> None:
        """Its disk, log and files."""
        await asyncio.to_thread(_remove, self._folder(pod.id, record.id))
        await asyncio.to_thread(_remove, self._config.pod_state(pod.id) / record.id)
        await asyncio.to_thread(_remove, self._config.pod_root(pod.id) / record.id)

    async def forget_pod(self, pod: str) -> None:
        """All files of a pod."""
        await asyncio.to_thread(_remove, self._config.pod_state(pod))
        await asyncio.to_thread(_remove, self._config.pod_root(pod))

    async def known(self) -> list[str]:
        """The pods that have files."""

        def names() -> list[str]:
            roots = (Path(self._config.root) / "pods", Path(self._config.state) / "pods")
            return sorted({entry.name for root in roots if root.is_dir() for entry in root.iterdir()})

        return await asyncio.to_thread(names)

    def _folder(self, pod: str, name: str) -> Path:
        return self._config.pod_state(pod) / "bundles" / name


def _view(image: Image) -> bundle.ImageView:
    return bundle.image_view(image.config, image.passwd, image.group, [str(layer.path) for layer in image.layers])


def _mounts(container: spec.Container, volume: str) -> bool:
    return any(mount.volume == volume for mount in container.mounts)


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(mode=0o711, parents=True, exist_ok=True)
    except OSError as error:
        raise UnavailableError(f"cannot make {path}: {error.strerror}") from error


def _write_bundle(folder: Path, config: dict[str, Any], files: tuple[bundle.HostFile, ...]) -> None:
    _make_folder(folder / "rootfs")
    _write_files(folder / "files", files)
    try:
        (folder / "config.json").write_bytes(msgspec.json.encode(config))
    except OSError as error:
        raise UnavailableError(f"cannot write {folder / 'config.json'}: {error.strerror}") from error


def _write_files(folder: Path, files: tuple[bundle.HostFile, ...]) -> None:
    """The folder has these files then, and no other. Their names were checked: none leads out of it."""
    _remove(folder)
    _make_folder(folder)
    try:
        folder.chmod(0o755)
        for file in files:
            path = Path(file.path)
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            path.write_bytes(file.content)
            os.chown(path, file.uid, file.gid)
            path.chmod(file.mode)
    except OSError as error:
        raise UnavailableError(f"cannot write {error.filename or folder}: {error.strerror}") from error


def _remove(path: Path) -> None:
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        pass  # that was the wish
    except OSError as error:
        raise UnavailableError(f"cannot remove {error.filename or path}: {error.strerror}") from error


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(_FILE_MAX + 1)
    except OSError as error:
        raise InvalidError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > _FILE_MAX:
        raise InvalidError(f"cannot put in {path}: it is larger than {_FILE_MAX >> 20} MiB")
    return data


_KINDS: dict[str, tuple[Callable[[str], bool], str]] = {
    "Directory": (os.path.isdir, "directory"),
    "DirectoryOrCreate": (os.path.isdir, "directory"),
    "File": (os.path.isfile, "file"),
    "FileOrCreate": (os.path.isfile, "file"),
}


def _check_host_path(source: spec.HostPath) -> None:
    """:raise UnavailableError: it is not there, or not what it must be"""
    path = Path(source.path)
    try:
        if source.type == "DirectoryOrCreate":
            path.mkdir(mode=0o755, parents=True, exist_ok=True)
        elif source.type == "FileOrCreate":
            path.touch(mode=0o644, exist_ok=True)
        path.stat()
    except OSError as error:
        raise UnavailableError(f"cannot mount {path}: {error.strerror}") from error
    found, name = _KINDS.get(source.type, (os.path.exists, ""))
    if not found(source.path):
        raise UnavailableError(f"cannot mount {path}: not a {name}")
