"""The lab's kernel: Debian's cloud kernel, unpacked into runv's cache and never installed."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.lab.errors import LabError

META_PACKAGE = "linux-image-cloud-amd64"


@dataclass(frozen=True)
class Kernel:
    """A kernel image and the folder of its modules, which has ``modules.dep``."""

    image: Path
    modules: Path

    @property
    def release(self) -> str:
        """What ``uname -r`` says."""
        return self.modules.name

    def needed_by(self, names: tuple[str, ...]) -> list[Path]:
        """The files of these modules and of all they depend on, in the order in which they can be loaded."""
        depends = read_depends(self.modules / "modules.dep")
        by_name = {module_name(path): path for path in depends}
        order: dict[str, None] = {}
        for name in names:
            if found := by_name.get(name):
                # modules.dep lists the closure, what is needed last first.
                order.update(dict.fromkeys([*reversed(depends[found]), found]))
        return [self.modules / path for path in order]


def module_name(path: str) -> str:
    """``kernel/fs/fuse/virtiofs.ko`` is ``virtiofs``; a dash in a file name is an underscore to the kernel."""
    return path.rpartition("/")[2].partition(".")[0].replace("-", "_")


def read_depends(path: Path) -> dict[str, list[str]]:
    """modules.dep: each module's file, and the files that must be loaded before it."""
    lines = (line.partition(":") for line in path.read_text().splitlines())
    return {module: needs.split() for module, _, needs in lines}


def find_kernel() -> Kernel:
    """The kernel in the folder RUNV_LAB_KERNEL (``boot``, ``lib``) or in the cache; downloaded when there is none."""
    if chosen := os.environ.get("RUNV_LAB_KERNEL"):
        return unpacked_kernel(Path(chosen))
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(os.environ.get("RUNV_CACHE") or base / "runv").absolute() / "lab"
    present = sorted(folder.glob("linux-image-*"))
    return unpacked_kernel(present[-1] if present else download(folder))


def unpacked_kernel(folder: Path) -> Kernel:
    """The kernel of an unpacked package. The lab looks for its files below another root, where an absolute link leads astray."""
    folder = folder.resolve()
    images = sorted((folder / "boot").glob("vmlinuz-*"))
    if not images:
        raise LabError(f"there is no boot/vmlinuz-* in {folder}")
    return Kernel(images[-1], folder / "lib/modules" / images[-1].name.removeprefix("vmlinuz-"))


def download(folder: Path) -> Path:
    """Fetch and unpack the package that Debian's meta package names. The result appears complete or not at all."""
    package = current_package()
    temp = folder / f".{package}.{os.getpid()}"
    temp.mkdir(parents=True)
    try:
        # As root apt would fetch as a user who cannot write here, and warn about it.
        run(["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", package], temp)
        run(["dpkg-deb", "-x", *[str(path) for path in temp.glob("*.deb")], "tree"], temp)
        tree = temp / "tree"
        run(["depmod", "-b", str(tree), unpacked_kernel(tree).release], temp)
        final = folder / package
        if not final.exists():
            tree.rename(final)
        return final
    finally:
        shutil.rmtree(temp, ignore_errors=True)


def current_package() -> str:
    """``linux-image-6.1.0-56-cloud-amd64``, or whichever it is today."""
    for line in run(["apt-cache", "depends", META_PACKAGE], Path("/")).splitlines():
        key, _, package = line.strip().partition(": ")
        if key == "Depends" and package.startswith("linux-image-"):
            return package
    raise LabError(f"apt knows no {META_PACKAGE}", hint="apt-get update")


def run(argv: list[str], directory: Path) -> str:
    """Stdout of a program that is expected to work."""
    try:
        done = subprocess.run(
            argv, cwd=directory, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
        )
    except OSError as error:
        raise LabError(f"cannot run {argv[0]}: {error.strerror}") from error
    if done.returncode != 0:
        raise LabError(f"{argv[0]} ended with status {done.returncode}: {done.stderr.strip()}")
    return done.stdout
