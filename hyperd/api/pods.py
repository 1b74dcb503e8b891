"""Pods and what is done with them."""

import asyncio
import math
import signal as signals
from typing import Any

import msgspec

from hyperd import manifests, spec
from hyperd.api.call import Body, Call, Params, Route
from hyperd.api.resize import PatchBody, resize
from hyperd.api.streams import Lines
from hyperd.api.views import EndView, PodView, pod_view
from hyperd.errors import ConflictError, InvalidError, MissingError
from hyperd.pods import policy
from hyperd.pods.pod import Pod

_WAIT_S = 3600.0


class Created(msgspec.Struct, frozen=True):
    """What was made."""

    id: str
    name: str


class Made(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Of ``spec``: ``id`` and ``name``. Of ``documents``: ``pods``, and what of the documents is not carried out."""

    id: str = ""
    name: str = ""
    pods: list[Created] = []
    warnings: list[str] = []


class StartParams(Params, frozen=True):
    """``wait``: how many seconds init containers and sidecars are waited for; the pod goes on starting. Without it: as long as it takes."""

    wait: float | None = None


class CreateParams(StartParams, frozen=True):
    """``start``: run it at once. ``rm``: remove it when it has finished. ``wait`` as for a start."""

    start: bool = False
    rm: bool = False


class CreateBody(Body, frozen=True):
    """Either ``spec``, a pod in hyperd's own form, or ``documents``: pod files as text or objects."""

    spec: dict[str, Any] | None = None
    documents: list[Any] | None = None


class ListParams(Params, frozen=True):
    """``all``: stopped ones too. ``label``: KEY or KEY=VALUE, may be repeated."""

    all: bool = False
    label: tuple[str, ...] = ()


class RemoveParams(Params, frozen=True):
    """``force``: also one that runs."""

    force: bool = False


class StopParams(Params, frozen=True):
    """``timeout``: seconds to end by itself."""

    timeout: float | None = None


class KillParams(Params, frozen=True):
    """``signal``: a name or a number; KILL ends the machine as well."""

    signal: str = "KILL"


class FollowParams(Params, frozen=True):
    """``follow``: once a second, until the pod stops."""

    follow: bool = False


class Top(msgspec.Struct, frozen=True):
    """A table of processes."""

    titles: list[str]
    processes: list[list[str]]


async def create(call: Call) -> Made:
    """One pod, or several from documents."""
    if (call.body.spec is None) == (call.body.documents is None):
        raise InvalidError("body: give either spec or documents")
    if call.body.spec is not None:
        wanted = await asyncio.to_thread(manifests.read_pod, call.body.spec)
        pod = await _create(call, wanted)
        return Made(id=pod.book.pod.id, name=pod.book.pod.name)
    loaded = await asyncio.to_thread(_load, call.body.documents)
    made: list[Pod] = []
    try:
        for wanted in loaded.pods:
            made.append(await _create(call, wanted))
    except BaseException:
        for pod in made:
            await pod.ask_removal(force=True)
        raise
    return Made(pods=[Created(pod.book.pod.id, pod.book.pod.name) for pod in made], warnings=list(loaded.warnings))


def _load(documents: list[Any]) -> manifests.Loaded:
    if all(isinstance(one, str) for one in documents):
        return manifests.load("\n---\n".join(documents))
    return manifests.load(documents)


async def _create(call: Call, wanted: spec.Pod) -> Pod:
    pod = await call.services.manager.create(wanted, auto_remove=call.params.rm)
    if call.params.start:
        try:
            await pod.ask_start()
            await pod.started(_patience(call))
        except BaseException:
            await pod.ask_removal(force=True)
            raise
    return pod


async def listing(call: Call) -> list[PodView]:
    """The pods, the newest first."""
    wanted = [label.partition("=") for label in call.params.label]
    return [
        pod_view(pod)
        for pod in call.services.manager.all()
        if (call.params.all or pod.book.pod.phase in ("starting", "running", "stopping"))
        and all(_has_label(pod.book.pod.spec.labels, *label) for label in wanted)
    ]


def _has_label(labels: dict[str, str], key: str, equals: str, value: str) -> bool:
    return key in labels and (not equals or labels[key] == value)


def pod_of(call: Call) -> Pod:
    """The pod that the address names."""
    return call.services.manager.find(call.name())


async def show(call: Call) -> PodView:
    """All of one pod."""
    return pod_view(pod_of(call), full=True)


async def remove(call: Call) -> None:
    """Returns when nothing is left of it."""
    pod = pod_of(call)
    await pod.ask_removal(force=call.params.force)
    await pod.book.until(lambda: pod.book.gone)


async def start(call: Call) -> PodView:
    """Returns when its containers were started, or when those before them were waited for long enough: its state is "starting" then."""
    pod = pod_of(call)
    patience_s = _patience(call)
    await pod.ask_start()
    await pod.started(patience_s)
    return pod_view(pod)


def _patience(call: Call) -> float:
    wait_s: float | None = call.params.wait
    if wait_s is not None and not 0 <= wait_s <= _WAIT_S:
        raise InvalidError(f"wait must be from 0 to {_WAIT_S:g} seconds")
    return math.inf if wait_s is None else wait_s


async def stop(call: Call) -> PodView:
    """Returns when it has stopped."""
    pod = pod_of(call)
    await pod.ask_stop(_grace(call))
    await pod.rested()
    return pod_view(pod)


def _grace(call: Call) -> float | None:
    timeout_s: float | None = call.params.timeout
    if timeout_s is not None and not 0 <= timeout_s <= _WAIT_S:
        raise InvalidError(f"timeout must be from 0 to {_WAIT_S:g} seconds")
    return timeout_s


async def restart(call: Call) -> PodView:
    """Returns when it has stopped, and its containers were started again."""
    pod = pod_of(call)
    await pod.ask_restart(_grace(call))
    await pod.started()
    return pod_view(pod)


async def kill(call: Call) -> None:
    """Sends a signal to the first process of each container; KILL ends the pod."""
    pod = pod_of(call)
    number = signal_number(call.params.signal)
    if pod.book.pod.phase not in ("starting", "running", "stopping"):
        raise ConflictError(f"pod {pod.book.pod.name} is {policy.state_of(pod.book.pod)}", hint="start it first")
    if number == signals.SIGKILL:
        await pod.ask_stop(0.0)
        await pod.rested()
        return
    for record in pod.book.of_kind("init", "sidecar", "main"):
        if record.phase == "running":
            try:
                await call.services.tools.runtime.kill(record.id, number)
            except MissingError:
                pass  # it has just ended


def signal_number(text: str) -> int:
    """``TERM``, ``SIGTERM`` or ``15``.

    :raise InvalidError: there is no such signal
    """
    name = text.upper().removeprefix("SIG")
    if name.isascii() and name.isdigit() and len(name) < 4 and 1 <= int(name) <= signals.SIGRTMAX:
        return int(name)
    try:
        return signals.Signals[f"SIG{name}"].value
    except KeyError:
        raise InvalidError(f"no such signal: {text[:40]!r}") from None


async def pause(call: Call) -> PodView:
    """The whole machine stands still."""
    pod = pod_of(call)
    await pod.ask_pause(True)
    return pod_view(pod)


async def unpause(call: Call) -> PodView:
    """It goes on."""
    pod = pod_of(call)
    await pod.ask_pause(False)
    return pod_view(pod)


async def patch(call: Call) -> PodView:
    """Changes labels, the size of the machine, and the limits of containers where they are."""
    pod = pod_of(call)
    await resize(call.services.tools.runtime, pod, call.body)
    if call.body.labels is not None:
        labels = {**pod.book.pod.spec.labels, **call.body.labels}
        kept = {key: value for key, value in labels.items() if value is not None}
        await pod.book.change(spec=msgspec.structs.replace(pod.book.pod.spec, labels=kept))
    return pod_view(pod)


async def wait(call: Call) -> EndView:
    """Returns when the pod has ended."""
    pod = pod_of(call)
    await pod.book.until(lambda: pod.book.gone or pod.book.pod.phase in ("stopped", "succeeded", "failed"))
    end = policy.outcome([*pod.book.of_kind("main"), *pod.book.of_kind("init")])
    return EndView(code=max(end.code, 0), signal=end.signal, oom=end.oom) if end else EndView(code=0)


async def stats(call: Call) -> Any:
    """What is used, once or each second."""
    from hyperd.api.stats import pod_stats

    pod = pod_of(call)
    if not call.params.follow:
        return await pod_stats(call.services, pod)
    async with Lines(call) as lines:
        while pod.book.pod.phase == "running" and not lines.closed:
            await lines.send(await pod_stats(call.services, pod))
            await lines.pause(1.0)
    return lines.response


async def top(call: Call) -> Top:
    """The processes of all containers."""
    pod = pod_of(call)
    if pod.book.pod.phase != "running":
        raise ConflictError(f"pod {pod.book.pod.name} is {policy.state_of(pod.book.pod)}", hint="start it first")
    rows: list[list[str]] = []
    for record in pod.book.of_kind("main", "sidecar", "init"):
        if record.phase == "running":
            lines = (await call.services.tools.runtime.call("ps", record.id)).splitlines()[1:]
            rows += [[record.name, *line.split(None, 3)] for line in lines]
    return Top(["CONTAINER", "UID", "PID", "PPID", "COMMAND"], rows)


ROUTES = (
    Route("POST", "/pods", create, "Make a pod, or those of pod files", CreateParams, CreateBody, Made, status=201),
    Route("GET", "/pods", listing, "List pods", ListParams, answer=list[PodView]),
    Route("GET", "/pods/{name}", show, "Show a pod", answer=PodView),
    Route("DELETE", "/pods/{name}", remove, "Remove a pod", RemoveParams, status=204),
    Route("PATCH", "/pods/{name}", patch, "Change labels, size and limits of a pod", body=PatchBody, answer=PodView),
    Route("POST", "/pods/{name}/start", start, "Start a pod", StartParams, answer=PodView),
    Route("POST", "/pods/{name}/stop", stop, "Stop a pod", StopParams, answer=PodView),
    Route("POST", "/pods/{name}/restart", restart, "Stop and start a pod", StopParams, answer=PodView),
    Route("POST", "/pods/{name}/kill", kill, "Send a signal to a pod", KillParams, status=204),
    Route("POST", "/pods/{name}/pause", pause, "Let a pod stand still", answer=PodView),
    Route("POST", "/pods/{name}/unpause", unpause, "Let a pod go on", answer=PodView),
    Route("GET", "/pods/{name}/wait", wait, "Wait for the end of a pod", answer=EndView),
    Route("GET", "/pods/{name}/stats", stats, "Statistics of a pod", FollowParams, kind="ndjson"),
    Route("GET", "/pods/{name}/top", top, "Processes of a pod", answer=Top),
)
