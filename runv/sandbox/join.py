"""Which sandbox a container belongs to: one of its own, or an existing container's. And what its namespaces are called in the guest."""

import os

from runv.errors import ConfigError, NotFoundError
from runv.quick import Any
from runv.sandbox.layout import SandboxFolder
from runv.spec.annotations import sandbox_of
from runv.state import Container, containers

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from runv.spec.config import Config


def find_host(root: str, config: "Config") -> Container | None:
    """The container whose sandbox ``config`` joins; None when it brings its own.

    :raise NotFoundError: its annotations name a container that does not exist
    :raise ConfigError: it joins namespaces of a container by their paths, but not its network
    """
    named = sandbox_of(config.annotations or {})
    if named:
        host = Container(root, named)
        if "/" in named or not host.exists():
            raise NotFoundError(f"cannot join sandbox {named}: container does not exist")
        return host
    paths = [namespace.path for namespace in config.linux.namespaces or [] if namespace.path]
    if not paths:
        return None
    living = _living(root)
    joined = next((found for path in paths if (found := _owner(path, living)) is not None), None)
    if joined is not None and not network_path(config):
        raise ConfigError(
            f"cannot join the namespaces of container {joined.id} with a network of one's own: a virtual machine has one",
            hint="join its network as well (docker: add --network container:NAME)",
        )
    return joined


def _living(root: str) -> dict[int, Container]:
    """Containers whose machine runs, by the pid of their stand-in."""
    found = {}
    for container in containers(root):
        standin = container.standin()
        if standin is not None and standin.alive():
            found[standin.pid] = container
    return found


def _owner(path: str, living: dict[int, Container]) -> Container | None:
    if (pid := _pid_in(path)) in living:
        return living[pid]
    # Not by a stand-in's pid: then it can only be the network namespace that a sandbox sits in, under a name of its own.
    wanted = _inode(path)
    own = {_inode("/proc/self/ns/net"), None}
    if wanted in own:
        return None
    return next((c for pid, c in living.items() if _inode(f"/proc/{pid}/ns/net") == wanted), None)


def _pid_in(path: str) -> int:
    """That of /proc/PID/ns/KIND; 0 for other paths."""
    root, proc, pid, ns, kind = path.split("/") if path.count("/") == 4 else [""] * 5
    return int(pid) if (root, proc, ns) == ("", "proc", "ns") and kind and pid.isascii() and pid.isdigit() else 0


def _inode(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def network_path(config: "Config") -> str:
    """The path of the network namespace; empty for a new one."""
    return next((ns.path for ns in config.linux.namespaces or [] if ns.type == "network"), "")


def checked_network(config: "Config") -> str:
    """The same, where a machine can use it.

    :raise ConfigError: it is no namespace, or the host's own
    """
    path = network_path(config)
    if path:
        wanted = _inode(path)
        if wanted is None:
            raise ConfigError(f"cannot use network namespace {path}: no such file or directory")
        if wanted == _inode("/proc/self/ns/net"):
            raise ConfigError(f"cannot use network namespace {path}: a virtual machine cannot use the host's own network")
    return path


def has_own_pids(config: "Config") -> bool:
    """Whether the container's first process is the first of a pid namespace, with whose end the kernel ends all others in it."""
    return any(namespace.type == "pid" and not namespace.path for namespace in config.linux.namespaces or [])


def guest_namespaces(root: str, config: "Config", host: Container | None, sandbox: SandboxFolder) -> list[dict[str, Any]]:
    """The namespaces as the agent wants them: shared ones by the name of the container they are shared with.

    :raise ConfigError: a path is nobody's in this sandbox
    """
    members = set(sandbox.members())
    living = _living(root)
    result: list[dict[str, Any]] = []
    for namespace in config.linux.namespaces or []:
        if namespace.type == "network":
            continue
        if not namespace.path:
            result.append({"type": namespace.type})
            continue
        pid = _pid_in(namespace.path)
        owner = living.get(pid) if pid else host
        if owner is None or owner.id not in members:
            raise ConfigError(f"cannot join {namespace.type} namespace {namespace.path}: it is of no container of this sandbox")
        result.append({"type": namespace.type, "container": owner.id})
    return result
