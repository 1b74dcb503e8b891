"""What hyperd knows for good: one SQLite file, in WAL mode, written by one thread."""

from hyperd.store.records import ContainerRecord, Event, ExecRecord, PodRecord
from hyperd.store.store import Store

__all__ = ["ContainerRecord", "Event", "ExecRecord", "PodRecord", "Store"]
