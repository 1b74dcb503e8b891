"""What the lab boots into: a cpio archive with busybox, two scripts, modules and the job. Made anew for each run."""

import shlex
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab.errors import LabError
from tests.lab.kernel import Kernel

HERE = Path(__file__).resolve().parent

# Loaded by the first script, before there is a root: the bus, the share of the host's root, the ports of the output.
ROOT_MODULES = ("virtio_pci", "virtiofs", "overlay", "virtio_console")

# Loaded by the second script with modprobe: what the tests come for. The rest comes by itself, as on any Debian.
TEST_MODULES = (
    *("kvm-amd", "vhost_vsock", "vhost_net", "tun", "virtio_rng"),
    *("loop", "erofs", "veth", "bridge", "sch_ingress", "cls_u32", "act_mirred"),
)


@dataclass(frozen=True)
class Job:
    """What to run, and what the lab's file tree looks like to it."""

    command: tuple[str, ...]
    directory: Path
    env: Mapping[str, str]
    tmpfs: tuple[Path, ...] = (Path("/tmp"), Path("/run"))
    shown: tuple[Path, ...] = ()
    results: Path | None = None


@dataclass
class Archive:
    """A cpio archive in the format "newc" (Documentation/driver-api/early-userspace/buffer-format.rst)."""

    data: bytearray = field(default_factory=bytearray)
    entries: int = 0

    def add(self, name: str, content: bytes, mode: int, device: tuple[int, int] = (0, 0)) -> None:
        """Append one entry. Its folders must have been added before."""
        self.entries += 1
        name_bytes = name.encode() + b"\0"
        numbers = (self.entries, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(name_bytes), 0)
        self._append(b"070701" + b"".join(b"%08X" % number for number in numbers) + name_bytes)
        self._append(content)

    def _append(self, part: bytes) -> None:
        self.data += part
        self.data += bytes(-len(self.data) % 4)

    def folder(self, name: str) -> None:
        """A folder that all can enter."""
        self.add(name, b"", 0o040755)

    def file(self, name: str, content: bytes) -> None:
        """A file that can be executed."""
        self.add(name, content, 0o100755)

    def finish(self) -> bytes:
        """The bytes, with the entry that marks the end."""
        self.add("TRAILER!!!", b"", 0)
        return bytes(self.data)


def build_initrd(kernel: Kernel, job: Job) -> bytes:
    """The whole archive."""
    archive = Archive()
    for folder in ("bin", "dev", "lab", "modules"):
        archive.folder(folder)
    # The kernel opens it as init's standard descriptors before anything is mounted.
    archive.add("dev/console", b"", 0o020600, (5, 1))
    archive.file("bin/busybox", find_busybox().read_bytes())
    archive.file("init", (HERE / "init.sh").read_bytes())
    for name in ("start.sh", "account.sh"):
        archive.file(f"lab/{name}", (HERE / name).read_bytes())
    archive.file("lab/mounts.sh", "".join(f"{line}\n" for line in mount_calls(kernel, job)).encode())
    archive.file("lab/job.sh", job_script(job).encode())
    archive.file("lab/modules", "\n".join((*TEST_MODULES, "")).encode())
    for number, path in enumerate(kernel.needed_by(ROOT_MODULES)):
        archive.file(f"modules/{number:02}-{path.name}", path.read_bytes())
    return archive.finish()


def find_busybox() -> Path:
    """A busybox that is linked statically: there is no library to load where it starts."""
    found = shutil.which("busybox")
    if found is None:
        raise LabError("busybox is not installed", hint="Debian: busybox-static")
    if b"/ld-linux" in Path(found).read_bytes()[:4096]:
        raise LabError(f"{found} is not linked statically", hint="Debian: busybox-static")
    return Path(found)


def mount_calls(kernel: Kernel, job: Job) -> Iterator[str]:
    """Calls of the functions in init.sh that lay out the file tree: first what a tmpfs would hide is put aside."""
    hidden = [path for path in job.shown if any(path.is_relative_to(tmpfs) for tmpfs in job.tmpfs)]
    for number, path in enumerate(hidden):
        yield shlex.join(["put_aside", str(number), str(path)])
    for path in job.tmpfs:
        yield shlex.join(["add_tmpfs", str(path)])
    for number, path in enumerate(hidden):
        yield shlex.join(["bring_back", str(number), str(path), "dir" if path.is_dir() else "file"])
    yield shlex.join(["add_modules", str(kernel.modules), kernel.release])
    if job.results:
        yield shlex.join(["add_results", str(job.results)])


def job_script(job: Job) -> str:
    """A script that becomes the command."""
    lines = ["#!/bin/sh", f"cd {shlex.quote(str(job.directory))} || exit 125"]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in sorted(job.env.items())]
    lines.append(f"exec {shlex.join(job.command)}")
    return "\n".join((*lines, ""))
