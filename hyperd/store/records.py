"""What is written down of a pod: what is wanted, and what was decided. What is alive is never written: it is looked up."""

from typing import Literal

import msgspec

from hyperd import spec

# What the user wants of a pod or container.
Desired = Literal["stopped", "running", "removed"]
# What hyperd was last doing with a pod: written before it is done.
PodPhase = Literal["created", "starting", "running", "stopping", "stopped", "succeeded", "failed", "removing"]
ContainerPhase = Literal["waiting", "creating", "starting", "running", "stopping", "exited"]
ContainerKind = Literal["init", "sidecar", "main"]


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Unknown fields are ignored: an older hyperd may read what a newer one wrote."""


class PodRecord(Record, frozen=True, kw_only=True):
    """Times are seconds since the epoch, 0 for never. ``boots`` counts machines that ended unasked; ``retry_at`` is when the next may start.

    ``paused``: the user's wish. ``resume``: it was not the user who stopped it, but the end of the daemon. ``restarting``: it is stopped to be started again. ``auto_remove``: remove it when it has finished. ``namespace``: the path of its network namespace.
    """

    id: str
    name: str
    spec: spec.Pod
    created: float
    desired: Desired = "stopped"
    phase: PodPhase = "created"
    started: float = 0.0
    finished: float = 0.0
    boots: int = 0
    booted: float = 0.0
    retry_at: float = 0.0
    paused: bool = False
    restarting: bool = False
    auto_remove: bool = False
    resume: bool = False
    message: str = ""
    namespace: str = ""
    addresses: dict[str, tuple[str, ...]] = {}


class ContainerRecord(Record, frozen=True, kw_only=True):
    """One container. ``restarts`` counts those that a policy decided; ``failures`` those in a row, which the pause before the next follows.

    ``code`` is the exit status as a shell sees it (128 + signal); -1 while it never ended. ``position`` orders a pod's containers.
    """

    id: str
    pod: str
    name: str
    kind: ContainerKind
    position: int
    created: float
    image: str = ""
    desired: Desired = "running"
    phase: ContainerPhase = "waiting"
    started: float = 0.0
    finished: float = 0.0
    code: int = -1
    signal: int = 0
    oom: bool = False
    restarts: int = 0
    failures: int = 0
    retry_at: float = 0.0
    message: str = ""


class ExecRecord(Record, frozen=True, kw_only=True):
    """One more process in a container. ``machine``: outside of all containers. ``code`` None: it has not ended."""

    id: str
    container: str
    pod: str
    args: tuple[str, ...]
    created: float
    environment: tuple[str, ...] = ()
    cwd: str = ""
    user: str = ""
    tty: bool = False
    stdin: bool = False
    machine: bool = False
    privileged: bool = False
    phase: Literal["created", "starting", "running", "exited"] = "created"
    code: int | None = None
    signal: int = 0


class Event(Record, frozen=True, kw_only=True):
    """Something that happened to ``kind`` ``id``. ``action`` is one word: create, start, die, oom, health, ..."""

    sequence: int = 0
    time: float
    kind: Literal["pod", "container", "exec", "image", "volume", "network"]
    action: str
    id: str
    name: str
    attributes: dict[str, str] = {}
