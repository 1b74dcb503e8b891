"""Ports of pods: published on the host, or reached from here."""

import selectors
import socket
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from hyperctl.app import POD, App, command, format_option, group, pass_app
from hyperctl.client import Client, path
from hyperctl.errors import CtlError
from hyperctl.output import Column, note, records
from hyperctl.podspec import published

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

_CHUNK = 1 << 16
_publish = click.option(
    "-p", "--publish", multiple=True, required=True, metavar="[ADDRESS:]HOST:CONTAINER[/udp]", help="A port; ranges too; tcp:HOST:CONTAINER as well."
)


@group("ports", examples="hyperctl ports ls web\nhyperctl ports add -p 8443:443 web\nhyperctl ports rm -p 8443:443 web")
def ports() -> None:
    """Published ports of pods, while they run."""


@ports.sub("ls")
@format_option
@click.argument("pod", type=POD)
@pass_app
def ls(app: App, pod: str, kind: str | None) -> None:
    """List the published ports of a pod."""
    columns = (
        Column("ADDRESS", lambda row: str(row.get("host_ip") or "all")),
        Column("HOST", lambda row: str(row.get("host_port") or "-"), right=True),
        Column("CONTAINER", lambda row: str(row["container_port"]), right=True),
        Column("PROTOCOL", lambda row: str(row.get("protocol") or "tcp")),
    )
    records(app.client.get(path("pods", pod, "ports")), columns, kind)


@ports.sub("add", examples="hyperctl ports add -p 8443:443 -p 5353:53/udp web")
@_publish
@click.argument("pod", type=POD)
@pass_app
def add_(app: App, pod: str, publish: tuple[str, ...]) -> None:
    """Publish more ports."""
    app.client.post(path("pods", pod, "ports"), _ports(publish))


@ports.sub("rm", examples="hyperctl ports rm -p 8443:443 web")
@_publish
@click.argument("pod", type=POD)
@pass_app
def rm(app: App, pod: str, publish: tuple[str, ...]) -> None:
    """Publish ports no longer."""
    _unpublish(app, pod, publish)


@ports.sub("delete")
@_publish
@click.argument("pod", type=POD)
@pass_app
def delete(app: App, pod: str, publish: tuple[str, ...]) -> None:
    """Publish ports no longer: the same as rm."""
    _unpublish(app, pod, publish)


def _unpublish(app: App, pod: str, publish: tuple[str, ...]) -> None:
    app.client.delete(path("pods", pod, "ports"), _ports(publish))


def _ports(texts: tuple[str, ...]) -> dict[str, Any]:
    return {"ports": [port for text in texts for port in published(text)]}


# --- port-forward ---


class Forward(NamedTuple):
    """A port here, and the one of the pod. ``local`` 0: any that is free."""

    local: int
    remote: int


def parse_forward(text: str) -> Forward:
    """``8080:80``, ``80`` (the same here) or ``:80`` (any here). Raises CtlError."""
    local, colon, remote = text.rpartition(":")
    if not remote.isdecimal() or (local and not local.isdecimal()):
        raise CtlError(f"port {text!r}: not understood", hint="write LOCAL:REMOTE, REMOTE or :REMOTE")
    found = Forward(int(local) if local else 0 if colon else int(remote), int(remote))
    if not 0 < found.remote < 65536 or found.local > 65535:
        raise CtlError(f"port {text!r}: a port is at most 65535")
    return found


@command("port-forward", examples="hyperctl port-forward web 8080:80\nhyperctl port-forward web :5432")
@click.option("--address", default="127.0.0.1", metavar="ADDRESS", help="Where to listen here. Default: 127.0.0.1.")
@click.argument("pod", type=POD)
@click.argument("wanted", metavar="[LOCAL:]REMOTE...", nargs=-1, required=True)
@pass_app
def port_forward(app: App, pod: str, wanted: tuple[str, ...], address: str) -> None:
    """Let programs here reach TCP ports of a pod, published or not, until ctrl-c."""
    forwards = [parse_forward(text) for text in wanted]
    app.client.get(path("pods", pod))
    with selectors.DefaultSelector() as selector:
        try:
            for forward in forwards:
                listener = _listen(address, forward)
                selector.register(listener, selectors.EVENT_READ, forward.remote)
                note(f"forwarding {address}:{listener.getsockname()[1]} to port {forward.remote} of {pod}")
            while True:
                for key, _ in selector.select():
                    accepted, _ = key.fileobj.accept()  # type: ignore[union-attr]
                    threading.Thread(target=_serve, args=(app.client, pod, key.data, accepted), daemon=True).start()
        finally:
            for key in list(selector.get_map().values()):
                key.fileobj.close()  # type: ignore[union-attr]


def _listen(address: str, forward: Forward) -> socket.socket:
    try:
        return socket.create_server((address, forward.local), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
    except OSError as error:
        raise CtlError(f"cannot listen on {address}:{forward.local}: {error.strerror}") from None


def _serve(client: Client, pod: str, port: int, accepted: socket.socket) -> None:
    """One connection, both ways, until both sides have ended."""
    with accepted:
        try:
            with client.websocket(path("pods", pod, "port-forward"), {"port": port}) as stream:
                threading.Thread(target=_upwards, args=(accepted, stream), daemon=True).start()
                _downwards(accepted, stream)
        except CtlError as error:
            note(f"hyperctl: port {port} of {pod}: {error.message}")


def _upwards(accepted: socket.socket, stream: "ClientConnection") -> None:
    from websockets.exceptions import ConnectionClosed

    try:
        while data := accepted.recv(_CHUNK):
            stream.send(data)
        stream.send(b"")  # the end of this side; the other one may still have something to say
    except (OSError, ConnectionClosed):
        stream.close()


def _downwards(accepted: socket.socket, stream: "ClientConnection") -> None:
    from websockets.exceptions import ConnectionClosed

    try:
        for message in stream:
            accepted.sendall(message.encode() if isinstance(message, str) else message)
    except (OSError, ConnectionClosed):
        pass  # one of the two is gone, and so is the connection
