"""Running the host's hooks: programs that get the container's state on stdin (spec: config.md, "POSIX-platform Hooks")."""

import os
import select
import time

from runv import linux
from runv.errors import RunvError, reason
from runv.processes import execute
from runv.quick import Any, dumps, signal

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from collections.abc import Callable

    from runv.spec.config import Hook

_OUTPUT_MAX = 2000


def run_hooks(kind: str, hooks: "list[Hook]", state: dict[str, Any], meanwhile: "Callable[[], object]" = lambda: None) -> None:
    """Runs them in order, here; each must succeed. One without ``env`` has ours, as with runc.

    :param meanwhile: called while each of them runs; what it raises is raised when that one has ended
    :raise RunvError: one could not be started, failed, or took longer than its timeout (it is killed then)
    """
    for index, hook in enumerate(hooks):
        _run(f"{kind} hook #{index}", hook, dumps(state).encode(), hook.env, os.setsid, meanwhile)


def run_hooks_within(kind: str, hooks: "list[Hook]", state: dict[str, Any], network: str, env: list[str]) -> None:
    """As ``run_hooks``, in what the host has of a container: its network namespace, and mounts that nobody else sees.

    :param network: path of the network namespace
    :param env: the environment of a hook without one
    """

    def enter() -> None:
        os.setsid()
        linux.join(network, linux.CLONE_NEWNET)
        linux.unshare(linux.CLONE_NEWNS)
        linux.mount("none", "/", None, linux.MS_REC | linux.MS_PRIVATE)

    for index, hook in enumerate(hooks):
        _run(f"{kind} hook #{index}", hook, dumps(state).encode(), env if hook.env is None else hook.env, enter)


def run_tolerantly(kind: str, hooks: "list[Hook]", state: dict[str, Any], warn: "Callable[[str], None]") -> None:
    """As ``run_hooks``, but failures are only told to ``warn`` and the next hook runs all the same."""
    for index, hook in enumerate(hooks):
        try:
            _run(f"{kind} hook #{index}", hook, dumps(state).encode(), hook.env, os.setsid)
        except RunvError as error:
            warn(str(error))


def _run(
    name: str,
    hook: "Hook",
    state: bytes,
    env: list[str] | None,
    prepare: "Callable[[], None]",
    meanwhile: "Callable[[], object]" = lambda: None,
) -> None:
    running = _Running(hook, env, name, prepare)
    try:
        # Before anybody else is given time: most hooks read it whole at once.
        running.feed(state)
        try:
            meanwhile()
        finally:
            status = running.finish()
    except TimeoutError as error:
        raise RunvError(f"error running {name}: {hook.path} did not end within {hook.timeout} s") from error
    finally:
        running.close()
    if status:
        text = running.output.decode(errors="replace").strip()
        raise RunvError(f"error running {name}: {_end(status)}, output: {text}")


class _Running:
    """A hook that was started. ``output``: the end of what it has said."""

    def __init__(self, hook: "Hook", env: list[str] | None, name: str, prepare: "Callable[[], None]") -> None:
        """:raise RunvError: it could not be started"""
        self.output = b""
        self._state = b""
        self._status: int | None = None
        self._deadline = time.monotonic() + hook.timeout if hook.timeout is not None else None
        environment = os.environ if env is None else dict(entry.partition("=")[::2] for entry in env)
        stdin, self._stdin = os.pipe2(os.O_CLOEXEC)
        self._stdout, stdout = os.pipe2(os.O_CLOEXEC)
        try:
            self._pid = execute(hook.path, hook.args or [hook.path], env=environment, stdio=(stdin, stdout, stdout), prepare=prepare)
        except OSError as error:
            os.close(self._stdin)
            os.close(self._stdout)
            raise RunvError(f"error running {name}: {error.filename}: {reason(error)}") from error
        finally:
            os.close(stdin)
            os.close(stdout)
        os.set_blocking(self._stdin, False)

    def feed(self, state: bytes) -> None:
        """Gives it ``state``, or as much as it takes at once."""
        self._state = state
        self._write()

    def finish(self) -> int:
        """Gives it the rest, and waits until it has ended and nobody can say anything more for it. Returns its exit status, negative for a signal.

        :raise TimeoutError: it takes too long
        """
        poll = select.poll()
        poll.register(self._stdout, select.POLLIN)
        while True:
            if self._stdin >= 0:
                poll.register(self._stdin, select.POLLOUT)
            ready = [fd for fd, _ in self._wait(poll)]
            if self._stdin in ready:
                poll.unregister(self._stdin)
                self._write()
            if self._stdout in ready:
                chunk = os.read(self._stdout, 1 << 16)
                if not chunk:
                    break
                self.output = (self.output + chunk)[-_OUTPUT_MAX:]
        self._wait_for_end()
        return self._reap()

    def _write(self) -> None:
        try:
            while self._state:
                self._state = self._state[os.write(self._stdin, self._state) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            pass  # it does not want to know
        os.close(self._stdin)
        self._stdin = -1

    def _wait(self, poll: select.poll) -> list[tuple[int, int]]:
        left_s = None if self._deadline is None else max(0.0, self._deadline - time.monotonic())
        ready = poll.poll(None if left_s is None else left_s * 1000)
        if not ready:
            raise TimeoutError
        return ready

    def _wait_for_end(self) -> None:
        pidfd = os.pidfd_open(self._pid)
        try:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            self._wait(poll)
        finally:
            os.close(pidfd)

    def _reap(self) -> int:
        if self._status is None:
            self._status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        return self._status

    def close(self) -> None:
        """Ends it, if it has not ended, with all that it has started, which else would keep its pipe."""
        if self._status is None:
            os.killpg(self._pid, signal.SIGKILL)
            self._reap()
        for fd in (self._stdin, self._stdout):
            if fd >= 0:
                os.close(fd)


def _end(status: int) -> str:
    return f"exit status {status}" if status > 0 else f"killed by signal {-status}"
