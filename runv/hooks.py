"""Running the host's hooks: programs that get the container's state on stdin (spec: config.md, "POSIX-platform Hooks")."""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from runv import linux
from runv.errors import RunvError, reason

if TYPE_CHECKING:
    from runv.spec.config import Hook

_OUTPUT_MAX = 2000


def run_hooks(kind: str, hooks: "list[Hook]", state: dict[str, Any]) -> None:
    """Runs them in order, here; each must succeed. One without ``env`` has ours, as with runc.

    :raise RunvError: one could not be started, failed, or took longer than its timeout (it is killed then)
    """
    for index, hook in enumerate(hooks):
        _run(f"{kind} hook #{index}", hook, json.dumps(state).encode(), _environment(hook.env))


def run_hooks_within(kind: str, hooks: "list[Hook]", state: dict[str, Any], network: str, env: list[str]) -> None:
    """As ``run_hooks``, in what the host has of a container: its network namespace, and mounts that nobody else sees.

    :param network: path of the network namespace
    :param env: the environment of a hook without one
    """

    def enter() -> None:
        linux.join(network, linux.CLONE_NEWNET)
        linux.unshare(linux.CLONE_NEWNS)
        linux.mount("none", "/", None, linux.MS_REC | linux.MS_PRIVATE)

    for index, hook in enumerate(hooks):
        environment = _environment(env if hook.env is None else hook.env)
        _run(f"{kind} hook #{index}", hook, json.dumps(state).encode(), environment, enter)


def run_tolerantly(kind: str, hooks: "list[Hook]", state: dict[str, Any], warn: Callable[[str], None]) -> None:
    """As ``run_hooks``, but failures are only told to ``warn`` and the next hook runs all the same."""
    for index, hook in enumerate(hooks):
        try:
            _run(f"{kind} hook #{index}", hook, json.dumps(state).encode(), _environment(hook.env))
        except RunvError as error:
            warn(str(error))


def _environment(env: list[str] | None) -> dict[str, str] | None:
    return None if env is None else dict(entry.partition("=")[::2] for entry in env)


def _run(
    name: str,
    hook: "Hook",
    state: bytes,
    environment: dict[str, str] | None,
    prepare: Callable[[], None] | None = None,
) -> None:
    try:
        process = subprocess.Popen(
            hook.args or [hook.path],
            executable=hook.path,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=prepare,
        )
    except OSError as error:
        raise RunvError(f"error running {name}: {hook.path}: {reason(error)}") from error
    except subprocess.SubprocessError as error:
        raise RunvError(f"error running {name}: cannot enter the container's network namespace") from error
    with process:
        try:
            output, _ = process.communicate(state, hook.timeout)
        except subprocess.TimeoutExpired as error:
            raise RunvError(f"error running {name}: {hook.path} did not end within {hook.timeout} s") from error
        finally:
            if process.poll() is None:
                # With all that it has started, which else would keep its pipe, and us.
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode:
        text = output[-_OUTPUT_MAX:].decode(errors="replace").strip()
        raise RunvError(f"error running {name}: {_end(process.returncode)}, output: {text}")


def _end(status: int) -> str:
    return f"exit status {status}" if status > 0 else f"killed by signal {-status}"
