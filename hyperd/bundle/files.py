"""Files that are put into a container, and the folders that ConfigMaps and Secrets become."""

import base64
import binascii
import io
import posixpath
import tarfile
from collections.abc import Callable, Iterator

from hyperd.bundle.records import HostFile, ImageView, Place
from hyperd.bundle.texts import hostname, hosts, resolv_conf
from hyperd.bundle.users import find_group, find_user
from hyperd.errors import InvalidError
from hyperd.spec import Container, File, Pod, Projected

# What every container gets.
OUR_FILES = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
Read = Callable[[str], bytes]


def mounted(pod: Pod, container: Container, image: ImageView, place: Place, taken: set[str], read: Read) -> Iterator[tuple[str, HostFile]]:
    """Where each file is seen, and what is to be written for it: those that every container gets, and, where nothing can be written to the root,
    those that are put in. ``taken``: places that volumes have, which get no file of ours.

    :raise InvalidError: a user or group is unknown, or content is not base64
    """
    texts = dict(zip(OUR_FILES, (hosts(pod, place), hostname(pod), resolv_conf(pod, place)), strict=True))
    own = {posixpath.normpath(file.path) for file in container.files}
    for path, text in texts.items():
        if path not in taken | own:
            yield path, HostFile(f"{place.files}/{posixpath.basename(path)}", text.encode())
    if container.security.read_only_root:
        for index, file in enumerate(_injected(container, image, read)):
            yield file.path, file._replace(path=f"{place.files}/file{index}")


def archive(container: Container, image: ImageView, read: Read) -> bytes:
    """A tar of the files that are put in, to be extracted at the root: they are the container's own then. Empty: there are none.

    :raise InvalidError: as ``mounted``
    """
    files = [] if container.security.read_only_root else list(_injected(container, image, read))
    if not files:
        return b""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for file in files:
            entry = tarfile.TarInfo(file.path.lstrip("/"))
            entry.size, entry.mode, entry.uid, entry.gid = len(file.content), file.mode, file.uid, file.gid
            tar.addfile(entry, io.BytesIO(file.content))
    return packed.getvalue()


def _injected(container: Container, image: ImageView, read: Read) -> Iterator[HostFile]:
    """The files that are put in, by their places in the container."""
    for file in container.files:
        try:
            user = find_user(file.user, image) if file.user else None
            gid = find_group(file.group, image) if file.group else (user.gid if user else 0)
        except InvalidError as error:
            raise InvalidError(f"container {container.name}: file {file.path}: {error.message}", hint=error.hint) from error
        yield HostFile(posixpath.normpath(file.path), _content(file, read), file.mode, user.uid if user else 0, gid)


def projected(source: Projected, folder: str, fs_group: int | None = None) -> tuple[HostFile, ...]:
    """The files of a volume, to be written below ``folder``. They belong to root and ``fs_group``, which may read what root may.

    :raise InvalidError: content is not base64
    """
    return tuple(
        HostFile(
            f"{folder}/{file.path}",
            _content(file, _nothing),
            file.mode | ((file.mode & 0o400) >> 3 if fs_group is not None else 0),
            0,
            fs_group or 0,
        )
        for file in source.files
    )


def _nothing(path: str) -> bytes:
    raise InvalidError(f"a volume's file cannot come from {path}")


def _content(file: File, read: Read) -> bytes:
    if not file.source and file.encoding == "raw":
        return file.content.encode()
    data = read(file.source) if file.source else file.content.encode()
    if file.encoding == "raw":
        return data
    try:
        return base64.b64decode(b"".join(data.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidError(f"file {file.path}: not base64: {error}") from error
