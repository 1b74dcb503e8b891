# SPDX-License-Identifier: Apache-2.0
"""gVisor's ``runsc`` as a peer: built from the Go module proxy, once, into runv's cache.

Debian's Go is too old for it. It can fetch a newer one all the same, which the proxy has as a module.
"""

import fcntl
import json
import os
import shutil
import subprocess
from pathlib import Path

from bench.timing import BenchError

# Of the branch ``go``, which is the one that Go's own tools can build.
REVISION = "v0.0.0-20250205023644-9414b50a5633"
_MODULE = "gvisor.dev/gvisor/runsc"
_TOOLCHAIN = "golang.org/toolchain@v0.0.1-go1.23.4.linux-amd64"
# Debian's; another Go in PATH would make the result depend on the machine.
_GO = "/usr/bin/go"
_BUILD_TIMEOUT_S = 900
# As runv's bundle: no network. The host's cgroups are runsc's own business, and it refuses hybrid ones.
FLAGS = ("--network=none", "--ignore-cgroups")


def provide(cache: Path) -> Path:
    """The program, downloaded and built when it is not there yet; the first time takes minutes.

    :raise BenchError: there is no Go, no network, or the build failed
    """
    base = cache / "gvisor"
    base.mkdir(parents=True, exist_ok=True)
    program = base / f"runsc-{REVISION}"
    with open(base / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            _build(base, program)
    return program


def _build(base: Path, program: Path) -> None:
    work = base / "build"
    try:
        work.mkdir(exist_ok=True)
        said = json.loads(_go(_GO, work, "mod", "download", "-json", _TOOLCHAIN))
        go = Path(said["Dir"], "bin/go")
        for tool in (go, *Path(said["Dir"], "pkg/tool").rglob("*")):
            tool.chmod(0o755)  # a module's files are no programs
        _go(str(go), work, "install", "-trimpath", "-ldflags=-s -w", f"{_MODULE}@{REVISION}")
        (work / "bin/runsc").rename(program)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _go(program: str, work: Path, *arguments: str) -> str:
    env = os.environ | {
        "GOPATH": str(work),
        "GOBIN": str(work / "bin"),
        "GOCACHE": str(work / "cache"),
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-modcacherw",  # so that it can be removed
        "CGO_ENABLED": "0",  # it executes itself where there is no libc
    }
    env.pop("GOROOT", None)
    try:
        done = subprocess.run(
            [program, *arguments], cwd=work, env=env, capture_output=True, text=True, timeout=_BUILD_TIMEOUT_S, check=False
        )
    except FileNotFoundError as error:
        raise BenchError(f"cannot build runsc: there is no {program}") from error
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"cannot build runsc: go {arguments[0]} did not end within {_BUILD_TIMEOUT_S} s") from error
    if done.returncode:
        raise BenchError(f"cannot build runsc: go {arguments[0]} failed: {(done.stderr or done.stdout).strip()[-500:]}")
    return done.stdout
