# SPDX-License-Identifier: Apache-2.0
"""runv and its peers, driven by their command lines on one bundle."""

import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.timing import BenchError
from runv.processes import exit_status, identify

_BUSYBOX = Path("/bin/busybox")
_APPLETS = ("true", "sleep", "sh", "cat", "dd")
# In the lab everything takes ten times as long.
SLOW = 10 if "RUNV_LAB" in os.environ else 1
_TIMEOUT_S = 120 * SLOW
# Of all containers of this run, and of no others.
ID_PREFIX = f"bench-{os.getpid()}-"
_numbers = itertools.count()


def _wait(process: subprocess.Popen[bytes]) -> None:
    """Waits for the end of one that nothing is read from: subprocess, given a time, would look for it every 50 ms.

    :raise subprocess.TimeoutExpired: it goes on
    """
    if process.stdout is None and process.stderr is None and exit_status(identify(process.pid), _TIMEOUT_S) is None:
        raise subprocess.TimeoutExpired(process.args, _TIMEOUT_S)


class Runtime:
    """One OCI runtime with a state root of its own below ``folder``; ``more`` goes into its environment, ``flags`` before each command."""

    def __init__(
        self, name: str, program: str, folder: Path, more: dict[str, str] | None = None, flags: tuple[str, ...] = ()
    ) -> None:
        self.name = name
        self.program = program
        self.root = folder / f"root-{name}"
        self._flags = flags
        self._env = {**os.environ, **(more or {})}

    def run(self, *args: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
        """One command.

        :raise BenchError: it failed
        """
        argv = [self.program, *self._flags, "--root", str(self.root), *args]
        streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE} | options
        with subprocess.Popen(argv, env=self._env, **streams) as process:
            try:
                _wait(process)
                out, error = process.communicate(timeout=_TIMEOUT_S)
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            said = (error or b"").decode(errors="replace").strip()
            raise BenchError(f"{' '.join(argv)} ended with {process.returncode}: {said}")
        return subprocess.CompletedProcess(argv, process.returncode, out, error)

    def open(self, *args: str, **options: Any) -> subprocess.Popen[bytes]:
        """One command that goes on."""
        return subprocess.Popen([self.program, *self._flags, "--root", str(self.root), *args], env=self._env, **options)

    def run_once(self, bundle: Path) -> None:
        """A container from its creation to its end."""
        self.run("run", "--bundle", str(bundle), new_id())

    def start(self, bundle: Path) -> str:
        """A container that goes on; its id."""
        identifier = new_id()
        self.run("run", "--detach", "--bundle", str(bundle), identifier, stderr=subprocess.DEVNULL)
        return identifier

    def delete(self, identifier: str) -> None:
        """Takes one away, whatever it does."""
        self.run("delete", "--force", identifier)


def new_id() -> str:
    """An id that no other container of this run has."""
    return f"{ID_PREFIX}{next(_numbers)}"


def bundle(runc: str, folder: Path, *args: str) -> Path:
    """A bundle that runs ``args``, of busybox, with what runc's ``spec`` writes: every runtime takes it."""
    (folder / "rootfs/bin").mkdir(parents=True)
    shutil.copy(_BUSYBOX, folder / "rootfs/bin/busybox")
    for applet in _APPLETS:
        (folder / "rootfs/bin" / applet).symlink_to("busybox")
    subprocess.run([runc, "spec", "--bundle", str(folder)], check=True)
    change(folder, lambda config: config["process"].update(terminal=False, args=list(args)))
    return folder


def change(folder: Path, how: Callable[[dict[str, Any]], None]) -> None:
    """Lets ``how`` change the configuration of the bundle in ``folder``."""
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    how(config)
    (folder / "config.json").write_text(json.dumps(config))
