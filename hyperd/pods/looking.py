"""How the files of a container are reached, whether it runs or not."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from hyperd.errors import ConflictError, HyperError
from hyperd.pods import policy
from hyperd.pods.pod import Pod
from hyperd.pods.tools import new_id
from hyperd.store import ContainerRecord

# How long a container that is being looked at by others is waited for.
_TURN_S = 60.0


@contextlib.asynccontextmanager
async def reached(pod: Pod, record: ContainerRecord, *, still: bool = False) -> AsyncIterator[str]:
    """The id of what ``runv archive`` is to be asked for a container's files: of itself while it runs, else of a helper that runs nothing of it, in the
    pod's machine or one of its own. Within the block the container is not started.

    :param still: its processes stand still meanwhile
    :raise ConflictError: it was never started, is just being so, or its pod is on its way
    """
    if record.phase not in ("running", "stopping"):
        async with _helper(pod, record) as identity:
            yield identity
    elif still:
        async with _frozen(pod, record) as identity:
            yield identity
    else:
        yield record.id


@contextlib.asynccontextmanager
async def _frozen(pod: Pod, record: ContainerRecord) -> AsyncIterator[str]:
    """Should the daemon end meanwhile, the next one lets it go on."""
    runtime, frozen = pod.tools.runtime, pod.book.frozen
    if record.id in frozen:
        raise ConflictError(f"container {record.name} is being committed already")
    frozen.add(record.id)
    try:
        await runtime.call("pause", record.id)
        try:
            yield record.id
        finally:
            await asyncio.shield(runtime.call("resume", record.id))
    finally:
        frozen.discard(record.id)


@contextlib.asynccontextmanager
async def _helper(pod: Pod, record: ContainerRecord) -> AsyncIterator[str]:
    book, tools = pod.book, pod.tools
    try:
        async with asyncio.timeout(_TURN_S):
            await book.until(lambda: record.id not in book.looked_at)
    except TimeoutError:
        raise ConflictError(f"the files of container {record.name} are in use") from None
    own = _needs_machine(pod, record)
    book.looked_at.add(record.id)
    helper = new_id()
    try:
        # What is left of its last run has its disk.
        await pod.machine.clear_process(book.pod.id, record.id)
        bundle = await tools.preparer.looking(book.pod, record, helper, own=own)
        async with tools.creating:
            await tools.runtime.create(helper, bundle, tools.config.timeouts.create_s)
        yield helper
    finally:
        try:
            await asyncio.shield(_remove(pod, helper))
        finally:
            book.looked_at.discard(record.id)
            book.notify()


async def _remove(pod: Pod, helper: str) -> None:
    with contextlib.suppress(HyperError):  # the next daemon removes what nobody owns
        await pod.tools.runtime.delete(helper)
    await pod.tools.preparer.forget_look(pod.book.pod, helper)


def _needs_machine(pod: Pod, record: ContainerRecord) -> bool:
    """Whether a machine has to be made, as the pod has none."""
    now_known, name = pod.book.containers.get(record.id), f"container {record.name}"
    if now_known is None or pod.book.pod.desired == "removed":
        raise ConflictError(f"{name} is being removed")
    if not now_known.image:
        raise ConflictError(f"{name} was never started: it has no files yet", hint="start it, or take those of its image")
    if now_known.phase not in ("exited", "waiting"):
        raise ConflictError(f"{name} is being started")
    if pod.book.pod.phase in policy.AT_REST:
        return True
    if pod.book.pod.phase == "running" and pod.machine.alive():
        return False
    raise ConflictError(f"pod {pod.book.pod.name} is {policy.state_of(pod.book.pod)}", hint="wait until it runs or has stopped")
