"""What is done to pods and containers that exist."""

from typing import Any

import click

from hyperctl.app import CONTAINER, POD, POD_OR_CONTAINER, App, Signal, command, pass_app
from hyperctl.client import path
from hyperctl.errors import CtlError
from hyperctl.humans import mebibytes, span_s
from hyperctl.names import each, find
from hyperctl.output import note, out, tell_if_starting
from hyperctl.stream import exit_code

_names = click.argument("names", metavar="NAME...", nargs=-1, required=True, type=POD_OR_CONTAINER)
_pods = click.argument("names", metavar="POD...", nargs=-1, required=True, type=POD)
_as_container = click.option("-c", "--container", is_flag=True, help="The names are of containers.")


def _kinds(container: bool) -> tuple[str, ...]:
    return ("containers",) if container else ("pods", "containers")


def _act(app: App, names: tuple[str, ...], container: bool, action: str, *, start_wait_s: float | None = None, **query: Any) -> None:
    def one(name: str) -> None:
        found = find(app.client, name, _kinds(container))
        more = {"wait": start_wait_s} if start_wait_s is not None and found.where.startswith("/pods/") else {}
        answer = app.client.request("POST", f"{found.where}/{action}", query=query | more, forever=bool(query.get("timeout")))
        out(name)
        tell_if_starting(name, answer if more else None)

    each(names, one)


def _pod_action(app: App, names: tuple[str, ...], action: str, **query: Any) -> None:
    def one(name: str) -> None:
        app.client.post(path("pods", name, action), **query)
        out(name)

    each(names, one)


@command("start", examples="hyperctl start web\nhyperctl start -c web/sidecar")
@_as_container
@click.option("--wait", default="1m", metavar="TIME", help="How long to wait for a pod's init containers and sidecars; it goes on starting. Default: 1m.")
@_names
@pass_app
def start(app: App, names: tuple[str, ...], container: bool, wait: str) -> None:
    """Start pods, or containers of pods that run. `hyperctl attach` shows what they say."""
    _act(app, names, container, "start", start_wait_s=span_s(wait, "wait"))


@command("stop", examples="hyperctl stop web\nhyperctl stop --time 1m web db")
@_as_container
@click.option("-t", "--time", "timeout", metavar="TIME", help="How long to wait before all is killed. Default: what the pod asks for.")
@_names
@pass_app
def stop(app: App, names: tuple[str, ...], container: bool, timeout: str | None) -> None:
    """End pods or containers: by their stop signal, and after a time by SIGKILL."""
    _act(app, names, container, "stop", timeout=span_s(timeout) if timeout else None)


@command("restart")
@click.option("-t", "--time", "timeout", metavar="TIME", help="How long to wait before all is killed.")
@_pods
@pass_app
def restart(app: App, names: tuple[str, ...], timeout: str | None) -> None:
    """Stop pods and start them again."""
    _pod_action(app, names, "restart", timeout=span_s(timeout) if timeout else None)


@command("kill", examples="hyperctl kill web\nhyperctl kill -s HUP web/nginx")
@click.option("-p", "--pod", is_flag=True, help="The names are of pods.")
@click.option("-s", "--signal", "number", type=Signal(), default="KILL", metavar="SIGNAL", help="Default: KILL.")
@_names
@pass_app
def kill(app: App, names: tuple[str, ...], pod: bool, number: str) -> None:
    """Send a signal to the main process of containers; of a pod to all of them. KILL to a pod ends its machine."""

    def one(name: str) -> None:
        found = find(app.client, name, ("pods",) if pod else _kinds(container=False))
        app.client.post(f"{found.where}/kill", signal=number)
        out(name)

    each(names, one)


@command("pause")
@_pods
@pass_app
def pause(app: App, names: tuple[str, ...]) -> None:
    """Halt everything in pods. They keep their memory and their place."""
    _pod_action(app, names, "pause")


@command("unpause")
@_pods
@pass_app
def unpause(app: App, names: tuple[str, ...]) -> None:
    """Let paused pods go on."""
    _pod_action(app, names, "unpause")


@command("rm", examples="hyperctl rm web\nhyperctl rm -f $(hyperctl list -q)")
@_as_container
@click.option("-f", "--force", is_flag=True, help="Also what runs; and what is not there is no error.")
@_names
@pass_app
def rm(app: App, names: tuple[str, ...], container: bool, force: bool) -> None:
    """Remove pods that have ended, or containers, and what they wrote. Named volumes stay."""

    def one(name: str) -> None:
        try:
            found = find(app.client, name, _kinds(container))
            app.client.delete(found.where, force=force)
        except CtlError as error:
            if force and _is_missing(error):
                return
            raise
        out(name)

    each(names, one)


def _is_missing(error: CtlError) -> bool:
    return getattr(error, "status", 404) == 404


@command("wait", examples="hyperctl wait job && echo all is well")
@_names
@pass_app
def wait(app: App, names: tuple[str, ...]) -> None:
    """Wait until pods or containers have ended, and print the exit code of each."""

    def one(name: str) -> None:
        found = find(app.client, name, _kinds(container=False))
        out(str(exit_code(app.client.request("GET", f"{found.where}/wait", forever=True))))

    each(names, one)


@command("update", examples="hyperctl update --cpu 4 --memory 2g web\nhyperctl update --cpus 0.5 --memory-limit 300m -c server web\nhyperctl update --label tier=front --label-rm old web")
@click.option("--cpu", type=click.IntRange(1), metavar="N", help="Virtual CPUs of the machine.")
@click.option("-m", "--memory", metavar="SIZE", help="Memory of the machine; a number alone is MiB.")
@click.option("--cpus", type=click.FloatRange(0, min_open=True), metavar="N", help="Limit of each container within the machine: 0.5 is half a CPU.")
@click.option("--memory-limit", metavar="SIZE", help="Limit of each container within the machine.")
@click.option("-c", "--container", metavar="NAME", help="Limit only this container of the pod.")
@click.option("-l", "--label", multiple=True, metavar="NAME=VALUE", help="Set a label.")
@click.option("--label-rm", multiple=True, metavar="NAME", help="Remove a label.")
@_pods
@pass_app
def update(
    app: App,
    names: tuple[str, ...],
    cpu: int | None,
    memory: str | None,
    cpus: float | None,
    memory_limit: str | None,
    container: str | None,
    label: tuple[str, ...],
    label_rm: tuple[str, ...],
) -> None:
    """Change pods while they run: the size of the machine (--cpu, --memory), the limits of the containers in it (--cpus, --memory-limit), or labels.

    The machine grows with limits that need more than it has. It gets no smaller than it was started with. Pods that do not run have the new size when they are
    started next."""
    body: dict[str, Any] = {}
    labels: dict[str, str | None] = {name: None for name in label_rm}
    labels |= dict(text.partition("=")[::2] for text in label)
    if labels:
        body["labels"] = labels
    machine = {"vcpus": cpu, "memory_mib": mebibytes(memory) if memory else None}
    resources = {"cpu": cpus, "memory": mebibytes(memory_limit) if memory_limit else None}
    for member, values in (("machine", machine), ("resources", resources)):
        given = {name: value for name, value in values.items() if value}
        if given:
            body[member] = given
    if container and "resources" not in body:
        raise click.UsageError("--container goes with --cpus or --memory-limit", click.get_current_context())
    if container:
        body["container"] = container
    if not body:
        raise click.UsageError("nothing to change: name --cpu, --memory, --cpus, --memory-limit, --label or --label-rm", click.get_current_context())

    def one(name: str) -> None:
        app.client.request("PATCH", path("pods", name), body=body)
        out(name)

    each(names, one)


@command("rename")
@click.argument("name", type=CONTAINER)
@click.argument("new")
@pass_app
def rename(app: App, name: str, new: str) -> None:
    """Give a container another name."""
    found = find(app.client, name, ("containers",))
    app.client.post(f"{found.where}/rename", {"name": new})
    note(f"{name} is now {new}")
