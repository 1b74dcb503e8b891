"""``network ...``."""

from typing import Any

import click

from hyperctl.app import NETWORK, POD, App, format_option, group, pass_app, quiet_option
from hyperctl.client import path
from hyperctl.names import each
from hyperctl.output import Column, out, records, value

_names = click.argument("names", metavar="NETWORK...", nargs=-1, required=True, type=NETWORK)


@group("network", examples="hyperctl network create --subnet 10.7.0.0/24 back\nhyperctl run -d --network back --name db postgres\nhyperctl network connect back web")
def network() -> None:
    """Networks: pods of one find each other by name; pods of different ones do not reach each other."""


@network.sub("create", examples="hyperctl network create --subnet 10.7.0.0/24 --subnet fd07::/64 back\nhyperctl network create --internal --mtu 1400 vault")
@click.option("--subnet", multiple=True, metavar="CIDR", help="Its addresses: one of IPv4, one of IPv6, or both. Default: a free one.")
@click.option("--gateway", multiple=True, metavar="ADDRESS", help="That of the host in it. Default: the first.")
@click.option("--mtu", type=click.IntRange(576, 65535), metavar="N", help="Size of packets.")
@click.option("--internal", is_flag=True, help="No way out.")
@click.option("-l", "--label", multiple=True, metavar="NAME=VALUE", help="A label.")
@click.argument("name")
@pass_app
def create(app: App, name: str, subnet: tuple[str, ...], gateway: tuple[str, ...], mtu: int | None, internal: bool, label: tuple[str, ...]) -> None:
    """Make a network."""
    body: dict[str, Any] = {"name": name}
    labels = dict(text.partition("=")[::2] for text in label)
    for field, found in (("subnets", list(subnet)), ("gateways", list(gateway)), ("mtu", mtu), ("internal", internal), ("labels", labels)):
        if found:
            body[field] = found
    made = app.client.post("/networks", body)
    out(str((made or {}).get("name", name)))


@network.sub("ls")
@quiet_option
@format_option
@pass_app
def ls(app: App, quiet: bool, kind: str | None) -> None:
    """List networks."""
    rows = app.client.get("/networks")
    if quiet:
        for row in rows:
            out(str(row["name"]))
        return
    columns = (
        Column("NAME", lambda row: str(row["name"])),
        Column("SUBNETS", lambda row: ", ".join(row.get("subnets") or []), keep=True),
        Column("BRIDGE", lambda row: str(row.get("bridge") or "-")),
        Column("INTERNAL", lambda row: "yes" if row.get("internal") else "no"),
        Column("PODS", lambda row: ", ".join(map(str, row.get("pods") or []))),
    )
    records(rows, columns, kind)


@network.sub("inspect")
@format_option
@_names
@pass_app
def inspect(app: App, names: tuple[str, ...], kind: str | None) -> None:
    """Everything about networks."""
    value([app.client.get(path("networks", name)) for name in names], kind if kind and kind != "table" else "json")


@network.sub("rm")
@_names
@pass_app
def rm(app: App, names: tuple[str, ...]) -> None:
    """Remove networks that no pod is in."""

    def one(name: str) -> None:
        app.client.delete(path("networks", name))
        out(name)

    each(names, one)


@network.sub("connect", examples="hyperctl network connect --ip 10.7.0.9 back web")
@click.option("--ip", multiple=True, metavar="ADDRESS", help="The pod's address in it.")
@click.option("--mac", metavar="MAC", help="Its hardware address.")
@click.option("--alias", multiple=True, metavar="NAME", help="One more name of the pod there.")
@click.argument("name", type=NETWORK)
@click.argument("pod", type=POD)
@pass_app
def connect(app: App, name: str, pod: str, ip: tuple[str, ...], mac: str | None, alias: tuple[str, ...]) -> None:
    """Put a pod into one more network."""
    body: dict[str, Any] = {"pod": pod}
    for field, found in (("addresses", list(ip)), ("mac", mac), ("aliases", list(alias))):
        if found:
            body[field] = found
    app.client.post(path("networks", name, "connect"), body)


@network.sub("disconnect")
@click.argument("name", type=NETWORK)
@click.argument("pod", type=POD)
@pass_app
def disconnect(app: App, name: str, pod: str) -> None:
    """Take a pod out of a network."""
    app.client.post(path("networks", name, "disconnect"), {"pod": pod})


@network.sub("prune")
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@pass_app
def prune(app: App, force: bool) -> None:
    """Remove all networks that no pod is in."""
    if not force:
        click.confirm("Remove all networks that no pod is in?", abort=True, err=True)
    for name in (app.client.post("/networks/prune") or {}).get("networks") or []:
        out(str(name))
