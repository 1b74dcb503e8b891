"""The disks that a container brings, opened to be attached, and those that its sandbox has already. Light: it is settled before there is a machine."""

import os

from runv.errors import ConfigError
from runv.files import read_text
from runv.quick import loads, suppress
from runv.sandbox.layout import SandboxFolder
from runv.storage.images import Image, Wish, open_image

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from collections.abc import Iterable


class Opened:
    """The disks that a container brings, opened; those its sandbox has already need no opening. Closes what it holds."""

    def __init__(self, wishes: "Iterable[Wish]", present: dict[str, bool]) -> None:
        """:param present: serials of what the sandbox has, and whether it is read-only
        :raise ConfigError: one cannot be opened, or is there read-only and wanted for writing
        """
        self.wishes = tuple(wishes)
        self._images: dict[str, Image] = {}
        try:
            self.missing(present)
        except BaseException:
            self.close()
            raise

    def missing(self, present: dict[str, bool]) -> list[Image]:
        """Those that are still to be attached; raises as the constructor does."""
        images = []
        for wish in self.wishes:
            if wish.serial in present:
                if wish.alone:
                    raise ConfigError(f"cannot attach disk {wish.path}: another container of the sandbox uses it")
                if present[wish.serial] and not wish.read_only:
                    raise ConfigError(f"cannot attach disk {wish.path}: the sandbox has it already, read-only")
                continue
            if wish.serial not in self._images:
                self._images[wish.serial] = open_image(wish)
            images.append(self._images[wish.serial])
        return images

    def close(self) -> None:
        """Gives the descriptors back; QEMU has its own."""
        for image in self._images.values():
            os.close(image.fd)
        self._images = {}


def used(sandbox: SandboxFolder, but: str = "") -> dict[str, bool]:
    """The serials of the disks that its containers use, all but those of ``but``, and whether they are read-only."""
    found: dict[str, bool] = {}
    try:
        names = os.listdir(sandbox.path("disks"))
    except FileNotFoundError:
        return found
    for name in names:
        if name != but and not name.startswith("."):
            with suppress(FileNotFoundError):  # without the lock: it has left by now
                found |= loads(read_text(sandbox.path("disks", name)))
    return found
