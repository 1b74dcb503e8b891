# SPDX-License-Identifier: Apache-2.0
"""What engines call on containers that exist: runv beside other runtimes, and beside a Python that does nothing."""

import subprocess
from collections.abc import Callable
from pathlib import Path

from bench.runtimes import Runtime, new_id
from bench.timing import Figure, Subject, in_turns

_PYTHON = "python3 -I -c pass"


def measure(runv: Runtime, peers: list[Runtime], bundle: Path, count: int, tick: Callable[[], None]) -> list[Figure]:
    """Times each command on a container of ``bundle``, which sleeps."""
    floors = dict.fromkeys(("state", "start", "kill"), _PYTHON) | {"exec": f"{peers[0].name} exec true"}
    rows = [Subject(_PYTHON, _python), *_Commands(runv, bundle).subjects(floors)]
    for peer in peers:
        rows += _Commands(peer, bundle).subjects({})
    return in_turns(rows, count, tick)


class _Commands:
    """The commands of one runtime, each on a container that is in the right state for it."""

    def __init__(self, runtime: Runtime, bundle: Path) -> None:
        self.runtime = runtime
        self.bundle = bundle
        self.id = ""

    def create(self) -> None:
        """A created container."""
        self.id = new_id()
        self.runtime.run("create", "--bundle", str(self.bundle), self.id, stderr=subprocess.DEVNULL)

    def begin(self) -> None:
        """A running container."""
        self.id = self.runtime.start(self.bundle)

    def call(self, *args: str) -> None:
        """A command with the container's id as its first argument."""
        self.runtime.run(args[0], self.id, *args[1:])

    def end(self) -> None:
        """Takes the container away."""
        self.runtime.delete(self.id)

    def subjects(self, floors: dict[str, str]) -> list[Subject]:
        """One for each command; ``floors`` by command."""
        name = self.runtime.name
        return [
            Subject(f"{name} exec true", lambda: self.call("exec", "true"), floors.get("exec", ""), self.begin, self.end),
            Subject(f"{name} state", lambda: self.call("state"), floors.get("state", ""), self.begin, self.end),
            Subject(f"{name} start", lambda: self.call("start"), floors.get("start", ""), self.create, self.end),
            Subject(f"{name} kill", lambda: self.call("kill", "KILL"), floors.get("kill", ""), self.begin, self.end),
            Subject(f"{name} delete --force", self.end, "", self.begin, self.end),
        ]


def _python() -> None:
    subprocess.run(["/usr/bin/python3", "-I", "-c", "pass"], check=True)
