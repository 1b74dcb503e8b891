"""``volume ...``."""

from typing import Any

import click

from hyperctl.app import POD, VOLUME, App, format_option, group, now, pass_app, quiet_option
from hyperctl.client import path
from hyperctl.humans import age, show_size, size
from hyperctl.names import each
from hyperctl.output import Column, out, records, value

_names = click.argument("names", metavar="VOLUME...", nargs=-1, required=True, type=VOLUME)


@group("volume", examples="hyperctl volume create --size 20g data\nhyperctl run -d -v data:/var/lib/db postgres\nhyperctl volume resize data 40g")
def volume() -> None:
    """Named volumes: each a file system on a sparse disk of its own, which outlives the pods that use it."""


@volume.sub("create", examples="hyperctl volume create --size 20g --fstype xfs data")
@click.option("-s", "--size", "capacity", default="10g", metavar="SIZE", help="How much it can hold. Default: 10g. What is empty takes no room.")
@click.option("--fstype", type=click.Choice(["ext4", "xfs"]), default="ext4", help="Its file system. Default: ext4.")
@click.option("-l", "--label", multiple=True, metavar="NAME=VALUE", help="A label.")
@click.argument("name")
@pass_app
def create(app: App, name: str, capacity: str, fstype: str, label: tuple[str, ...]) -> None:
    """Make a volume."""
    labels = dict(text.partition("=")[::2] for text in label)
    made = app.client.post("/volumes", {"name": name, "size": size(capacity), "fstype": fstype, "labels": labels})
    out(str(made.get("name", name)))


@volume.sub("ls")
@quiet_option
@format_option
@pass_app
def ls(app: App, quiet: bool, kind: str | None) -> None:
    """List volumes."""
    rows = app.client.get("/volumes")
    if quiet:
        for row in rows:
            out(str(row["name"]))
        return
    moment = now()
    columns = (
        Column("NAME", lambda row: str(row["name"])),
        Column("SIZE", lambda row: show_size(row.get("size") or 0), keep=True, right=True),
        Column("USED", lambda row: show_size(row["used"]) if isinstance(row.get("used"), int) else "-", keep=True, right=True),
        Column("TYPE", lambda row: str(row.get("fstype", "")), keep=True),
        Column("PODS", lambda row: ", ".join(map(str, row.get("pods") or []))),
        Column("AGE", lambda row: age(row.get("created") or "", moment), keep=True),
    )
    records(rows, columns, kind)


@volume.sub("inspect")
@format_option
@_names
@pass_app
def inspect(app: App, names: tuple[str, ...], kind: str | None) -> None:
    """Everything about volumes."""
    value([app.client.get(path("volumes", name)) for name in names], kind if kind and kind != "table" else "json")


@volume.sub("rm")
@click.option("-f", "--force", is_flag=True, help="Also one that a pod which has ended refers to.")
@_names
@pass_app
def rm(app: App, names: tuple[str, ...], force: bool) -> None:
    """Remove volumes and what is in them."""

    def one(name: str) -> None:
        app.client.delete(path("volumes", name), force=force)
        out(name)

    each(names, one)


@volume.sub("resize", examples="hyperctl volume resize data 40g")
@click.argument("name", type=VOLUME)
@click.argument("capacity", metavar="SIZE")
@pass_app
def resize(app: App, name: str, capacity: str) -> None:
    """Make a volume larger, also while it is used."""
    app.client.request("PATCH", path("volumes", name), body={"size": size(capacity)})
    out(name)


@volume.sub("snapshot", examples="hyperctl volume snapshot data data-before-upgrade")
@click.argument("name", type=VOLUME)
@click.argument("new")
@pass_app
def snapshot(app: App, name: str, new: str) -> None:
    """Make a new volume that has what this one has now."""
    made = app.client.post(path("volumes", name, "snapshot"), {"name": new})
    out(str((made or {}).get("name", new)))


@volume.sub("attach", examples="hyperctl volume attach web data /srv/data")
@click.option("-c", "--container", metavar="NAME", help="Of the pod. Default: all of it.")
@click.option("--read-only", is_flag=True, help="It cannot be written to there.")
@click.argument("pod", type=POD)
@click.argument("name", metavar="VOLUME", type=VOLUME)
@click.argument("where", metavar="PATH")
@pass_app
def attach(app: App, pod: str, name: str, where: str, container: str | None, read_only: bool) -> None:
    """Give a pod that runs a volume at a path."""
    body: dict[str, Any] = {"path": where, "read_only": read_only} | ({"container": container} if container else {})
    app.client.post(path("pods", pod, "volumes", name), body)
    out(name)


@volume.sub("detach")
@click.argument("pod", type=POD)
@click.argument("name", metavar="VOLUME", type=VOLUME)
@pass_app
def detach(app: App, pod: str, name: str) -> None:
    """Take a volume from a pod that runs."""
    app.client.delete(path("pods", pod, "volumes", name))
    out(name)


@volume.sub("prune")
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@pass_app
def prune(app: App, force: bool) -> None:
    """Remove all volumes that no pod refers to."""
    if not force:
        click.confirm("Remove all volumes that no pod refers to, and what is in them?", abort=True, err=True)
    done = app.client.post("/volumes/prune") or {}
    for name in done.get("volumes") or []:
        out(str(name))
    out(f"{show_size(done.get('freed') or 0)} freed")
