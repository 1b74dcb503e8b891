"""The runtimes under test, each behind a script of its own that names its state folder: the programs know only RUNTIME.

A program runs in a mount namespace of its own. Some ask for a container without one, and what runc and crun mount for it on the host would
stay there, in the way of whoever removes the bundle.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

# crun 1.8.1 refuses a hybrid layout whose cgroup v2 has controllers: it sees the folders of v1 only, on a tmpfs of its own.
_V1_ONLY = """
set -e
mount -t tmpfs -o mode=755 tmpfs /mnt
for folder in /sys/fs/cgroup/*; do
    name=${folder##*/}
    [ "$name" != unified ] || continue
    mkdir "/mnt/$name"
    mount --bind "$folder" "/mnt/$name"
done
mount --move /mnt /sys/fs/cgroup
exec "$@"
"""
_ALONE = ("unshare", "--mount", "--propagation", "private")
_CGROUPS = Path("/sys/fs/cgroup")
# The programs' own word for linux.cgroupsPath.
_CGROUP = "testdir"
_CLEAN_TIMEOUT_S = 120


@dataclass(frozen=True)
class Runtime:
    """A runtime's name, its program, and what a validation program's command line is put behind."""

    name: str
    program: str
    prefix: tuple[str, ...] = _ALONE

    def script(self, folder: Path) -> Path:
        """A script in ``folder`` that runs it with its state in there."""
        path = folder / "runtime"
        path.write_text(f'#!/bin/sh\nexec {self.program} --root {folder / "state"} "$@"\n')
        path.chmod(0o755)
        return path

    def clean(self, script: Path) -> None:
        """Removes the containers and cgroups that a program left behind."""
        done = subprocess.run(
            [*self.prefix, script, "list", "-q"], stdout=subprocess.PIPE, text=True, timeout=_CLEAN_TIMEOUT_S, check=False
        )
        for container in done.stdout.split():
            subprocess.run([*self.prefix, script, "delete", "--force", container], timeout=_CLEAN_TIMEOUT_S, check=False)
        for group in (*_CGROUPS.glob(_CGROUP), *_CGROUPS.glob(f"*/{_CGROUP}")):
            for folder, _, _ in os.walk(group, topdown=False):
                os.rmdir(folder)


def installed(names: list[str]) -> list[Runtime]:
    """Those of ``names`` that are in PATH."""
    found = [(name, shutil.which(name)) for name in names]
    return [Runtime(name, path, _prefix(name)) for name, path in found if path]


def _prefix(name: str) -> tuple[str, ...]:
    hybrid = os.path.isdir("/sys/fs/cgroup/unified") and not os.path.exists("/sys/fs/cgroup/cgroup.controllers")
    return (*_ALONE, "sh", "-c", _V1_ONLY, "sh") if name == "crun" and hybrid else _ALONE
