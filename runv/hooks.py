"""Running the host's hooks: programs that get the container's state on stdin (spec: config.md, "POSIX-platform Hooks")."""

import json
import subprocess
from typing import TYPE_CHECKING, Any

from runv.errors import RunvError, reason

if TYPE_CHECKING:
    from runv.spec.config import Hook

_OUTPUT_MAX = 2000


def run_hooks(kind: str, hooks: "list[Hook]", state: dict[str, Any]) -> None:
    """Runs them in order; each must succeed.

    :raise RunvError: one could not be started, failed, or took longer than its timeout (it is killed then)
    """
    for index, hook in enumerate(hooks):
        _run(f"{kind} hook #{index}", hook, json.dumps(state).encode())


def _run(name: str, hook: "Hook", state: bytes) -> None:
    environment = dict(entry.partition("=")[::2] for entry in hook.env or [])
    try:
        done = subprocess.run(
            hook.args or [hook.path],
            executable=hook.path,
            env=environment,
            input=state,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=hook.timeout or None,
            check=False,
        )
    except OSError as error:
        raise RunvError(f"error running {name}: {hook.path}: {reason(error)}") from error
    except subprocess.TimeoutExpired as error:
        raise RunvError(f"error running {name}: {hook.path} did not end within {hook.timeout} s") from error
    if done.returncode:
        output = done.stdout[-_OUTPUT_MAX:].decode(errors="replace").strip()
        raise RunvError(f"error running {name}: exit status {done.returncode}, output: {output}")
