"""What the API shows of pods and containers. Pure: records in, answers out. Times are RFC 3339 in UTC, empty for never."""

import time

import msgspec

from hyperd import spec
from hyperd.pods import policy
from hyperd.pods.health import State
from hyperd.pods.network import ports_of
from hyperd.pods.pod import Pod
from hyperd.pods.probes import Health
from hyperd.spec import Container as ContainerSpec
from hyperd.spec import Pod as PodSpec
from hyperd.store import ContainerRecord, Event, ExecRecord

_HIDDEN = "***"


class ContainerBrief(msgspec.Struct, frozen=True, kw_only=True):
    """A container in the list of its pod."""

    id: str
    name: str
    image: str
    state: str
    kind: str
    exit_code: int | None
    restarts: int
    ready: bool
    health: str


class PodView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A pod. ``spec`` only where one was asked for."""

    id: str
    name: str
    hostname: str
    state: str
    created: str
    started: str
    finished: str
    labels: dict[str, str]
    vcpus: int
    memory_mib: int
    addresses: list[str]
    ports: list[spec.Port]
    containers: list[ContainerBrief]
    exit_code: int | None
    reason: str
    vm: str
    restarts: int
    networks: dict[str, list[str]]
    spec: PodSpec | None = None


class HealthResult(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a health check. ``exit_code`` -1: it had not ended in time."""

    started: str
    ended: str
    exit_code: int
    output: str


class HealthView(msgspec.Struct, frozen=True, kw_only=True):
    """What the probes of a container have found, and its health check: ``status`` is starting, healthy or unhealthy, empty where there is none."""

    started: bool
    ready: bool
    alive: bool
    message: str
    status: str = ""
    failing: int = 0
    log: list[HealthResult] = []


class ContainerView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A container. ``exit_code`` None: it has not ended."""

    id: str
    name: str
    pod: str
    pod_id: str
    image: str
    image_id: str
    state: str
    kind: str
    created: str
    started: str
    finished: str
    exit_code: int | None
    signal: int
    oom: bool
    restarts: int
    tty: bool
    stdin: bool
    ready: bool
    reason: str
    retry: str
    health: HealthView | None = None
    spec: ContainerSpec | None = None


class ExecView(msgspec.Struct, frozen=True, kw_only=True):
    """A further process."""

    id: str
    container: str
    pod: str
    args: tuple[str, ...]
    tty: bool
    state: str
    exit_code: int | None
    signal: int


class EndView(msgspec.Struct, frozen=True, kw_only=True):
    """How something has ended."""

    code: int
    signal: int = 0
    oom: bool = False


class EventView(msgspec.Struct, frozen=True, kw_only=True):
    """Something that has happened."""

    time: str
    type: str
    action: str
    id: str
    name: str
    attributes: dict[str, str]
    sequence: int


def timestamp(seconds: float) -> str:
    """RFC 3339 in UTC with milliseconds; empty for 0."""
    if not seconds:
        return ""
    milliseconds = round(seconds * 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(milliseconds // 1000)) + f".{milliseconds % 1000:03d}Z"


def pod_view(pod: Pod, *, full: bool = False) -> PodView:
    """A pod as it is now."""
    record = pod.book.pod
    containers = [*pod.book.of_kind("main"), *pod.book.of_kind("init", "sidecar")]
    end = policy.outcome(containers) if record.phase in ("succeeded", "failed", "stopped") else None
    return PodView(
        id=record.id,
        name=record.name,
        hostname=record.spec.hostname or record.name,
        state=policy.state_of(record),
        created=timestamp(record.created),
        started=timestamp(record.started),
        finished=timestamp(record.finished),
        labels=record.spec.labels,
        vcpus=record.spec.vcpus,
        memory_mib=record.spec.memory_mib,
        addresses=[address.partition("/")[0] for addresses in record.addresses.values() for address in addresses],
        ports=ports_of(record.spec),
        containers=[_brief(pod, one) for one in containers],
        exit_code=end.code if end else None,
        reason=record.message or _waits(pod),
        vm=record.id if record.booted else "",
        restarts=record.boots,
        networks={name: list(addresses) for name, addresses in record.addresses.items()},
        spec=shown(record.spec) if full else None,
    )


def _waits(pod: Pod) -> str:
    """What its start waits for, and what is known of that."""
    name = pod.book.waits_for
    record = next((one for one in pod.book.containers.values() if one.name == name), None)
    if pod.book.pod.phase != "starting" or record is None:
        return ""
    health = pod.health(record.id)
    message = record.message or (health.message if health else "")
    return f"it waits for {'init container' if record.kind == 'init' else 'sidecar'} {name}{': ' if message else ''}{message}"


def shown(wanted: spec.Pod) -> spec.Pod:
    """A specification without its secrets."""

    def hide(volume: spec.Volume) -> spec.Volume:
        source = volume.source
        if not isinstance(source, spec.Projected) or not source.secret:
            return volume
        files = tuple(msgspec.structs.replace(file, content=_HIDDEN, encoding="raw") for file in source.files)
        return msgspec.structs.replace(volume, source=msgspec.structs.replace(source, files=files))

    return msgspec.structs.replace(
        wanted,
        volumes=tuple(hide(volume) for volume in wanted.volumes),
        containers=tuple(shown_container(one) for one in wanted.containers),
        init_containers=tuple(shown_container(one) for one in wanted.init_containers),
    )


def shown_container(wanted: spec.Container) -> spec.Container:
    """A container without its secrets: other variables, and commands, may have been made with them."""
    values = sorted({text for name, text in wanted.environment if name in wanted.secrets and text}, key=len, reverse=True)
    if not wanted.secrets:
        return wanted

    def hide(text: str) -> str:
        for value in values:
            text = text.replace(value, _HIDDEN)
        return text

    return msgspec.structs.replace(
        wanted,
        environment=tuple((name, _HIDDEN if name in wanted.secrets else hide(text)) for name, text in wanted.environment),
        command=tuple(hide(text) for text in wanted.command),
        args=tuple(hide(text) for text in wanted.args),
    )


def _brief(pod: Pod, record: ContainerRecord) -> ContainerBrief:
    return ContainerBrief(
        id=record.id,
        name=record.name,
        image=pod.book.specification(record).image,
        state=container_state(pod, record),
        kind=record.kind,
        exit_code=_code(record),
        restarts=record.restarts,
        ready=ready(pod, record),
        health=_checked(pod.health(record.id)).status,
    )


def container_state(pod: Pod, record: ContainerRecord) -> str:
    """As users see it: created, waiting, running, paused, exited."""
    if record.phase == "running":
        return "paused" if pod.book.pod.paused else "running"
    if record.phase == "stopping":
        return "running"
    if record.phase == "waiting" and pod.book.pod.phase == "created":
        return "created"
    return "waiting" if record.phase != "exited" or record.retry_at else "exited"


def ready(pod: Pod, record: ContainerRecord) -> bool:
    """Whether it runs and its probes, if it has such, say that it may be used."""
    health = pod.health(record.id)
    return record.phase == "running" and (health is None or health.ready)


def container_view(pod: Pod, record: ContainerRecord, *, full: bool = False) -> ContainerView:
    """A container as it is now."""
    wanted = pod.book.specification(record)
    health = pod.health(record.id)
    return ContainerView(
        id=record.id,
        name=record.name,
        pod=pod.book.pod.name,
        pod_id=record.pod,
        image=wanted.image,
        image_id=record.image,
        state=container_state(pod, record),
        kind=record.kind,
        created=timestamp(record.created),
        started=timestamp(record.started),
        finished=timestamp(record.finished),
        exit_code=_code(record),
        signal=record.signal,
        oom=record.oom,
        restarts=record.restarts,
        tty=wanted.tty,
        stdin=wanted.stdin,
        ready=ready(pod, record),
        reason=record.message,
        retry=timestamp(record.retry_at),
        health=_health_view(health) if health is not None else None,
        spec=shown_container(wanted) if full else None,
    )


def _checked(health: Health | None) -> State:
    return health.checked if health is not None and health.checked is not None else State("")


def _health_view(health: Health) -> HealthView:
    checked = _checked(health)
    return HealthView(
        started=health.started,
        ready=health.ready,
        alive=health.alive,
        message=health.message,
        status=checked.status,
        failing=checked.failing,
        log=[HealthResult(started=timestamp(one.started), ended=timestamp(one.ended), exit_code=one.code, output=one.output) for one in checked.log],
    )


def exec_view(record: ExecRecord) -> ExecView:
    """A further process as it is now."""
    return ExecView(
        id=record.id,
        container=record.container,
        pod=record.pod,
        args=record.args,
        tty=record.tty,
        state=record.phase,
        exit_code=record.code,
        signal=record.signal,
    )


def event_view(event: Event) -> EventView:
    """An event as it is told."""
    return EventView(
        time=timestamp(event.time),
        type=event.kind,
        action=event.action,
        id=event.id,
        name=event.name,
        attributes=event.attributes,
        sequence=event.sequence,
    )


def _code(record: ContainerRecord) -> int | None:
    return record.code if record.phase == "exited" else None
