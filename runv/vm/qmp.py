"""The few QMP verbs we use, on qemu.qmp. Imported only where they are: asyncio costs more than a whole ``runv state``."""

import asyncio
from typing import Any

from qemu.qmp import QMPClient, QMPError

from runv.errors import VmError
from runv.files import short_path

TIMEOUT_S = 5.0
_CONSOLE_BYTES = 65536


def command(path: str, name: str, arguments: dict[str, object] | None = None) -> Any:
    """Runs one command on the monitor at ``path`` and returns its answer.

    :raise VmError: QEMU is gone, did not answer within ``TIMEOUT_S``, or refused
    """

    async def work(address: str) -> Any:
        client = QMPClient("runv")
        await client.connect(address)
        try:
            return await client.execute(name, arguments)
        finally:
            await client.disconnect()

    try:
        with short_path(path) as address:
            return asyncio.run(asyncio.wait_for(work(address), TIMEOUT_S))
    except (QMPError, OSError, TimeoutError) as error:
        raise VmError(f"cannot ask QEMU to {name}: {error}") from error


def bound_console(path: str) -> None:
    """Once the guest is up its console goes into a ring of 64 KiB, so that no guest can fill the host's /run."""
    backend = {"type": "ringbuf", "data": {"size": _CONSOLE_BYTES}}
    command(path, "chardev-change", {"id": "console", "backend": backend})
