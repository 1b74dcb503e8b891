"""The few QMP verbs we use, on qemu.qmp. Imported only where they are: asyncio costs more than a whole ``runv state``."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from qemu.qmp import QMPClient, QMPError

from runv.errors import VmError
from runv.files import short_path
from runv.vm.cmdline import CONSOLE_RING_BYTES

TIMEOUT_S = 5.0
_POLL_S = 0.001
# Mode 0 for the first counter, and a count, at which it stops: what Linux from 6.13 on does itself where it does not need it. The monitor's words, as QMP has none.
_STOP_OLD_TIMER = ("o /1 0x43 0x30", "o /1 0x40 0", "o /1 0x40 0")
_UNBOUNDED = 1 << 50
_T = TypeVar("_T")


def session(path: str, what: str, work: Callable[[QMPClient], Awaitable[_T]], timeout_s: float = TIMEOUT_S) -> _T:
    """Runs ``work`` with a connection to the monitor at ``path``. ``what``: what it does, for the message when it fails. One at a time has one.

    :raise VmError: QEMU is gone, did not answer within ``timeout_s``, or refused
    """

    async def talk(address: str) -> _T:
        client = QMPClient("runv")
        await client.connect(address)
        try:
            return await work(client)
        finally:
            await client.disconnect()

    try:
        with short_path(path) as address:
            return asyncio.run(asyncio.wait_for(talk(address), timeout_s))
    except (QMPError, OSError, EOFError, TimeoutError) as error:
        raise VmError(f"cannot {what}: {error or 'QEMU does not answer'}") from error


def command(path: str, name: str, arguments: dict[str, object] | None = None) -> Any:
    """Runs one command on the monitor at ``path`` and returns its answer.

    :raise VmError: QEMU is gone, did not answer within ``TIMEOUT_S``, or refused
    """
    return session(path, f"ask QEMU to {name}", lambda client: client.execute(name, arguments))


def settle(path: str) -> None:
    """Once the guest is up its console goes into a ring, so that no guest can fill the host's /run, and the old timer stops.

    :raise VmError: as of ``command``
    """
    session(path, "settle the machine that has booted", _settle)


async def _settle(client: QMPClient) -> None:
    await _stop_old_timer(client)
    backend = {"type": "ringbuf", "data": {"size": CONSOLE_RING_BYTES}}
    await client.execute("chardev-change", {"id": "console", "backend": backend})


async def _stop_old_timer(client: QMPClient) -> None:
    """The PIT counts from the start, and our kernel, which has the APIC's timer, leaves it at that on a microvm. Under TCG QEMU wakes 73 times a second
    for it, which takes 0.4 % of a processor for each machine that does nothing."""
    if await client.execute("qom-get", {"path": "/machine", "property": "type"}) == "microvm-machine":
        for line in _STOP_OLD_TIMER:
            await client.execute("human-monitor-command", {"command-line": line})


def save_state(path: str, state_fd: int, then: Callable[[], object]) -> None:
    """Stops the machine, writes its devices' state to ``state_fd``, calls ``then`` and lets it go on. Its memory, a shared file, is left out.

    :raise VmError: as of ``command``; the machine goes on if it can
    """
    ignored = {"capability": "x-ignore-shared", "state": True}

    async def work(client: QMPClient) -> None:
        await _stop_old_timer(client)
        await client.execute("migrate-set-capabilities", {"capabilities": [ignored]})
        client.send_fd_scm(state_fd)
        await client.execute("getfd", {"fdname": "state"})
        await client.execute("migrate", {"uri": "fd:state"})
        try:
            await _migrated(client)
            then()
        finally:
            await client.execute("cont")

    session(path, "save the machine's state", work)


def keep_anew(path: str) -> None:
    """Has all that the machine runs from here on translated anew: what a clone will want lies together then.

    :raise VmError: as of ``command``
    """
    command(path, "x-keep-anew")


def keep_translations(path: str, target: str, timeout_s: float) -> None:
    """Stops the machine, for good, and writes what it has translated to the new file ``target``.

    :raise VmError: as of ``command``
    """

    async def work(client: QMPClient) -> None:
        await client.execute("stop")
        await client.execute("x-keep-translations", {"filename": target})

    session(path, "keep what was translated", work, timeout_s)


async def save_whole(client: QMPClient, state_fd: int) -> None:
    """Stops the machine and writes all of it, its memory too, to ``state_fd``. Its disks are written out then, and nobody's until it goes on (``cont``).

    :raise VmError: it failed
    """
    # A template may have been made of this machine, which leaves the memory out.
    whole = {"capability": "x-ignore-shared", "state": False}
    await client.execute("migrate-set-capabilities", {"capabilities": [whole]})
    await client.execute("migrate-set-parameters", {"max-bandwidth": _UNBOUNDED})
    client.send_fd_scm(state_fd)
    await client.execute("getfd", {"fdname": "state"})
    await client.execute("migrate", {"uri": "fd:state"})
    await _migrated(client)


async def _migrated(client: QMPClient) -> None:
    while True:
        answer = await client.execute("query-migrate")
        status = answer.get("status") if isinstance(answer, dict) else None
        if status == "completed":
            return
        if status in ("failed", "cancelled"):
            raise VmError(f"cannot save the machine's state: {status}")
        await asyncio.sleep(_POLL_S)
