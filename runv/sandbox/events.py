"""What happens in a container, for as long as it runs: its statistics, and out-of-memory kills."""

import time
from collections.abc import Iterator
from typing import Any

from runv.agent.client import Agent
from runv.errors import AgentError, AgentLostError, NotFoundError, StateError
from runv.sandbox.connection import connect
from runv.sandbox.layout import SandboxFolder
from runv.sandbox.stats import statistics
from runv.state import CREATING, STOPPED, Container

Event = dict[str, Any]

_NEVER = 2**53 - 1  # a number of kills that is answered at once
_END_S = 5.0  # that the host's side of a container has to end in, once its machine is gone


def once(container: Container) -> Event:
    """The statistics as they are now.

    :raise StateError: it is not running
    """
    with connect(_sandbox(container)) as agent:
        return _stats(agent, container)


def stream(container: Container, interval_s: float) -> Iterator[Event]:
    """Statistics at once and then every ``interval_s``, and out-of-memory kills as they come, until the container ends.

    :raise StateError: it is not running
    """
    sandbox = _sandbox(container)
    try:
        with connect(sandbox) as agent, connect(sandbox) as watcher:
            yield from _until_end(container, agent, watcher, interval_s)
    except (AgentLostError, AgentError):
        if not _ends(container):  # and its machine perhaps before it
            raise


def _until_end(container: Container, agent: Agent, watcher: Agent, interval_s: float) -> Iterator[Event]:
    kills = int(agent.call("oom", {"container": container.id, "seen": _NEVER})["kills"])
    watcher.post("oom", {"container": container.id, "seen": kills})
    due = time.monotonic()
    while True:
        if watcher.answered(max(0.0, due - time.monotonic())):
            answer = watcher.take()
            if int(answer["kills"]) > kills:
                yield {"type": "oom", "id": container.id}
            kills = int(answer["kills"])
            if answer["ended"]:
                return
            watcher.post("oom", {"container": container.id, "seen": kills})
            continue
        due = time.monotonic() + interval_s
        yield _stats(agent, container)


def _stats(agent: Agent, container: Container) -> Event:
    files = agent.call("stats", {"container": container.id})["files"]
    return {"type": "stats", "id": container.id, "data": statistics(files)}


def _sandbox(container: Container) -> SandboxFolder:
    if not _runs(container):
        raise StateError(f"container with id {container.id} is not running")
    return SandboxFolder(container.root, container.load().sandbox)


def _runs(container: Container) -> bool:
    return container.status(container.load())[0] not in (CREATING, STOPPED)


def _ends(container: Container) -> bool:
    """Whether it has ended, or does so soon: when its machine dies, or is being deleted, the connection breaks first."""
    deadline = time.monotonic() + _END_S
    while not _has_ended(container):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _has_ended(container: Container) -> bool:
    try:
        return not _runs(container)
    except NotFoundError:
        return True
