"""``run`` and ``create``."""

import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any, TypeVar

import click

from hyperctl import podspec, pulling
from hyperctl.app import IMAGE, NETWORK, POD, App, Signal, command, options, pass_app
from hyperctl.client import Client, path
from hyperctl.errors import RUN_FAILED, ApiError, ConnectError, CtlError, Exit, Unread
from hyperctl.humans import span_s
from hyperctl.output import note, out, tell_if_starting
from hyperctl.stream import Outcome, Session, Wanted, wants_input
from hyperctl.terminal import parse_keys

F = TypeVar("F", bound=Callable[..., Any])

_FILE_HINT = "-p names a pod file; ports are published with --publish"


def _many(*names: str, **rest: Any) -> Callable[[F], F]:
    return click.option(*names, multiple=True, **rest)


_CONTAINER_OPTIONS = options(
    click.option("-p", "--podfile", multiple=True, metavar="FILE", help="Pod files: JSON or YAML of ours, or Kubernetes manifests with their ConfigMaps; - is stdin."),
    click.option("-y", "--yaml", "is_yaml", is_flag=True, help="The pod file is YAML. Accepted and not needed."),
    click.option("-c", "--container", "into", type=POD, metavar="POD", help="Add the container to this pod instead of making one."),
    click.option("--name", help="Name of the pod; with -c of the container."),
    click.option("-t", "--tty", is_flag=True, help="A terminal for the process, with yours as its other side."),
    click.option("-i", "--interactive", is_flag=True, help="Send stdin, though it is no terminal."),
    click.option("-w", "--workdir", help="Where the process starts."),
    click.option("-u", "--user", metavar="USER[:GROUP]", help="Names or numbers."),
    _many("--group-add", metavar="GROUP", help="A further group of the process."),
    click.option("--entrypoint", metavar="WORDS", help="In place of the image's; empty for none."),
    _many("-e", "--env", metavar="NAME[=VALUE]", help="A variable; without a value it is the one here."),
    _many("--env-file", metavar="FILE", help="Variables, one a line."),
    _many("-l", "--label", metavar="NAME=VALUE", help="A label of the pod."),
    _many("-v", "--volume", metavar="[SOURCE:]PATH[:ro]", help="A folder of the host, a named volume, or one that ends with the pod."),
    _many("--tmpfs", metavar="PATH[:size=SIZE]", help="A file system in the machine's memory."),
    click.option("--read-only", is_flag=True, help="The root cannot be written to."),
    click.option("--storage-size", metavar="SIZE", help="How much the container may write to its root."),
    click.option("--cpu", type=click.IntRange(1), metavar="N", help="Virtual CPUs of the machine."),
    click.option("-m", "--memory", metavar="SIZE", help="Memory of the machine; a number alone is MiB."),
    click.option("--cpus", type=click.FloatRange(0, min_open=True), metavar="N", help="Limit of the container within the machine: 0.5 is half a CPU."),
    click.option("--cpu-shares", type=click.IntRange(2), metavar="N", help="Weight among the containers of the pod."),
    click.option("--memory-limit", metavar="SIZE", help="Limit of the container within the machine."),
    click.option("--memory-swap", metavar="SIZE", help="The same with swap."),
    click.option("--pids-limit", type=int, metavar="N", help="How many processes the container may have."),
    click.option("--restart", metavar="POLICY", help="no, on-failure[:RETRIES], always or unless-stopped."),
    click.option("--health-cmd", metavar="LINE", help="What is run now and then to see whether the container is well. Default: what the image says."),
    click.option("--health-interval", metavar="TIME", help="How long to wait between runs. Default: 30s."),
    click.option("--health-timeout", metavar="TIME", help="How long one may take. Default: 30s."),
    click.option("--health-retries", type=click.IntRange(0), metavar="N", help="Failures in a row that make it unhealthy. Default: 3."),
    click.option("--health-start-period", metavar="TIME", help="How long failures do not count at first. Default: 0s."),
    click.option("--health-start-interval", metavar="TIME", help="How long to wait between runs in that time. Default: 5s."),
    click.option("--no-healthcheck", is_flag=True, help="Nothing is run, whatever the image says."),
    click.option("--pull", type=click.Choice(["always", "missing", "never"]), help="When to get the image. Default: missing."),
    click.option("--stop-signal", type=Signal(), metavar="SIGNAL", help="What `stop` sends first."),
    click.option("--stop-timeout", metavar="TIME", help="How long `stop` waits then."),
    click.option("--log-driver", type=click.Choice(["json-file", "cri", "none"]), help="How output is kept."),
    _many("--log-opt", metavar="NAME=VALUE", help="max-size, max-file or path."),
)  # fmt: skip
_POD_OPTIONS = options(
    click.option("--hostname", help="Name of the machine. Default: that of the pod."),
    _many("--publish", metavar="[ADDRESS:]HOST:CONTAINER[/udp]", help="A port of this host that leads into the pod; ranges too; tcp:HOST:CONTAINER as well."),
    _many("--network", type=NETWORK, metavar="NETWORK", help="A network to be in, or none."),
    _many("--network-alias", metavar="NAME", help="One more name in its networks."),
    _many("--ip", metavar="ADDRESS", help="Its address in the first network; also IPv6."),
    click.option("--mac", "--mac-address", "mac", metavar="MAC", help="Its hardware address there."),
    _many("--dns", metavar="ADDRESS", help="A name server, instead of those of its networks."),
    _many("--dns-search", metavar="DOMAIN", help="Where names are looked for."),
    _many("--dns-option", metavar="OPTION", help="An option of resolv.conf."),
    _many("--add-host", metavar="NAME:ADDRESS", help="A line of /etc/hosts."),
    _many("--cap-add", metavar="CAPABILITY", help="NET_ADMIN, ..., or ALL."),
    _many("--cap-drop", metavar="CAPABILITY", help="The same, taken away."),
    click.option("--privileged", is_flag=True, help="All capabilities and devices, of the machine and not of the host."),
    _many("--security-opt", metavar="OPTION", help="no-new-privileges or seccomp=unconfined."),
    _many("--sysctl", metavar="NAME=VALUE", help="A kernel parameter of the pod."),
    _many("--ulimit", metavar="NAME=SOFT[:HARD]", help="A limit of the process."),
)  # fmt: skip
_IMAGE_AND_COMMAND = options(
    click.argument("image", required=False, type=IMAGE),
    click.argument("args", metavar="[COMMAND]...", nargs=-1, type=click.UNPROCESSED),
)


@command(
    "create",
    stop_at_argument=True,
    examples="""
    hyperctl create --name web --publish 8080:80 nginx
    hyperctl create -c web alpine sleep 1000     one more container in that pod
    hyperctl create -p pod.yaml
    """,
)
@_CONTAINER_OPTIONS
@_POD_OPTIONS
@_IMAGE_AND_COMMAND
@pass_app
def create(app: App, /, **given: Any) -> None:
    """Make a pod of one container, the pods of a file, or (-c) a container in a pod, and print the names. Nothing is started."""
    if given["podfile"]:
        for pod in _create_of_files(app.client, given):
            out(pod["name"])
        return
    made = _create(app, given)
    out(made["name"])


@command(
    "run",
    stop_at_argument=True,
    failure=RUN_FAILED,
    examples="""
    hyperctl run -t busybox echo helloworld
    hyperctl run -t --rm -e TERM -v $PWD:/src:ro debian bash
    hyperctl run -d --name web --memory 512 --cpu 2 --publish 8080:80 --restart always nginx
    hyperctl run -d -p deployment.yaml -p configmaps.yaml
    tar c . | hyperctl run -i --rm busybox tar t
    """,
)
@click.option("-a", "--attach", "attach", is_flag=True, help="With -p: attach to the first container of the first pod.")
@click.option("-d", "--detach", is_flag=True, help="Print the id and come back as soon as it runs.")
@click.option("--rm", "remove", is_flag=True, help="Remove the pod when it has ended.")
@click.option("--wait", default="1m", metavar="TIME", help="With -d: how long to wait for init containers and sidecars; the pod goes on starting. Default: 1m.")
@click.option("--detach-keys", metavar="KEYS", help="What to press to leave it running. Default: ctrl-p,ctrl-q.")
@_CONTAINER_OPTIONS
@_POD_OPTIONS
@_IMAGE_AND_COMMAND
@pass_app
def run(app: App, /, **given: Any) -> None:
    """Make a pod of one container, or the pods of a file, and start it.

    The image is pulled where it is missing. Without -d (with -p: with -a) the command stays attached and ends with the exit code of the container; 125 says that
    the pod could not be started, 126 that its program cannot be run and 127 that there is none. --cpu and --memory are the size of the machine, which is shared by
    all containers of a pod; --cpus and --memory-limit are limits of the container within it.
    """
    began = time.monotonic()
    attached = given["attach"] if given["podfile"] else not given["detach"]
    if given["attach"] and given["detach"]:
        raise click.UsageError("-a and -d exclude each other", click.get_current_context())
    pods = _create_of_files(app.client, given) if given["podfile"] else [_create(app, given)]
    if not attached:
        _start_detached(app.client, pods, began, owned=not given["into"], wait_s=span_s(given["wait"], "wait"))
        return
    for pod in pods[1:]:
        app.client.post(path("pods", pod["id"], "start"))
    if given["podfile"]:
        first = _first_container(app.client, pods[0])
        pods[0]["container"] = str(first.get("id") or f"{pods[0]['name']}/{first['name']}")
        given["tty"] = given["tty"] or bool(first.get("tty"))
    keys = parse_keys(given["detach_keys"] if given["detach_keys"] is not None else app.settings.detach_keys)
    outcome = _attached(app.client, pods[0], given, keys)
    if outcome.code is None:
        note(f"hyperctl: left {pods[0]['name']} running; `hyperctl attach {pods[0]['name']}` comes back")
    elif given["remove"] and len(pods) == 1 and not given["into"]:
        _await_removal(app.client, pods[0])
    raise Exit(outcome.code or 0)


def _create(app: App, given: dict[str, Any]) -> dict[str, Any]:
    """A pod of one container, or the container: ``id`` and ``name``, and with -c ``container``."""
    if not given["image"]:
        raise click.UsageError("an image is missing; or name a pod file with -p", click.get_current_context())
    image, place = given["image"], place_of(app.client)
    if given["into"]:
        body = _container_for(given, place)
        pulling.ensure(app.client, image, given["pull"] or "missing")
        added: dict[str, Any] = app.client.post(path("pods", given["into"], "containers"), {"container": body}, start="0")
        return added | {"name": body["name"], "container": str(added["id"])}
    spec = podspec.pod(given, image, given["args"], place)
    pulling.ensure(app.client, image, given["pull"] or "missing")
    made: dict[str, Any] = app.client.post("/pods", {"spec": spec}, rm=given.get("remove", False))
    return made | {"container": f"{made['name']}/{spec['containers'][0]['name']}"}


def _container_for(given: dict[str, Any], place: podspec.Place) -> dict[str, Any]:
    """The container of -c. What belongs to a whole pod is refused."""
    whole = ("cpu", "memory", "hostname", "publish", "network", "ip", "mac", "dns", "dns_search", "dns_option", "add_host", "sysctl", "network_alias", "log_driver")
    for name in whole:
        if given[name]:
            raise click.UsageError(f"--{name.replace('_', '-')} is of the whole pod, and -c names one that exists", click.get_current_context())
    volumes: list[dict[str, Any]] = []
    made = podspec.container(given | {"container_name": given["name"]}, given["image"], given["args"], place, volumes)
    if volumes:
        raise click.UsageError("-v and --tmpfs: a pod that exists takes volumes with `hyperctl volume attach`", click.get_current_context())
    labels = dict(text.partition("=")[::2] for text in given["label"])
    return made | podspec.restart(given["restart"]) | ({"labels": labels} if labels else {})


def _create_of_files(client: Client, given: dict[str, Any]) -> list[dict[str, Any]]:
    """The pods of the files, made and not started."""
    if given["image"]:
        raise click.UsageError(f"{given['image']}: with -p the file says what is run ({_FILE_HINT})", click.get_current_context())
    documents = [_read(name) for name in given["podfile"]]
    made = client.post("/pods", {"documents": documents}, rm=given.get("remove", False))
    for warning in made.get("warnings") or []:
        note(f"hyperctl: warning: {warning}")
    pods = made.get("pods", [made])
    return list(pods)


def _read(name: str) -> str:
    try:
        if name == "-":
            return sys.stdin.read()
        with open(name, encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        raise CtlError(f"cannot read {name}: {error.strerror}", hint=_FILE_HINT if ":" in name else "") from None
    except UnicodeDecodeError:
        raise CtlError(f"cannot read {name}: it is not text in UTF-8") from None


def place_of(client: Client) -> podspec.Place:
    return podspec.Place(client.settings.host.startswith(("unix:", "/")), os.getcwd(), dict(os.environ), _read)


def _start_detached(client: Client, pods: list[dict[str, Any]], began: float, *, owned: bool, wait_s: float) -> None:
    for pod in pods:
        found = _start(client, pod, owned=owned, wait=wait_s)
        out(str(pod["id"]))
        tell_if_starting(pod["name"], found)
    note(f"Time to run a POD is {round((time.monotonic() - began) * 1000)} ms")


def _start(client: Client, pod: dict[str, Any], *, owned: bool, wait: float | None = None) -> Any:
    """What does not start is removed again."""
    if not owned:
        return client.post(path("containers", pod["container"], "start"))
    try:
        return client.post(path("pods", pod["id"], "start"), wait=wait)
    except CtlError as error:
        _undo(client, pod, error)
        raise _start_error(error) from None


def _undo(client: Client, pod: dict[str, Any], error: CtlError) -> None:
    if isinstance(error, ConnectError):
        return  # it may well be running
    try:
        client.delete(path("pods", pod["id"]), force=True)
    except CtlError as second:
        if not isinstance(second, ApiError) or second.status != 404:
            note(f"hyperctl: cannot remove {pod['name']}: {second.message}")


def _await_removal(client: Client, pod: dict[str, Any]) -> None:
    """The daemon removes it by itself: its volumes and names are free when the command has ended."""
    try:
        client.delete(path("pods", pod["id"]), force=True)
    except ApiError as error:
        if error.status != 404:
            raise


def _start_error(error: CtlError) -> CtlError:
    """With the status that shells and Docker have for a program that cannot be run, where the daemon gives none."""
    text = error.message.lower()
    if error.exit_code is None:
        if "executable file not found" in text or ("exec" in text and "no such file or directory" in text):
            error.exit_code = 127
        elif "exec" in text and "permission denied" in text:
            error.exit_code = 126
    return error


def _first_container(client: Client, pod: dict[str, Any]) -> dict[str, Any]:
    members = client.get(path("pods", pod["id"])).get("containers") or []
    if not members:
        raise CtlError(f"pod {pod['name']}: it has no containers to attach to", hint="run it with -d")
    found: dict[str, Any] = members[0]
    return found


def _attached(client: Client, pod: dict[str, Any], given: dict[str, Any], keys: bytes) -> Outcome:
    """Attaches before the start, so that nothing is missed."""
    container = pod["container"]
    tty = given["tty"]
    stdin = wants_input(tty, given["interactive"])
    owned = not given["into"]
    wanted = Wanted(tty, stdin, keys, lambda name: client.post(path("containers", container, "kill"), signal=name))
    with ExitStack() as stack:
        try:
            socket = stack.enter_context(
                client.websocket(path("containers", container, "attach"), {"stdin": stdin, "stdout": True, "stderr": True})
            )
        except CtlError as error:
            if owned:
                _undo(client, pod, error)
            raise
        session = Session(socket, wanted)
        starting = _Start(client, pod, session, owned=owned)
        starting.start()
        try:
            return session.run()
        except ApiError as error:
            # The stream may have said it first; the start undoes what it did.
            starting.join(client.settings.timeout_s)
            raise _start_error(starting.failure or error) from None
        except Unread:
            _nobody_reads(client, pod, ends=given["remove"] and owned)
            raise


def _nobody_reads(client: Client, pod: dict[str, Any], *, ends: bool) -> None:
    """What was to live no longer than this command ends with it, as a program does that writes to a pipe without a reader."""
    if ends:
        _await_removal(client, pod)
        return
    with suppress(OSError):  # nobody reads that either
        note(f"hyperctl: nobody reads the output any more; {pod['name']} runs on, and `hyperctl logs` has it")


class _Start(threading.Thread):
    """Starts what a session is attached to. Its failure ends the session."""

    def __init__(self, client: Client, pod: dict[str, Any], session: Session, *, owned: bool) -> None:
        super().__init__(daemon=True)
        self._client = client
        self._pod = pod
        self._session = session
        self._owned = owned
        self.failure: CtlError | None = None

    def run(self) -> None:
        try:
            _start(self._client, self._pod, owned=self._owned)
        except CtlError as error:
            self.failure = error
            self._session.fail(error)
