"""Named volumes, and the disks that containers write to: sparse files with a file system. Knows neither pods nor machines."""

from hyperd.volumes.volumes import Copy, Volume, Volumes

__all__ = ["Copy", "Volume", "Volumes"]
