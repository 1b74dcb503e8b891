"""pause and resume: the processes of one container, by the guest's freezer, or the whole machine, by QEMU."""

import contextlib
import os
from collections.abc import Iterator

from runv.errors import AgentError, NotFoundError, RunvError, StateError
from runv.files import locked_folder, write_atomic
from runv.sandbox.connection import connect
from runv.sandbox.layout import SandboxFolder
from runv.state import CREATED, PAUSED, RUNNING, Container


def pause(container: Container, *, machine: bool) -> None:
    """Stops a container where it is; with ``machine`` everything in its sandbox. Returns when all stands still.

    :raise StateError: it is not running, or its processes cannot be stopped
    """
    with locked(container) as (sandbox, status):
        if status not in (CREATED, RUNNING):
            raise StateError("container not running")
        # Written first: whatever happens meanwhile, who looks finds it paused, and `resume` is what helps then.
        if machine:
            with standing(sandbox):
                _qmp(sandbox, "stop")
        else:
            with _marked(container.path("paused")), connect(sandbox) as agent:
                agent.call("pause", {"container": container.id})


def resume(container: Container, *, machine: bool) -> None:
    """Lets a container go on; with ``machine`` everything in its sandbox that was not paused by itself.

    :raise StateError: it is not paused
    """
    with locked(container) as (sandbox, status):
        if status != PAUSED or (machine and not sandbox.paused()):
            raise StateError("container not paused")
        if sandbox.paused():
            let_go_on(sandbox)
        if machine or not os.path.exists(container.path("paused")):
            return
        try:
            with connect(sandbox) as agent:
                agent.call("resume", {"container": container.id})
        except AgentError as error:
            if error.kind != "state":  # it goes on already
                raise
        _forget(container.path("paused"))


def standing(sandbox: SandboxFolder) -> contextlib.AbstractContextManager[None]:
    """Within it the machine comes to stand still; it counts as paused from its beginning on, unless it fails."""
    return _marked(sandbox.path("paused"))


def let_go_on(sandbox: SandboxFolder) -> None:
    """Wakes a machine that stands still, sets its clock, which stood still as well, and what was parked in it goes on.

    :raise VmError: QEMU does not answer
    """
    import time

    _qmp(sandbox, "cont")
    _forget(sandbox.path("paused"))
    with contextlib.suppress(RunvError), connect(sandbox) as agent:  # it goes on either way
        agent.call("setup", {"time_ns": time.time_ns()})
        agent.call("unpark", {})


def _qmp(sandbox: SandboxFolder, name: str) -> None:
    from runv.vm import qmp  # asyncio: only where a whole machine is meant

    qmp.command(sandbox.path("qmp.sock"), name)


@contextlib.contextmanager
def locked(container: Container) -> Iterator[tuple[SandboxFolder, str]]:
    """Holds the locks of a container and its sandbox; yields the sandbox and the container's status."""
    with contextlib.ExitStack() as locks:
        try:
            locks.enter_context(locked_folder(container.folder))
        except FileNotFoundError:
            raise NotFoundError("container does not exist") from None
        record = container.load()
        sandbox = SandboxFolder(container.root, record.sandbox)
        with contextlib.suppress(FileNotFoundError):  # gone: the container is stopped
            locks.enter_context(locked_folder(sandbox.folder))
        yield sandbox, container.status(record)[0]


@contextlib.contextmanager
def _marked(path: str) -> Iterator[None]:
    write_atomic(path, "")
    try:
        yield
    except BaseException:
        _forget(path)
        raise


def _forget(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
