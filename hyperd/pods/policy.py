"""Decisions about pods and containers, from records alone. Pure."""

from collections.abc import Iterable

from hyperd import spec
from hyperd.config import Restart
from hyperd.store import ContainerRecord, PodRecord

# Phases of a pod in which nothing of it runs, and of a container in which something may.
AT_REST = ("created", "stopped", "succeeded", "failed")
ALIVE = ("creating", "starting", "running", "stopping")


def restart_policy(pod: spec.Pod, container: spec.Container, kind: str) -> spec.RestartPolicy:
    """What is to be done when it ends. A container that runs before the others is done once it has succeeded."""
    if kind == "sidecar":
        return "always"
    policy = container.restart or pod.restart
    return "on-failure" if kind == "init" and policy == "always" else policy


def restarts(policy: spec.RestartPolicy, code: int) -> bool:
    """Whether a container that ended with ``code`` is started again."""
    return policy == "always" or (policy == "on-failure" and code != 0)


def pause_s(failures: int, settings: Restart) -> float:
    """How long to wait before the restart after the ``failures``-th end in a row, counted from 1."""
    return min(settings.limit_s, settings.base_s * 2.0 ** min(max(failures - 1, 0), 32))


def failures_now(failures: int, ran_s: float, settings: Restart) -> int:
    """The ends in a row, this one counted: one that ran for long begins anew."""
    return 1 if ran_s >= settings.reset_s else failures + 1


def ended(records: Iterable[ContainerRecord]) -> bool:
    """Whether a pod has nothing left to do. One without containers is never done: it waits for some."""
    mains = [record for record in records if record.kind == "main"]
    return bool(mains) and all(record.phase == "exited" and not record.retry_at for record in mains)


def outcome(records: Iterable[ContainerRecord]) -> ContainerRecord | None:
    """The container whose end stands for the pod's: the first that failed, else the first."""
    done = [record for record in records if record.phase == "exited" and record.kind != "sidecar"]
    mains = [record for record in done if record.kind == "main"]
    return next((record for record in done if record.code != 0), mains[0] if mains else None)


def state_of(pod: PodRecord) -> str:
    """A pod's state as users see it."""
    if pod.phase == "running" and pod.paused:
        return "paused"
    return {"succeeded": "stopped", "removing": "stopping"}.get(pod.phase, pod.phase)
