"""``cp``."""

import os
import sys
from typing import NamedTuple

import click

from hyperctl import terminal
from hyperctl.app import App, Name, command, pass_app
from hyperctl.archive import Entry, Packed, first_entry, pack, unpack
from hyperctl.client import Client
from hyperctl.errors import ApiError, CtlError
from hyperctl.names import container

_CHUNK = 1 << 16


class Side(NamedTuple):
    """``name`` empty: here. ``path`` - is a tar stream."""

    name: str
    path: str


def parse_side(text: str) -> Side:
    """``NAME:PATH`` is in a container, unless a path comes before the colon. Raises CtlError."""
    name, colon, path = text.partition(":")
    if not colon or text.startswith(("/", "./", "../")):
        return Side("", text)
    if not name or not path:
        raise CtlError(f"{text}: write NAME:PATH for a path in a container, ./{text} for a file with such a name")
    return Side(name, path if path.startswith("/") else f"/{path}")


@command(
    "cp",
    examples="""
    hyperctl cp web:/etc/nginx/nginx.conf .
    hyperctl cp site/. web/nginx:/usr/share/nginx/html
    hyperctl cp web:/var/log - | tar t           - is a tar stream
    """,
)
@click.option("-L", "--follow-link", is_flag=True, help="What the source's link points at, and not the link.")
@click.option("-a", "--archive", is_flag=True, help="Keep owners, where you may.")
@click.option("-q", "--quiet", is_flag=True, help="Accepted: it says nothing anyway.")
@click.argument("source", metavar="SOURCE", type=Name("containers"))
@click.argument("target", metavar="TARGET", type=Name("containers"))
@pass_app
def cp(app: App, source: str, target: str, follow_link: bool, archive: bool, quiet: bool) -> None:
    """Copy files and folders between a container and here, as `docker cp` does.

    A folder is copied into a target that exists, and becomes one that does not; a source that ends in /. is what is in it. - is a tar stream. What comes from a
    container is put nowhere but below the target, whatever its links say.
    """
    origin, goal = parse_side(source), parse_side(target)
    if bool(origin.name) == bool(goal.name):
        raise click.UsageError("one of the two is in a container, NAME:PATH, and the other one here", click.get_current_context())
    if origin.name:
        _from_container(app.client, origin, goal.path, follow_link=follow_link, owners=archive)
    else:
        _to_container(app.client, origin.path, goal, follow_link=follow_link, owners=archive)


def _from_container(client: Client, origin: Side, target: str, *, follow_link: bool, owners: bool) -> None:
    where = f"{container(client, origin.name).where}/archive"
    if target == "-" and terminal.is_terminal(1):
        raise CtlError("will not write a tar stream to a terminal", hint="redirect stdout, or name a folder")
    path = _resolved(client, where, origin.path) if follow_link else origin.path
    with client.download(where, {"path": path.removesuffix("/.") or "/"}) as body:
        if target == "-":
            while data := body.read(_CHUNK):
                terminal.write(1, data)
            return
        unpack(body, target, contents_only=path.endswith("/.") or path == "/.", owners=owners)


def _to_container(client: Client, source: str, goal: Side, *, follow_link: bool, owners: bool) -> None:
    where = f"{container(client, goal.name).where}/archive"
    if source == "-":
        if terminal.is_terminal(0):
            raise CtlError("will not read a tar stream from a terminal", hint="redirect stdin, or name a file")
        with client.upload("PUT", where, kind="application/x-tar", query={"path": goal.path}) as upload:
            for _ in upload.copy(sys.stdin.buffer):
                pass
            upload.finish()
        return
    if not os.path.lexists(source):
        raise CtlError(f"cannot copy {source}: No such file or directory")
    folder, name = _placed(source, goal.path, _look(client, where, goal.path))
    with client.upload("PUT", where, kind="application/x-tar", query={"path": folder}) as upload:
        pack(Packed(source, name, follow_link=follow_link, owners=owners), upload)
        upload.finish()


def _look(client: Client, where: str, path: str) -> Entry | None:
    """What is at a path of the container; None where there is nothing. A link is followed."""
    try:
        path = _resolved(client, where, path.rstrip("/") or "/")
        with client.download(where, {"path": path}) as body:
            return first_entry(body)
    except ApiError as error:
        if error.status != 404:
            raise
        return None


def _resolved(client: Client, where: str, path: str) -> str:
    """The path that a link in the container leads to."""
    for _ in range(40):
        with client.download(where, {"path": path.removesuffix("/.") or "/"}) as body:
            entry = first_entry(body)
        if entry is None or not entry.link:
            return path
        path = os.path.normpath(os.path.join(os.path.dirname(path), entry.link))
    raise CtlError(f"cannot copy {path}: Too many levels of symbolic links")


def _placed(source: str, path: str, there: Entry | None) -> tuple[str, str]:
    """The folder to unpack in, and the name there (empty: the contents go into the folder itself). Raises CtlError."""
    is_folder = os.path.isdir(source)
    contents = is_folder and (source in (".", "/") or source.endswith("/."))
    own = os.path.basename(os.path.abspath(source))
    if there is not None and there.folder:
        return (path, "") if contents else (path, own)
    if there is not None and is_folder:
        raise CtlError(f"cannot copy the folder {source} to {path}: Not a directory")
    if path.endswith("/") and not is_folder:
        raise CtlError(f"cannot copy {source} to {path}: No such directory")
    plain = path.rstrip("/")
    return os.path.dirname(plain) or "/", os.path.basename(plain)
