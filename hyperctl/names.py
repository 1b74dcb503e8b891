"""What a name that a user typed stands for."""

from collections.abc import Callable
from typing import Any, NamedTuple

from hyperctl.client import Client, path
from hyperctl.errors import ApiError, CtlError
from hyperctl.output import note


class Found(NamedTuple):
    """``where``: the path of the resource; ``record`` what the API says of it."""

    kind: str
    where: str
    record: dict[str, Any]


def find(client: Client, name: str, kinds: tuple[str, ...]) -> Found:
    """The first of the kinds (``pods``, ``containers``, ``images``, ...) that knows the name. Raises CtlError."""
    if "/" in name and kinds[:2] == ("pods", "containers"):
        kinds = kinds[1:]  # only containers are called so, or images
    for kind in kinds:
        try:
            return Found(kind, path(kind, name), client.get(path(kind, name)))
        except ApiError as error:
            # A name that one kind cannot have is no reason not to ask the next.
            if error.status not in (400, 404) or (error.status == 400 and len(kinds) == 1):
                raise
            missing = error
    if len(kinds) == 1:
        raise _with_hint(missing, kinds[0])
    singular = [kind.removesuffix("s") for kind in kinds]
    raise CtlError(f"{name}: no such {', '.join(singular[:-1])} or {singular[-1]}", hint=_HINTS.get(kinds[0], ""))


def container(client: Client, name: str) -> Found:
    """A container by its own name, ``POD/CONTAINER`` or id; of a pod's name the first. Raises CtlError."""
    if "/" in name:
        return find(client, name, ("containers",))
    found = find(client, name, ("pods", "containers"))
    if found.kind == "containers":
        return found
    members = found.record.get("containers") or []
    if not members:
        raise CtlError(f"pod {name}: it has no containers", hint=f"`hyperctl create -c {name} IMAGE` adds one; `hyperctl exec --vm` needs none")
    first = members[0]
    full = f"{found.record.get('name', name)}/{first['name']}"
    others = ", ".join(member["name"] for member in members[1:] if member.get("kind", "main") == "main")
    if others:
        note(f"hyperctl: pod {name}: taking its first container, {first['name']} (POD/CONTAINER names another one: {others})")
    return Found("containers", path("containers", str(first.get("id") or full)), first | {"pod": found.record.get("name", name)})


def each(names: tuple[str, ...], act: Callable[[str], None]) -> None:
    """Does it for all, though some fail; the last failure is raised, the others are said as they come."""
    failure: CtlError | None = None
    for name in names:
        try:
            act(name)
        except CtlError as error:
            if failure is not None:
                note(f"hyperctl: {failure.message}")
            failure = error
    if failure is not None:
        raise failure


_HINTS = {
    "pods": "`hyperctl list` shows what there is",
    "containers": "`hyperctl list container` shows what there is",
    "images": "`hyperctl pull` gets it, `hyperctl images` shows what there is",
    "volumes": "`hyperctl volume ls` shows what there is",
    "networks": "`hyperctl network ls` shows what there is",
}


def _with_hint(error: ApiError, kind: str) -> ApiError:
    if not error.hint and error.status == 404:
        error.hint = _HINTS.get(kind, "")
    return error
