"""Where in a container's life its hooks run (spec: runtime.md, "Lifecycle"). Light: without hooks, a command pays for one search in config.json."""

from runv.errors import RunvError
from runv.files import read_text
from runv.log import Log
from runv.processes import kill_and_wait
from runv.spec.version import since
from runv.state import CREATED, CREATING, RUNNING, STOPPED, Container, ContainerRecord

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from runv.spec.config import Config, Hooks

# What a hook in the guest may take when its configuration says nothing; on the host such a hook is waited for without end, as runc does.
GUEST_HOOK_TIMEOUT_S = 3600.0
_KILL_TIMEOUT_S = 10.0


def state(container: Container, record: ContainerRecord, status: str, pid: int) -> "dict[str, Any]":
    """The state that hooks get on stdin (spec: runtime.md, "State")."""
    return {
        "ociVersion": record.oci_version,
        "id": container.id,
        "status": status,
        "pid": pid,
        "bundle": record.bundle,
        "annotations": record.annotations,
    }


def any_at_creation(config: "Config") -> bool:
    """Whether there is a hook during which something can be done meanwhile."""
    return config.hooks is not None and bool(config.hooks.prestart or config.hooks.create_runtime)


def at_creation(container: Container, config: "Config", pid: int, meanwhile: "Callable[[], None]" = lambda: None) -> None:
    """prestart, createRuntime and createContainer. ``pid`` is the stand-in's, whose network namespace is the container's.

    :param meanwhile: what nobody can tell from being done before them all, or after: called once, while the first of the hooks runs
    :raise RunvError: one failed
    """
    undone = [meanwhile]

    def once() -> None:
        if undone:
            undone.pop()()

    hooks = config.hooks
    if hooks is not None:
        from runv.hooks import run_hooks, run_hooks_within

        given = state(container, container.load(), CREATING, pid)
        # In 1.0.0 these ran in `start`, and whoever wrote one for it expects that status.
        run_hooks("prestart", hooks.prestart or [], given | {"status": CREATED}, once)
        run_hooks("createRuntime", hooks.create_runtime or [], given, once)
        env = (config.process.env if config.process else None) or []
        run_hooks_within("createContainer", hooks.create_container or [], given, f"/proc/{pid}/ns/net", env)
    once()


def for_guest(container: Container, raw: "dict[str, Any]") -> "dict[str, Any]":
    """What the agent needs to run the startContainer hooks: members of its ``oci`` object."""
    entries = (raw.get("hooks") or {}).get("startContainer")
    if not entries:
        return {}
    # The pid is the agent's to fill in: hooks see the container's own.
    return {"hooks": {"startContainer": entries}, "state": state(container, container.load(), CREATED, 0)}


def start_timeout_s(container: Container, usual_s: float) -> float:
    """How long ``start`` may take: longer where the agent runs hooks first."""
    hooks = _saved(container, "startContainer")
    entries = (hooks.start_container if hooks else None) or []
    return usual_s + sum(entry.timeout or GUEST_HOOK_TIMEOUT_S for entry in entries)


def after_start(container: Container, record: ContainerRecord, pid: int, log: Log) -> None:
    """poststart. Since version 1.3 of the specification a failure stops the container; before, it is only told.

    :raise RunvError: one failed, and the container was stopped
    """
    hooks = _saved(container, "poststart")
    if hooks is None:
        return
    from runv.hooks import run_hooks, run_tolerantly

    given = state(container, record, RUNNING, pid)
    if not since(record.oci_version, 3):
        run_tolerantly("poststart", hooks.poststart or [], given, log.warning)
        return
    try:
        run_hooks("poststart", hooks.poststart or [], given)
    except RunvError:
        standin = container.standin()
        if standin is not None:
            kill_and_wait(standin, _KILL_TIMEOUT_S)
        raise


def after_delete(container: Container, record: ContainerRecord, log: Log) -> "Callable[[], None]":
    """poststop, to be called when the container is gone; its configuration goes with it, so it is read before. Failures are only told."""
    hooks = _saved(container, "poststop")
    if hooks is None:
        return lambda: None
    from runv.hooks import run_tolerantly

    given = state(container, record, STOPPED, 0)
    return lambda: run_tolerantly("poststop", hooks.poststop or [], given, log.warning)


def _saved(container: Container, kind: str) -> "Hooks | None":
    """The hooks of the configuration as it was at create, if it names hooks of this kind."""
    try:
        text = read_text(container.path("config.json"))
    except FileNotFoundError:
        return None
    if f'"{kind}"' not in text:
        return None
    from runv.spec.config import parse_config

    return parse_config(text.encode(), "config.json").config.hooks
