"""``process`` of config.json: what runs, as whom, with which powers."""

import posixpath
from collections.abc import Iterable
from typing import Any

from hyperd.bundle.capabilities import capabilities_of
from hyperd.bundle.records import ImageView, Place
from hyperd.bundle.texts import hostname_of
from hyperd.bundle.users import User, find_user
from hyperd.errors import InvalidError
from hyperd.expansion import expand
from hyperd.spec import Container, Late, Pod, Security, Ulimit

Json = dict[str, Any]

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NO_LIMIT = 2**64 - 1


def process_of(pod: Pod, container: Container, image: ImageView, place: Place) -> Json:
    """:raise InvalidError: there is no command, a user is unknown, or is root and must not be"""
    late = _late_values(container, place)
    user = user_of(pod, container, image)
    return {
        "terminal": container.tty,
        "user": _user(user),
        "args": _args(container, image, late),
        "env": _environment(pod, container, image, user, late),
        "cwd": _cwd(container.working_dir or image.working_dir),
        "capabilities": _capabilities(container.security, user),
        "rlimits": [_rlimit(limit) for limit in container.ulimits],
        "noNewPrivileges": container.security.no_new_privileges,
    }


def exec_process(
    pod: Pod,
    container: Container,
    image: ImageView,
    place: Place,
    args: Iterable[str],
    *,
    environment: Iterable[tuple[str, str]] = (),
    cwd: str = "",
    user: str = "",
    tty: bool = False,
    privileged: bool = False,
) -> Json:
    """The file of ``runv exec --process``: in the container's environment, folder and user where nothing else is said.

    :raise InvalidError: as ``process_of``, or ``args`` is empty
    """
    words = list(args)
    if not words or not words[0]:
        raise InvalidError("there is no command to run")
    for word in [*words, cwd]:
        if "\0" in word:
            raise InvalidError("a command cannot contain a NUL")
    found = find_user(user, image, additional=_additional(pod, container.security)) if user else user_of(pod, container, image)
    env = dict(entry.split("=", 1) for entry in _environment(pod, container, image, found, _late_values(container, place)))
    env |= {"TERM": "xterm"} if tty else {}
    for name, value in environment:
        if not name or "=" in name or "\0" in name + value:
            raise InvalidError(f"{name[:80]!r} is not the name of a variable")
        env[name] = value
    security = Security(privileged=True) if privileged else container.security
    return {
        "terminal": tty,
        "user": _user(found),
        "args": words,
        "env": [f"{name}={value}" for name, value in env.items()],
        "cwd": _cwd(cwd or container.working_dir or image.working_dir),
        "capabilities": _capabilities(security, found),
        "rlimits": [_rlimit(limit) for limit in container.ulimits],
        "noNewPrivileges": security.no_new_privileges,
    }


def user_of(pod: Pod, container: Container, image: ImageView) -> User:
    """Who the container runs as: what it says itself, or else its image."""
    security = container.security
    try:
        user = find_user(security.user or image.user, image, group=security.group, additional=_additional(pod, security))
    except InvalidError as error:
        raise InvalidError(f"container {container.name}: {error.message}", hint=error.hint) from error
    if security.run_as_non_root and user.uid == 0:
        whose = "its user" if security.user else "the image's user"
        raise InvalidError(f"container {container.name} must not run as root, and {whose} is root", hint="set the user (runAsUser)")
    return user


def _additional(pod: Pod, security: Security) -> list[str]:
    return [*security.additional_groups, *([str(pod.fs_group)] if pod.fs_group is not None else [])]


def _user(user: User) -> Json:
    # Who leaves its group must not lose what is denied to it, so the group is among the additional ones too, as in Docker and containerd.
    return {"uid": user.uid, "gid": user.gid, "additionalGids": [user.gid, *user.groups]}


def _args(container: Container, image: ImageView, late: dict[str, str]) -> list[str]:
    """A command of the container's own replaces all of the image's; arguments replace the image's command only."""
    where = f"container {container.name}"

    def final(words: tuple[str, ...]) -> list[str]:
        return [expand(word, late, where) for word in words] if container.fields else list(words)

    if container.command:
        args = final(container.command) + final(container.args)
    else:
        args = [*image.entrypoint, *(final(container.args) or image.cmd)]
    if not args or not args[0]:
        raise InvalidError(f"{where}: neither it nor the image {container.image} has a command", hint="give it a command")
    return args


def _environment(pod: Pod, container: Container, image: ImageView, user: User, late: dict[str, str]) -> list[str]:
    """What comes later goes before what comes earlier, but keeps its place."""
    found = {"PATH": PATH, "HOSTNAME": hostname_of(pod)} | ({"TERM": "xterm"} if container.tty else {})
    for entry in image.env:
        name, separator, value = entry.partition("=")
        if name and separator:
            found[name] = value
    found |= late
    for name, value in container.environment:
        found[name] = expand(value, late, f"container {container.name}: {name}") if container.fields else value
    found.setdefault("HOME", user.home or "/")
    return [f"{name}={value}" for name, value in found.items() if "\0" not in name + value]


def _late_values(container: Container, place: Place) -> dict[str, str]:
    first: dict[Late, str] = {
        "pod-ip": ",".join(place.addresses[:1]),
        "pod-ips": ",".join(place.addresses),
        "host-ip": ",".join(place.host_addresses[:1]),
        "host-ips": ",".join(place.host_addresses),
        "node-name": place.node_name,
        "pod-uid": place.pod_id,
    }
    return {name: first[field] for name, field in container.fields}


def _cwd(text: str) -> str:
    """Relative to the root, as Docker has it."""
    return posixpath.normpath(posixpath.join("/", text)).replace("//", "/")


def _capabilities(security: Security, user: User) -> Json:
    """Who is not root can have them by setuid programs only."""
    names = list(capabilities_of(security))
    own = names if user.uid == 0 else []
    return {"bounding": names, "effective": own, "permitted": own, "inheritable": [], "ambient": []}


def _rlimit(limit: Ulimit) -> Json:
    soft, hard = (_NO_LIMIT if value < 0 else value for value in (limit.soft, limit.hard))
    return {"type": f"RLIMIT_{limit.name.upper()}", "soft": soft, "hard": hard}
