"""What a container has of systemd's notification socket: the variable, and a socket of its own. Who hears it and passes it on:
``runv.sandbox.residents.notify``. Light: it is part of what is settled before there is a machine."""

import os

from runv.quick import Any
from runv.sockets import Socket
from runv.state import Container
from runv.storage.plan import Carried, StoragePlan

VARIABLE = "NOTIFY_SOCKET"
# Of the container's folder: where it is, and the socket in it.
FOLDER, SOCKET = "notify", "notify.sock"

_INSIDE = "/run/notify/notify.sock"


def wanted() -> bool:
    """Whether somebody waits for the container to say that it is ready."""
    return bool(os.environ.get(VARIABLE))


def with_socket(plan: StoragePlan, container: Container) -> StoragePlan:
    """The plan with the container's notification socket among what is carried."""
    ours = Socket(os.path.join(os.path.realpath(container.folder), FOLDER, SOCKET), "dgram", 0o777, 0, 0)
    mount = {"destination": _INSIDE, "type": "bind", "options": ["bind", "nosuid", "noexec", "nodev"]}
    return plan._replace(mounts=[*plan.mounts, mount], carried=(*plan.carried, Carried(len(plan.mounts), ours)))


def with_variable(process: dict[str, Any]) -> dict[str, Any]:
    """The container's process, told where its socket is. Pure."""
    others = [entry for entry in process.get("env") or [] if not entry.startswith(f"{VARIABLE}=")]
    return {**process, "env": [*others, f"{VARIABLE}={_INSIDE}"]}


def prepare(container: Container) -> None:
    """Makes the folder of the socket: where it is, ``start`` waits."""
    os.mkdir(container.path(FOLDER), 0o700)
