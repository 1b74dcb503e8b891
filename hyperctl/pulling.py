"""Getting an image from its registry, with the user's password for it and a display of how far it is."""

import os
from typing import Any

from hyperctl import auth
from hyperctl.client import Client, path
from hyperctl.errors import ApiError
from hyperctl.progress import follow


def credentials(reference: str) -> dict[str, str] | None:
    """Those of the image's registry. Raises CtlError."""
    return auth.find(auth.registry_of(reference), auth.config_path(dict(os.environ)))


def pull(client: Client, reference: str, *, policy: str = "always", platform: str = "", quiet: bool = False) -> dict[str, Any]:
    """The image. Raises CtlError."""
    body: dict[str, Any] = {"reference": reference, "policy": policy}
    if platform:
        body["platform"] = platform
    known = credentials(reference)
    if known:
        body["credentials"] = known
    try:
        with client.lines("POST", "/images/pull", body=body) as lines:
            result = follow(lines, quiet=quiet)
    except ApiError as error:
        if error.kind == "denied" and not error.hint:
            error.hint = f"`hyperctl login {auth.registry_of(reference)}` if it wants a password"
        raise
    image = result.get("image")
    return image if isinstance(image, dict) else {}


def ensure(client: Client, reference: str, policy: str) -> None:
    """Pulls what a container is to be made of, as its pull policy says. Raises CtlError."""
    if policy == "never":
        return
    if policy == "missing" and _is_there(client, reference):
        return
    pull(client, reference, policy=policy)


def _is_there(client: Client, reference: str) -> bool:
    try:
        client.get(path("images", reference))
    except ApiError as error:
        if error.status != 404:
            raise
        return False
    return True
