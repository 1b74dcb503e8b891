"""Docker's health checks: a command that is run in a container now and then, and what its answers come to."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

from hyperd import spec

Status = Literal["", "starting", "healthy", "unhealthy"]

_NANOSECONDS = 1e9
_SHELL = ("/bin/sh", "-c")
_INTERVAL_S, _TIMEOUT_S, _START_INTERVAL_S, _RETRIES = 30.0, 30.0, 5.0, 3
_KEPT = 5


class ImageHealthcheck(Protocol):
    """What an image says; times in nanoseconds."""

    @property
    def test(self) -> Sequence[str] | None: ...
    @property
    def interval(self) -> int | None: ...
    @property
    def timeout(self) -> int | None: ...
    @property
    def start_period(self) -> int | None: ...
    @property
    def start_interval(self) -> int | None: ...
    @property
    def retries(self) -> int | None: ...


class Check(NamedTuple):
    """What is to be run, and when."""

    command: tuple[str, ...]
    interval_s: float = _INTERVAL_S
    timeout_s: float = _TIMEOUT_S
    start_period_s: float = 0.0
    start_interval_s: float = _START_INTERVAL_S
    retries: int = _RETRIES


class Result(NamedTuple):
    """One answer: times in seconds since the epoch; ``code`` -1 where there was none in time."""

    started: float
    ended: float
    code: int
    output: str


class State(NamedTuple):
    """What the answers came to. ``failing``: failures in a row that count. ``log``: the last answers, oldest first."""

    status: Status = "starting"
    failing: int = 0
    log: tuple[Result, ...] = ()


def check_of(wanted: spec.Healthcheck, image: ImageHealthcheck | None, shell: Sequence[str] | None = None) -> Check | None:
    """The container's check: what is asked for, the rest as the image says, the rest as Docker has it. None: there is none.

    :param shell: the image's, that a line of CMD-SHELL is given to
    """
    command = _command(wanted.test or tuple((image.test if image else None) or ()), tuple(shell or _SHELL))
    if not command:
        return None

    def seconds(name: str, default: float) -> float:
        said = (getattr(image, name, None) or 0) / _NANOSECONDS
        return float(getattr(wanted, f"{name}_s")) or max(said, 0.0) or default

    return Check(
        command,
        seconds("interval", _INTERVAL_S),
        seconds("timeout", _TIMEOUT_S),
        seconds("start_period", 0.0),
        seconds("start_interval", _START_INTERVAL_S),
        wanted.retries or max((image.retries if image else None) or 0, 0) or _RETRIES,
    )


def _command(test: tuple[str, ...], shell: tuple[str, ...]) -> tuple[str, ...]:
    """Nothing for NONE, and for what is of no known kind: Docker runs that neither."""
    kind, rest = test[:1], test[1:]
    if kind == ("CMD",):
        return rest
    return (*shell, rest[0]) if kind == ("CMD-SHELL",) and rest else ()


def after(state: State, check: Check, result: Result, running_since: float) -> State:
    """The state once an answer has come.

    :param running_since: when the container was started; failures of its first time do not count, until it was well once
    """
    log = (*state.log, result)[-_KEPT:]
    if result.code == 0:
        return State("healthy", 0, log)
    if state.status == "starting" and result.started - running_since < check.start_period_s:
        return state._replace(log=log)
    failing = state.failing + 1
    return State("unhealthy" if failing >= check.retries else state.status, failing, log)


def pause_s(state: State, check: Check, running_s: float) -> float:
    """How long until it is asked again."""
    early = state.status == "starting" and running_s < check.start_period_s
    return min(check.interval_s, check.start_interval_s) if early else check.interval_s
