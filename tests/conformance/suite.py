"""Getting the validation programs: the module from Go's proxy, built once into runv's cache."""

import fcntl
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.conformance.errors import ConformanceError

MODULE = "github.com/opencontainers/runtime-tools"
# The last revision that Debian's Go 1.19 builds.
REVISION = "v0.9.1-0.20230914150019-408c51e934dc"
# Debian's; another Go in PATH would make the result depend on the machine.
GO = "/usr/bin/go"
ROOTFS = "rootfs-amd64.tar.gz"
TESTER = "runtimetest"
_BUILD_TIMEOUT_S = 900


@dataclass(frozen=True)
class Suite:
    """A folder with the programs, ``runtimetest`` and the root file system: the programs want it as their working directory."""

    folder: Path

    def programs(self) -> list[str]:
        """The names of all validation programs."""
        return sorted(path.name for path in self.folder.iterdir() if path.name not in (TESTER, ROOTFS))


def provide(cache: Path) -> Suite:
    """The suite in ``cache``, downloaded and built when it is not there yet.

    :raise ConformanceError: there is no Go, no network, or the build failed
    """
    base = cache / "conformance"
    base.mkdir(parents=True, exist_ok=True)
    final = base / f"programs-{REVISION}"
    with open(base / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not final.is_dir():
            _build(base, final)
    return Suite(final)


def _build(base: Path, final: Path) -> None:
    temp = base / f".programs.{os.getpid()}"
    temp.mkdir()
    try:
        source = _download(base)
        _go(base, ["build", "-trimpath", "-o", f"{temp}/", "./validation/...", f"./cmd/{TESTER}"], source)
        shutil.copyfile(source / ROOTFS, temp / ROOTFS)
        temp.rename(final)
    finally:
        shutil.rmtree(temp, ignore_errors=True)


def _download(base: Path) -> Path:
    said = _go(base, ["mod", "download", "-json", f"{MODULE}@{REVISION}"], base)
    return Path(json.loads(said)["Dir"])


def _go(base: Path, arguments: list[str], folder: Path) -> str:
    env = os.environ | {
        "GOPATH": str(base / "go"),
        "GOCACHE": str(base / "go-build"),
        # Static, because runtimetest runs in the container; -mod=mod, because the module brings half a vendor folder; and a cache that can be removed.
        "CGO_ENABLED": "0",
        "GOFLAGS": "-mod=mod -modcacherw",
    }
    try:
        done = subprocess.run(
            [GO, *arguments], cwd=folder, env=env, capture_output=True, text=True, timeout=_BUILD_TIMEOUT_S, check=False
        )
    except FileNotFoundError as error:
        raise ConformanceError(f"cannot build the validation programs: there is no {GO}") from error
    except subprocess.TimeoutExpired as error:
        raise ConformanceError(f"go {arguments[0]} did not end within {_BUILD_TIMEOUT_S} s") from error
    if done.returncode:
        raise ConformanceError(f"go {' '.join(arguments)} failed:\n{done.stderr or done.stdout}")
    return done.stdout
