"""Decisions about pods and containers, from records alone. Pure."""

from collections.abc import Iterable

from hyperd import spec
from hyperd.config import Restart
from hyperd.store import ContainerRecord, PodRecord

# Phases of a pod in which nothing of it runs, and of a container in which something may.
AT_REST = ("created", "stopped", "succeeded", "failed")
ALIVE = ("creating", "starting", "running", "stopping")
_LASTING = ("always", "unless-stopped")


def restart_policy(pod: spec.Pod, container: spec.Container, kind: str) -> spec.RestartPolicy:
    """What is to be done when it ends. A container that runs before the others is done once it has succeeded."""
    if kind == "sidecar":
        return "always"
    policy = container.restart or pod.restart
    return "on-failure" if kind == "init" and policy in _LASTING else policy


def retries(pod: spec.Pod, container: spec.Container) -> int:
    """How often "on-failure" starts it again; 0: always. The number goes with the policy, of the container or of the pod."""
    return container.restart_retries if container.restart else pod.restart_retries


def restarts(policy: spec.RestartPolicy, code: int, done: int = 0, most: int = 0) -> bool:
    """Whether a container that ended with ``code``, and was started again ``done`` times since its user started it, is so once more.

    :param most: how often; 0: always
    """
    return policy in _LASTING or (policy == "on-failure" and code != 0 and not 0 < most <= done)


def starts_with_daemon(pod: PodRecord) -> bool:
    """Whether a pod that was stopped is to run again, as the daemon starts: Docker's difference between "always" and "unless-stopped"."""
    if pod.phase != "stopped" or pod.desired != "stopped" or pod.auto_remove:
        return False
    policies = [one.restart or pod.spec.restart for one in pod.spec.containers] or [pod.spec.restart]
    return "always" in policies or (pod.resume and "unless-stopped" in policies)


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
