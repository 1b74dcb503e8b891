"""An image of one program: what a machine is tried with before there is a pod."""

import os
import stat
from pathlib import Path

from hyperd.errors import UnavailableError
from hyperd.images.erofs import Attributes, Directory
from hyperd.images.writer import Writer


def write_program(path: Path, program: str, name: str) -> None:
    """Makes the layer at ``path``, whole or not at all, with the statically linked ``program`` as /``name``.

    :raise UnavailableError: it cannot be read, or the layer not be written
    """
    new = path.with_suffix(".new")
    try:
        data = Path(program).read_bytes()
        path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        with new.open("wb") as file:
            writer = Writer(file.fileno())
            node = writer.file(Attributes(stat.S_IFREG | 0o755), len(data), [memoryview(data)])
            root = Directory(Attributes(stat.S_IFDIR | 0o755))
            root.children[os.fsencode(name)] = node
            writer.finish(root)
        new.rename(path)
    except OSError as error:
        raise UnavailableError(f"cannot make {path}: {error.strerror}") from error
