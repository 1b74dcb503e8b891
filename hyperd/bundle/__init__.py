"""Pod and image -> OCI bundles: config.json as runv takes it, and the small files that it mounts. Pure; who calls writes them.

Each container joins the machine of its pod's infra container, which is a bundle too.
"""

from hyperd.bundle.config import container, infra, limits_of, looking, root_of, stop_signal
from hyperd.bundle.files import projected
from hyperd.bundle.process import exec_process
from hyperd.bundle.records import Bundle, Disk, Folder, HostFile, ImageView, Memory, Place, Source, image_view
from hyperd.bundle.texts import hostname_of
from hyperd.bundle.users import User, find_user

__all__ = [
    "Bundle", "Disk", "Folder", "HostFile", "ImageView", "Memory", "Place", "Source", "User", "container", "exec_process", "find_user", "hostname_of",
    "image_view", "infra", "limits_of", "looking", "projected", "root_of", "stop_signal",
]  # fmt: skip
