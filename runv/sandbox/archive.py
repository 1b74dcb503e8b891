"""``archive``: files into and out of a container. The guest's init is the tar, in a process within the container."""

import json
import os
from typing import Any

from runv.errors import UsageError
from runv.sandbox import foreground
from runv.sandbox.execute import execute
from runv.sandbox.process import Options
from runv.settings import Settings
from runv.spec.capabilities import CAPABILITIES
from runv.spec.process import parse_process
from runv.state import Container

_SETS = ("bounding", "effective", "permitted")


def check(action: str, path: str = "/") -> dict[str, Any]:
    """The process that does it.

    :raise UsageError: there is no such action, or the path is relative
    """
    if action not in ("get", "put", "diff"):
        raise UsageError(f"no such action: {action}", command="archive", hint="it is get, put or diff")
    if action == "diff" and path != "/":
        raise UsageError("diff takes no path", command="archive")
    if not path.startswith("/"):
        raise UsageError(f"the path must be absolute, not {path!r}", command="archive")
    # Owners, devices and attributes of all kinds: what the container itself may do is no measure.
    capabilities = {name: list(CAPABILITIES) for name in _SETS}
    return {"args": ["archive"], "cwd": "/", "noNewPrivileges": True, "capabilities": capabilities, "archive": {"do": action, "path": path}}


def run(container: Container, process: dict[str, Any], settings: Settings) -> int:
    """Does it with this process's standard streams; returns the status to end with. A container that is paused stays so.

    :raise StateError: the container is not running
    :raise AgentError: it has no writable layer of which there could be a difference
    """
    checked, raw = parse_process(json.dumps(process).encode(), "archive")
    with foreground.held_signals():
        started = execute(container, checked, raw, Options("", foreground=True), settings, ignore_paused=True)
        status = foreground.wait(started.identity, terminal=False)
    if os.path.exists(started.pid_file):
        os.unlink(started.pid_file)
    return status
