"""The end of a sandbox's network: what outlives the machine is left as it was found."""

import contextlib
import os
from collections.abc import Iterator

from runv.errors import HostError
from runv.network import bridged, lend, wire
from runv.network.plan import Loan
from runv.sandbox.links.netrecord import NetRecord


@contextlib.contextmanager
def letting_go(record: NetRecord) -> Iterator[None]:
    """Around the end of a sandbox's processes: what outlives them is left as it was found. What is gone, or is another namespace by now, is
    left alone."""
    path = record.find_namespace()
    held = os.open(path, os.O_RDONLY | os.O_CLOEXEC) if path else -1
    try:
        yield
        if held >= 0:
            _clean(record, f"/proc/self/fd/{held}")
    finally:
        if held >= 0:
            os.close(held)


def _clean(record: NetRecord, namespace: str) -> None:
    for entry in record.lent:
        with contextlib.suppress(HostError, OSError):
            lend.give_back(namespace, Loan(*entry))
    if record.namespace:
        with contextlib.suppress(HostError):
            if record.links:
                wire.disconnect(namespace, record.links)
        for name in record.made:
            with contextlib.suppress(HostError):
                bridged.remove(namespace, name)
