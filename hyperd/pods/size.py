"""What a host can hold at all."""

import os

from hyperd.errors import InvalidError
from runv.sandbox.machine.size import host_memory_mib


def check_size(vcpus: int, memory_mib: int) -> None:
    """Whether the host could hold a machine of that size by itself; 0: nothing is asked for.

    :raise InvalidError: it could not
    """
    for name, wanted, most, unit in (("vcpus", vcpus, os.cpu_count() or 1, ""), ("memory_mib", memory_mib, host_memory_mib(), " MiB")):
        if wanted > most:
            raise InvalidError(f"{name}: {wanted} is more than the host has", hint=f"it has {most}{unit}")
