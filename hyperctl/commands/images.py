"""Images: lists, registries, archives."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import click

from hyperctl import auth, pulling, terminal
from hyperctl.app import (
    IMAGE,
    POD_OR_CONTAINER,
    App,
    command,
    format_option,
    no_trunc_option,
    now,
    pass_app,
    quiet_option,
)
from hyperctl.client import path
from hyperctl.errors import ApiError, CtlError
from hyperctl.humans import age, show_size
from hyperctl.names import container, each, find
from hyperctl.output import Column, note, out, records, short
from hyperctl.progress import follow, sending

_CHUNK = 1 << 20


@command("images", examples="hyperctl images\nhyperctl images -q --format '{{.ID}} {{json .Names}}'")
@click.option("-a", "--all", "everything", is_flag=True, help="Also those that have no name.")
@quiet_option
@no_trunc_option
@format_option
@click.argument("name", required=False, type=IMAGE)
@pass_app
def images(app: App, name: str | None, everything: bool, quiet: bool, no_trunc: bool, kind: str | None) -> None:
    """List the images that are here."""
    rows = [row for row in app.client.get("/images") if everything or row.get("names")]
    if name:
        rows = [row for row in rows if any(_is_named(given, name) for given in row.get("names") or [])]
    if quiet:
        for row in rows:
            out(str(row["id"]) if no_trunc else short(str(row["id"])))
    elif kind and kind != "table" and not kind.startswith("table"):
        records(rows, (), kind)
    else:
        records([row | {"name": given} for row in rows for given in row.get("names") or ["<none>"]], _columns(no_trunc), kind, no_trunc=no_trunc)


def _is_named(given: str, wanted: str) -> bool:
    """``busybox`` is ``docker.io/library/busybox:latest``, and every other tag of it."""
    return given == wanted or given.endswith(f"/{wanted}") or given.rpartition(":")[0] == wanted or given.rpartition(":")[0].endswith(f"/{wanted}")


def _columns(no_trunc: bool) -> tuple[Column, ...]:
    moment = now()
    return (
        Column("NAME", lambda row: str(row["name"])),
        Column("IMAGE ID", lambda row: str(row["id"]) if no_trunc else short(str(row["id"])), keep=True),
        Column("CREATED", lambda row: age(row.get("created") or "", moment), keep=True),
        Column("SIZE", lambda row: show_size(row.get("size") or 0), keep=True, right=True),
    )


@command("pull", examples="hyperctl pull busybox\nhyperctl pull --platform linux/arm64 registry.example.org/app:1.2")
@click.option("--platform", default="", metavar="OS/ARCHITECTURE", help="Of an image that is there for several.")
@click.option("-q", "--quiet", is_flag=True, help="Only the id.")
@click.argument("references", metavar="IMAGE...", nargs=-1, required=True)
@pass_app
def pull(app: App, references: tuple[str, ...], platform: str, quiet: bool) -> None:
    """Get images from their registries."""

    def one(reference: str) -> None:
        image = pulling.pull(app.client, reference, platform=platform, quiet=quiet)
        out(short(str(image.get("id", ""))) if quiet else f"{reference}: {', '.join(image.get('digests') or [str(image.get('id', ''))])}")

    each(references, one)


@command("push", examples="hyperctl push registry.example.org/app:1.2\nhyperctl push app registry.example.org/app:1.2")
@click.option("-q", "--quiet", is_flag=True, help="Only the digest.")
@click.argument("name", type=IMAGE)
@click.argument("target", required=False)
@pass_app
def push(app: App, name: str, target: str | None, quiet: bool) -> None:
    """Send an image to its registry, or to that of TARGET."""
    body: dict[str, Any] = {"reference": name}
    known = pulling.credentials(target or name)
    for field, found in (("target", target), ("credentials", known)):
        if found:
            body[field] = found
    try:
        with app.client.lines("POST", "/images/push", body=body) as lines:
            digest = str(follow(lines, quiet=quiet).get("digest", ""))
    except ApiError as error:
        if error.kind == "denied" and not error.hint:
            error.hint = f"`hyperctl login {auth.registry_of(target or name)}`"
        raise
    out(digest if quiet else f"{target or name}: {digest}")


@command("rmi", examples="hyperctl rmi busybox\nhyperctl rmi -f $(hyperctl images -q)")
@click.option("-f", "--force", is_flag=True, help="Also an id that has several names.")
@click.option("--no-prune", is_flag=True, help="Accepted: layers go when nothing refers to them.")
@click.argument("names", metavar="IMAGE...", nargs=-1, required=True, type=IMAGE)
@pass_app
def rmi(app: App, names: tuple[str, ...], force: bool, no_prune: bool) -> None:
    """Remove names of images, and what no name is left for."""

    def one(name: str) -> None:
        done = app.client.delete(path("images", name), force=force) or {}
        for gone in done.get("untagged") or []:
            out(f"untagged {gone}")
        for gone in done.get("deleted") or []:
            out(f"deleted {gone}")

    each(names, one)


@command("tag")
@click.argument("source", type=IMAGE)
@click.argument("target")
@pass_app
def tag(app: App, source: str, target: str) -> None:
    """Give an image one more name."""
    app.client.post("/images/tag", {"source": source, "target": target})


@command("history")
@no_trunc_option
@format_option
@click.argument("name", type=IMAGE)
@pass_app
def history(app: App, name: str, no_trunc: bool, kind: str | None) -> None:
    """How an image was made, the last step first."""
    moment = now()
    columns = (
        Column("CREATED", lambda row: age(row.get("created") or "", moment), keep=True),
        Column("BY", lambda row: " ".join(str(row.get("created_by") or "").split())[: None if no_trunc else 60]),
        Column("LAYER", lambda row: "no" if row.get("empty") else "yes", keep=True),
        Column("COMMENT", lambda row: str(row.get("comment") or "")),
    )
    records(app.client.get(path("images", name, "history")), columns, kind, no_trunc=no_trunc)


@command("commit", examples="hyperctl commit -m 'with curl' web example/web:2\nhyperctl commit -c 'CMD [\"nginx\"]' -c 'ENV A=1' web example/web:2")
@click.option("-a", "--author", default="", help="Who made it.")
@click.option("-m", "--message", default="", help="What was changed.")
@click.option("-c", "--change", multiple=True, metavar="INSTRUCTION", help="An instruction of a Dockerfile: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR.")
@click.option("-p", "--pause/--no-pause", default=True, help="Whether the container stands still meanwhile. Default: it does.")
@click.argument("name", type=POD_OR_CONTAINER)
@click.argument("reference")
@pass_app
def commit(app: App, name: str, reference: str, author: str, message: str, change: tuple[str, ...], pause: bool) -> None:
    """Make an image of what a container has changed, whether it runs or has ended."""
    body = {"reference": reference, "author": author, "message": message, "changes": list(change), "pause": pause}
    done = app.client.post(f"{container(app.client, name).where}/commit", body)
    image = done.get("image", done)
    out(str(image.get("id", "")))


@command("load", examples="hyperctl load busybox.tar\ndocker save app | hyperctl load\nhyperctl load -i layout.tar --name app:1\nhyperctl load -i all.tar -r app:1 -r app:2")
@click.option("-i", "--input", "source", metavar="FILE", help="The archive. Default: stdin.")
@click.option("-n", "--name", help="A name for an image that brings none.")
@click.option("-r", "--references", multiple=True, metavar="NAME", help="Of several images, only the one of this name.")
@click.option("-q", "--quiet", is_flag=True, help="Only the names.")
@click.argument("file", required=False)
@pass_app
def load(app: App, source: str | None, file: str | None, name: str | None, references: tuple[str, ...], quiet: bool) -> None:
    """Get images from an archive: of Docker, of the OCI, packed or not."""
    query = {"name": name, "references": list(references)}
    if source and file:
        raise click.UsageError("name one archive, by -i or after the options", click.get_current_context())
    source = source or file
    with _reading(source) as (archive, total), app.client.upload("POST", "/images/load", kind="application/x-tar", query=query) as upload:
        with sending(total, f"sending {source or 'stdin'}", quiet=quiet) as show:
            for count in upload.copy(archive):
                show.advance(count)
        result = follow(upload.lines(), quiet=quiet)
    for image in result.get("images") or []:
        for text in _loaded(image.get("names") or [], references) or [str(image.get("id", ""))]:
            out(text if quiet else f"loaded {text}")


def _loaded(names: list[str], wanted: tuple[str, ...]) -> list[str]:
    """Of all names that an image has those that were asked for; all where none was."""
    return [name for name in names if not wanted or name in wanted or name.removesuffix(":latest") in wanted]


@contextmanager
def _reading(source: str | None) -> Iterator[tuple[BinaryIO, int]]:
    """The file and its size; 0 where that is not known."""
    if source in (None, "-"):
        if terminal.is_terminal(0):
            raise CtlError("will not read an archive from a terminal", hint="name it with -i, or send it to stdin")
        yield sys.stdin.buffer, 0
        return
    try:
        file = open(str(source), "rb")
        if os.path.isdir(str(source)):
            raise IsADirectoryError(21, "Is a directory")
    except OSError as error:
        hint = "an OCI layout is sent as tar: tar -C DIR -c . | hyperctl load" if isinstance(error, IsADirectoryError) else ""
        raise CtlError(f"cannot read {source}: {error.strerror}", hint=hint) from None
    with file:
        yield file, os.fstat(file.fileno()).st_size


@command("save", examples="hyperctl save -o app.tar app:1 app:2\nhyperctl save app:1 | ssh host docker load")
@click.option("-o", "--output", metavar="FILE", help="Where to. Default: stdout.")
@click.option("-f", "--format", "form", type=click.Choice(["docker", "oci"]), default="docker", help="Of the archive. Default: docker.")
@click.argument("names", metavar="IMAGE...", nargs=-1, required=True, type=IMAGE)
@pass_app
def save(app: App, names: tuple[str, ...], output: str | None, form: str) -> None:
    """Put images into an archive."""
    if output in (None, "-") and terminal.is_terminal(1):
        raise CtlError("will not write an archive to a terminal", hint="name a file with -o, or redirect stdout")
    for name in names:
        find(app.client, name, ("images",))
    with app.client.download("/images/save", {"names": list(names), "format": form}) as body:
        if output in (None, "-"):
            while data := body.read(_CHUNK):
                terminal.write(1, data)
            return
        _save_to(str(output), body)


def _save_to(output: str, body: Any) -> None:
    """The file is there complete or not at all."""
    part = f"{output}.part"
    try:
        with open(part, "wb") as file:
            while data := body.read(_CHUNK):
                file.write(data)
        os.rename(part, output)
    except OSError as error:
        raise CtlError(f"cannot write {output}: {error.strerror}") from None
    finally:
        try:
            os.unlink(part)
        except OSError:
            pass  # it was renamed, or never made
    note(f"saved {show_size(os.path.getsize(output))} to {output}")
