#!/usr/bin/env python3
"""Build a QEMU with what runv uses and no more from Debian's source package, or find the one that is built already.

    build_qemu.py                build if needed, print the path of qemu-system-x86_64
    build_qemu.py --print-path   print that path and build nothing; status 1 where it is not there yet

Stdout carries the path only; what goes on is told on stderr. README.md has the settings and the layout of the cache.
"""

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent

# Changes when this program makes another result of the same inputs.
RECIPE = 2
PROGRAM = "qemu-system-x86_64"
DEVICES = "runv"

# Where Debian's packages put what QEMU loads into a guest (qemu-system-data, seabios).
FIRMWARE = "/usr/share/qemu:/usr/share/seabios"

# Features that are asked for; configure fails where one cannot be had. All others are off.
FEATURES = ("kvm", "tcg", "seccomp", "virtfs", "attr", "cap-ng", "vhost-kernel", "vhost-net", "vhost-user", "fdt", "avx2", "malloc-trim")

# A program at a fixed address without libraries: nothing of it is relocated, so that all machines share it.
OPTIONS = ("--static", "--disable-pie", "--disable-debug-info", "--enable-trace-backends=nop", "--disable-install-blobs")

# By which kept translations know the program that made them.
BUILD_ID = "-Wl,--build-id=sha1"

# What the finished program must know: runv names these on QEMU's command line, or over QMP.
NEEDED: Mapping[str, tuple[str, ...]] = {
    "-machine": ("microvm", "q35"),
    "-accel": ("kvm", "tcg"),
    "-object": ("memory-backend-file", "memory-backend-memfd"),
    "-netdev": ("tap",),
    "-device": (
        "pcie-root-port", "scsi-hd", "vfio-pci", "vhost-user-fs-pci", "vhost-vsock-pci", "virtio-9p-pci", "virtio-balloon-pci",
        "virtio-mem-pci", "virtio-net-pci", "virtio-scsi-pci", "virtio-serial-pci", "virtserialport",
    ),
}  # fmt: skip

# Its libraries become part of the program, so that their versions count.
LIBRARIES = (
    "libc6-dev", "libglib2.0-dev", "libpixman-1-dev", "libseccomp-dev", "libcap-ng-dev", "libattr1-dev", "zlib1g-dev", "libfdt-dev",
)  # fmt: skip
PACKAGES = ("dpkg-dev", "gcc", "meson", "ninja-build", "patch", "pkg-config", "python3", *LIBRARIES)
PACKAGES_HINT = f"Debian: apt-get install {' '.join(PACKAGES)}"

# The library that others preload is part of it.
_GUEST = HERE.parent / "guest"
SHIM = ("gcc", "-O2", "-D_GNU_SOURCE", "-iquote", str(_GUEST / "wire"), str(_GUEST / "host/qemu_shim.c"))

_STEP = re.compile(r"\[(\d+)/(\d+)\]")
_REQUEST = re.compile(r"(CONFIG_\w+)=y")


class BuildError(Exception):
    """One sentence for the user. ``hint`` says what to do, where there is something to do."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


# ---- What a QEMU is made of.


@dataclass(frozen=True)
class Inputs:
    """Everything that shapes the result. Two equal ones give the same program. ``version``: Debian's, of the source package."""

    version: str
    compiler: str
    libraries: tuple[str, ...]
    devices: str
    patches: tuple[tuple[str, str], ...]
    shim: str

    @property
    def key(self) -> str:
        """The name of the result in the cache."""
        parts = [RECIPE, self.version, self.compiler, self.libraries, sorted(requests(self.devices)), self.patches, self.shim]
        return hashlib.sha256(json.dumps([*parts, FEATURES, OPTIONS, FIRMWARE]).encode()).hexdigest()[:16]


def requests(devices: str) -> set[str]:
    """The symbols that a ``devices.mak`` asks for."""
    return {match[1] for line in devices.splitlines() if (match := _REQUEST.fullmatch(line))}


def lost(devices: str, final: str) -> list[str]:
    """The symbols that were asked for and are not in the configuration that QEMU's build made of them."""
    return sorted(requests(devices) - requests(final))


def missing(help_texts: Mapping[str, str]) -> list[str]:
    """What a finished QEMU does not know, by what it says to ``-device help`` and the like."""
    words = {option: set(re.findall(r"[\w.-]+", text)) for option, text in help_texts.items()}
    return [f"{option} {name}" for option, names in NEEDED.items() for name in names if name not in words.get(option, set())]


def gather() -> Inputs:
    """The inputs on this machine: the source is that of the QEMU which Debian has installed."""
    return Inputs(
        version=packages_say("${source:Version}\n", ["qemu-system-x86"])[0],
        compiler=output_of(["gcc", "--version"]).partition("\n")[0],
        libraries=tuple(packages_say("${Package} ${Version}\n", LIBRARIES)),
        devices=(HERE / "devices.mak").read_text(),
        patches=tuple((path.name, path.read_text()) for path in sorted((HERE / "patches").glob("*.patch"))),
        shim=output_of([*SHIM, "-E", "-P"]),
    )


def packages_say(what: str, names: Iterable[str]) -> list[str]:
    """A line about each of some installed packages."""
    done = run(["dpkg-query", "-W", f"-f={what}", *names])
    if done.returncode != 0:
        raise BuildError(f"cannot build QEMU: {done.stderr.strip()}", hint=PACKAGES_HINT)
    return done.stdout.splitlines()


# ---- Programs.


def run(argv: Sequence[str], **more: object) -> subprocess.CompletedProcess[str]:
    """Runs a program without input; its output as text."""
    try:
        return subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, **more)  # type: ignore[call-overload,no-any-return]
    except OSError as error:
        raise BuildError(f"cannot run {argv[0]}: {error.strerror}", hint=PACKAGES_HINT) from error


def output_of(argv: Sequence[str], **more: object) -> str:
    """Stdout of a program that is expected to work."""
    done = run(argv, **more)
    if done.returncode != 0:
        end = "\n".join((done.stdout + done.stderr).strip().splitlines()[-8:])
        raise BuildError(f"{argv[0]} ended with status {done.returncode}:\n{end}")
    return done.stdout


# ---- The source.


def source_list() -> str:
    """The archives that this machine has its packages from, as a list of sources."""
    form = "$(REPO_URI) $(RELEASE) $(COMPONENT)"
    lines = output_of(["apt-get", "indextargets", "--format", form, "Created-By: Packages", "Origin: Debian"]).splitlines()
    if not lines:
        raise BuildError("cannot find QEMU's source: apt knows no archive of Debian's")
    return "".join(f"deb-src {line}\n" for line in sorted(set(lines)))


def download(version: str, folder: Path) -> Path:
    """Has apt fetch and verify a version of the source package, and unpacks it with Debian's patches; the tree."""
    apt = folder / "apt"
    (apt / "lists/partial").mkdir(parents=True, exist_ok=True)
    (apt / "sources.list").write_text(source_list())
    places = {"Dir::Etc::sourcelist": apt / "sources.list", "Dir::Etc::sourceparts": "-", "Dir::State::lists": apt / "lists", "APT::Sandbox::User": "root"}
    options = [word for name, value in places.items() for word in ("-o", f"{name}={value}")]
    output_of(["apt-get", "-q", *options, "update"])
    output_of(["apt-get", "-q", *options, "source", "--download-only", f"qemu={version}"], cwd=folder)
    (description,) = folder.glob("*.dsc")
    tree = folder / "source"
    output_of(["dpkg-source", "--no-check", "-x", description.name, tree.name], cwd=folder)
    return tree


# ---- The build.


class Builder:
    """Makes one QEMU. ``say`` tells the user what goes on."""

    def __init__(self, cache: Path, inputs: Inputs, say: Callable[[str], None]) -> None:
        self.inputs = inputs
        self.say = say
        self.work = cache / "qemu-build"
        self.result = cache / "qemu" / inputs.key

    @property
    def program(self) -> Path:
        """What runv is given."""
        return self.result / PROGRAM

    def build(self, jobs: int) -> None:
        """Make it, unless somebody else made it while this call waited for its turn."""
        for tool in ("ninja", "meson", "gcc", "dpkg-source", "patch", "pkg-config"):
            if shutil.which(tool) is None:
                raise BuildError(f"cannot build QEMU: {tool}: not found", hint=PACKAGES_HINT)
        with self.locked():
            if self.program.exists():
                return
            began = time.monotonic()
            folder = self.work / self.inputs.key
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            self.say(f"qemu: fetching the source of {self.inputs.version}")
            tree = download(self.inputs.version, folder)
            self.prepare(tree)
            objects = folder / "objects"
            objects.mkdir()
            self.configure(tree, objects)
            self.compile(objects, jobs)
            self.publish(objects / PROGRAM, time.monotonic() - began)
            shutil.rmtree(folder)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One build at a time."""
        self.work.mkdir(parents=True, exist_ok=True)
        with (self.work / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.say("qemu: another build is under way, waiting for it")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def prepare(self, tree: Path) -> None:
        """Our patches and our list of devices."""
        for name, _ in self.inputs.patches:
            output_of(["patch", "-p1", "--no-backup-if-mismatch", "-i", str(HERE / "patches" / name)], cwd=tree)
        (tree / f"configs/devices/x86_64-softmmu/{DEVICES}.mak").write_text(self.inputs.devices)

    def configure(self, tree: Path, objects: Path) -> None:
        """All off but what is asked for. What got lost is an error."""
        shim = objects / "runv-qemu-shim.o"
        output_of([*SHIM, "-c", "-o", str(shim)])
        argv = [str(tree / "configure"), "--target-list=x86_64-softmmu", "--without-default-features", "--without-default-devices"]
        argv += [f"--with-devices-x86_64={DEVICES}", f"--with-pkgversion=runv, of Debian {self.inputs.version}"]
        # QEMU moves folders below its prefix to where its program is; what is outside stays.
        argv += ["--prefix=/nonexistent", f"--firmwarepath={FIRMWARE}", f"--extra-ldflags={shim} {BUILD_ID}"]
        argv += [*OPTIONS, *(f"--enable-{feature}" for feature in FEATURES)]
        output_of(argv, cwd=objects)
        if names := lost(self.inputs.devices, (objects / "x86_64-softmmu-config-devices.mak").read_text()):
            raise BuildError(f"cannot build QEMU: {len(names)} symbols got lost: {', '.join(names)}", hint="a symbol needs others that are off")

    def compile(self, objects: Path, jobs: int) -> None:
        """Run ninja and show how far it is."""
        progress = Progress(self.say, live=sys.stderr.isatty())
        tail: list[str] = []
        log_path = objects / "build.log"
        argv = ["ninja", f"-j{jobs}", PROGRAM]
        with log_path.open("w") as log, subprocess.Popen(
            argv, cwd=objects, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        ) as ninja:  # fmt: skip
            assert ninja.stdout is not None
            for line in ninja.stdout:
                log.write(line)
                tail = [*tail[-11:], line.rstrip()]
                progress.line(line)
        if ninja.returncode != 0:
            end = "\n".join(tail)
            raise BuildError(f"cannot build QEMU: ninja ended with status {ninja.returncode}:\n{end}", hint=f"the whole output is in {log_path}")

    def publish(self, program: Path, seconds: float) -> None:
        """Put the result into the cache under its key, when it knows all that runv asks of it."""
        temp = self.result.with_name(f".{self.result.name}.new")
        shutil.rmtree(temp, ignore_errors=True)
        temp.mkdir(parents=True)
        output_of(["strip", "-o", str(temp / PROGRAM), str(program)])
        says = {option: output_of([str(temp / PROGRAM), "-machine", "none", option, "help"]) for option in NEEDED if option != "-machine"}
        says["-machine"] = output_of([str(temp / PROGRAM), "-machine", "help"])
        if names := missing(says):
            raise BuildError(f"cannot build QEMU: it lacks {', '.join(names)}")
        about = {"key": self.inputs.key, "version": self.inputs.version, "compiler": self.inputs.compiler, "libraries": self.inputs.libraries}
        (temp / "build.json").write_text(json.dumps(about | {"build_seconds": round(seconds)}, indent=2) + "\n")
        temp.rename(self.result)
        self.say(f"qemu: built in {round(seconds)} s")


class Progress:
    """Follows ninja. ``live`` rewrites one line; otherwise there is a line for every tenth."""

    def __init__(self, say: Callable[[str], None], *, live: bool) -> None:
        self.say = say
        self.live = live
        self.tenth = 0

    def line(self, line: str) -> None:
        """Take note of a line of ninja's output."""
        match = _STEP.match(line)
        if not match:
            return
        done, total = int(match[1]), int(match[2])
        if self.live:
            sys.stderr.write(f"\r\033[Kqemu: {done} of {total} steps" + ("\n" if done == total else ""))
            sys.stderr.flush()
        elif done * 10 // total > self.tenth:
            self.tenth = done * 10 // total
            self.say(f"qemu: {done} of {total} steps")


# ---- The command.


def cache_folder(env: Mapping[str, str]) -> Path:
    """RUNV_CACHE, else below XDG_CACHE_HOME; empty counts as unset."""
    base = Path(env.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(env.get("RUNV_CACHE") or base / "runv").absolute()


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Build runv's own QEMU, or find the one that is built already.")
    parser.add_argument("--print-path", action="store_true", help="print where it is and build nothing")
    parser.add_argument("-j", "--jobs", type=int, default=os.cpu_count() or 1, help="default: one per CPU")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    options = parse_arguments(argv)
    try:
        builder = Builder(cache_folder(os.environ), gather(), lambda text: print(text, file=sys.stderr, flush=True))
        if not options.print_path and not builder.program.exists():
            builder.build(options.jobs)
        print(builder.program)
        return 0 if builder.program.exists() else 1
    except BuildError as error:
        print(f"build_qemu.py: {error}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
