"""Work that is not to be left in the middle."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

_Result = TypeVar("_Result")
_Arguments = ParamSpec("_Arguments")


async def to_its_end(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Does it to its end, whoever gives up waiting for it; they are let go afterwards."""
    task = asyncio.create_task(work)
    given_up: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            given_up = error
        except BaseException:  # it is the task's, and is raised below
            break
    if given_up is not None:
        raise given_up
    return task.result()


async def in_thread(
    work: Callable[_Arguments, _Result], *arguments: _Arguments.args, **more: _Arguments.kwargs
) -> _Result:
    """Does blocking work in a thread, to its end: files that it uses are free when this returns."""
    return await to_its_end(asyncio.to_thread(work, *arguments, **more))
