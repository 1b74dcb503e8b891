"""A command that drives an engine as `docker` does."""

from __future__ import annotations

import contextlib
import json
import subprocess
from typing import Any

from tests.vm.harness import DEADLINE_S, Done, Terminal, wait_until, with_terminal

from .harness import IMAGE, environ

Json = dict[str, Any]


class Cli:
    """The flags that Docker and Podman share."""

    def command(self, *args: str) -> list[str]:
        """The whole command line for ``args``."""
        raise NotImplementedError

    def env(self) -> dict[str, str]:
        return environ()

    def run_flags(self) -> tuple[str, ...]:
        """What every container is to be made with."""
        return ("--pull", "never")

    def try_(self, *args: str, stdin: bytes = b"", deadline_s: float = DEADLINE_S) -> Done:
        """A command, however it ends."""
        done = subprocess.run(
            self.command(*args), input=stdin, capture_output=True, timeout=deadline_s, env=self.env(), check=False
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def __call__(self, *args: str, stdin: bytes = b"", deadline_s: float = DEADLINE_S) -> Done:
        """A command that must succeed."""
        return self.try_(*args, stdin=stdin, deadline_s=deadline_s).ok()

    def run(self, *args: str, **more: Any) -> Done:
        """``run --rm`` in the foreground, however it ends."""
        return self.try_("run", "--rm", *self.run_flags(), *args, **more)

    def detached(self, *args: str) -> str:
        """``run -d``; returns the container's id."""
        return self("run", "-d", *self.run_flags(), *args).out.strip()

    def sleeping(self, *flags: str) -> str:
        """A container that waits for a signal, and ends at SIGTERM. Its program is ready for it."""
        script = "trap 'exit 0' TERM; echo ready; while :; do sleep 1000 & wait $!; done"
        name = self.detached(*flags, IMAGE, "sh", "-c", script)
        wait_until(lambda: self("logs", name).out == "ready\n", "the program")
        return name

    def exec(self, *args: str, **more: Any) -> Done:
        return self.try_("exec", *args, **more)

    def popen(self, *args: str, **more: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self.command(*args), env=self.env(), **more)

    def inspect(self, name: str) -> Json:
        found: list[Json] = json.loads(self("inspect", name).out)
        return found[0]

    def status(self, name: str) -> str:
        return str(self.inspect(name)["State"]["Status"])

    def on_terminal(
        self, *args: str
    ) -> contextlib.AbstractContextManager[tuple[subprocess.Popen[bytes], Terminal]]:
        """A command on a terminal of 24 rows and 80 columns, which it controls."""
        return with_terminal(self.popen, *args)
