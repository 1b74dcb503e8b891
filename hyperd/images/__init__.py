"""Images: references, registries, archives, layers and the store. See docs/images.md.

Names are imported when they are asked for: the process that unpacks a layer needs none of them.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hyperd.images.catalog import Image, Layer, Removed
    from hyperd.images.credentials import Credentials
    from hyperd.images.documents import ImageConfig
    from hyperd.images.images import Images
    from hyperd.images.program import write_program
    from hyperd.images.progress import Progress
    from hyperd.images.settings import ImageSettings

__all__ = ["Credentials", "Image", "ImageConfig", "ImageSettings", "Images", "Layer", "Progress", "Removed", "write_program"]

_HOMES = {
    "Credentials": "credentials",
    "Image": "catalog",
    "ImageConfig": "documents",
    "ImageSettings": "settings",
    "Images": "images",
    "Layer": "catalog",
    "Progress": "progress",
    "Removed": "catalog",
    "write_program": "program",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
