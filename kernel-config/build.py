#!/usr/bin/env python3
"""Build the guest kernel from the fragments beside this file, or find the one that is built already.

    build.py                build if needed, print the path of vmlinux
    build.py --print-path   print that path and build nothing; status 1 where it is not there yet
    build.py --check        make the configuration and check it, compile nothing

Stdout carries the path only; what goes on is told on stderr. README.md has the settings and the layout of the cache.
"""

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fragments import BuildError, Request, lost_symbols, parse_config, parse_fragment, reject_repeats

HERE = Path(__file__).resolve().parent
DEFAULT_SOURCE = Path("/usr/src/linux-source-6.1.tar.xz")

# Changes when this program makes another result of the same inputs.
RECIPE = 1

# Lines that make prints for a whole build on x86_64. Only the progress display uses it.
EXPECTED_STEPS = 2480

_STEP = re.compile(r"  (?:CC|AS|AR|LD|HOSTCC|HOSTLD|GEN|UPD)\b")

# The jobserver of a make that calls us is not open in this process; its flags would only confuse the kernel's make.
_FOREIGN = frozenset({"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "GNUMAKEFLAGS", "ARCH", "O", "V", "W", "C"})


# ---- What a kernel is made of, and where it goes.


@dataclass(frozen=True)
class Arch:
    """An architecture as we name it and as the kernel's build does."""

    name: str
    make: str
    target: str
    image: str


ARCHES = {
    "x86_64": Arch("x86_64", "x86_64", "vmlinux", "vmlinux"),
    "aarch64": Arch("aarch64", "arm64", "Image", "arch/arm64/boot/Image"),
}


@dataclass(frozen=True)
class Fragment:
    """A file of requests."""

    name: str
    text: str


@dataclass(frozen=True)
class Inputs:
    """Everything that shapes the result. Two equal ones give the same kernel."""

    arch: str
    source_id: str
    compiler: str
    fragments: tuple[Fragment, ...]

    @property
    def key(self) -> str:
        """The name of the result in the cache. What the fragments ask for counts, not how they word the reasons."""
        wishes = sorted((request.symbol, request.value) for request in self.requests())
        parts = [RECIPE, self.arch, self.source_id, self.compiler, wishes]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    def requests(self) -> list[Request]:
        """All requests of all fragments, none twice."""
        requests = [request for f in self.fragments for request in parse_fragment(f.name, f.text)]
        reject_repeats(requests)
        return requests


@dataclass(frozen=True)
class Settings:
    """What the environment says."""

    source: Path
    cache: Path
    cc: str
    cross_compile: str

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> "Settings":
        """RUNV_KERNEL_SOURCE, RUNV_CACHE, XDG_CACHE_HOME, CC and CROSS_COMPILE; empty counts as unset."""
        base = Path(env.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        cross = env.get("CROSS_COMPILE", "")
        return cls(
            source=Path(env.get("RUNV_KERNEL_SOURCE") or DEFAULT_SOURCE).absolute(),
            cache=Path(env.get("RUNV_CACHE") or base / "runv").absolute(),
            cc=env.get("CC") or f"{cross}gcc",
            cross_compile=cross,
        )


def read_fragments(directory: Path, arch: Arch) -> tuple[Fragment, ...]:
    """The fragments of all topics, and the one of this architecture."""
    own = directory / f"{arch.name}.config"
    if not own.is_file():
        raise BuildError(f"cannot build a kernel for {arch.name}: there is no {own.name}")
    others = {f"{name}.config" for name in ARCHES if name != arch.name}
    paths = sorted(path for path in directory.glob("*.config") if path.name not in others)
    return tuple(Fragment(path.name, path.read_text()) for path in paths)


# ---- Questions to programs.


def output_of(argv: Sequence[str]) -> str:
    """Stdout of a program that is expected to work."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    except OSError as error:
        raise BuildError(f"cannot run {argv[0]}: {error.strerror}", hint=PACKAGES_HINT) from error
    if done.returncode != 0:
        raise BuildError(f"{argv[0]} ended with status {done.returncode}: {done.stderr.strip()}")
    return done.stdout


PACKAGES = ("make", "gcc", "libc6-dev", "binutils", "flex", "bison", "bc", "perl", "libelf-dev", "xz-utils")
PACKAGES_HINT = f"Debian: apt-get install {' '.join(PACKAGES)} linux-source-6.1"


def check_tools(settings: Settings) -> None:
    """Say what is missing now, by name, rather than let make end in the middle with a riddle."""
    cross = settings.cross_compile
    tools = ["make", settings.cc.split()[0], f"{cross}ld", f"{cross}strip", "flex", "bison", "bc", "perl", "tar", "xz"]
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        raise BuildError(f"cannot build kernel: {missing[0]}: not found", hint=PACKAGES_HINT)
    # objtool, which the x86 build runs on every object, is linked against libelf.
    probe = subprocess.run(
        ["gcc", "-E", "-include", "gelf.h", "-x", "c", "/dev/null"], capture_output=True, check=False
    )
    if probe.returncode != 0:
        raise BuildError("cannot build kernel: gelf.h: not found", hint=PACKAGES_HINT)


def compiler_version(settings: Settings) -> str:
    """The first line of ``gcc --version``; Debian's includes the package's revision."""
    return output_of([*settings.cc.split(), "--version"]).partition("\n")[0]


# ---- The source.


def source_id(settings: Settings) -> str:
    """What names the source in the key of the cache: content where that can be had, else the path and its Makefile."""
    source = settings.source
    if source.is_dir():
        return tree_id(source)
    if not source.is_file():
        hint = "install linux-source-6.1, or set RUNV_KERNEL_SOURCE to a tree or a tarball"
        raise BuildError(f"cannot build kernel: no source at {source}", hint=hint)
    return tarball_id(source, settings.cache / "kernel-build")


def tree_id(tree: Path) -> str:
    """A git tree is its commit and its changes. Any other is taken to be as its Makefile says (or use --force)."""
    try:
        makefile = (tree / "Makefile").read_bytes()
    except OSError as error:
        raise BuildError(f"cannot build kernel: {tree} is not a kernel tree: {error.strerror}") from error
    parts = [str(tree), hashlib.sha256(makefile).hexdigest()]
    if (tree / ".git").exists():
        parts.append(output_of(["git", "-C", str(tree), "rev-parse", "HEAD"]))
        parts.append(output_of(["git", "-C", str(tree), "diff", "HEAD"]))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def tarball_id(tarball: Path, build_root: Path) -> str:
    """The hash of the content, remembered by size and time: hashing 140 MB takes longer than all the rest."""
    stat = tarball.stat()
    stamp = f"{tarball} {stat.st_size} {stat.st_mtime_ns}"
    memo = build_root / "source-ids.json"
    known: dict[str, str] = {}
    with contextlib.suppress(OSError, ValueError):
        known = json.loads(memo.read_text())
    if stamp not in known:
        with tarball.open("rb") as file:
            known[stamp] = hashlib.file_digest(file, "sha256").hexdigest()
        build_root.mkdir(parents=True, exist_ok=True)
        write_file(memo, json.dumps(known, indent=1) + "\n")
    return known[stamp]


def write_file(path: Path, text: str) -> None:
    """Replace ``path`` as a whole."""
    temp = path.with_name(f".{path.name}.{os.getpid()}")
    temp.write_text(text)
    temp.rename(path)


def unpack(tarball: Path, folder: Path) -> None:
    """Unpack the only top directory of ``tarball`` as ``folder``, which is complete as soon as it is there."""
    temp = folder.with_name(f".{folder.name}.unpacking")
    shutil.rmtree(temp, ignore_errors=True)
    temp.mkdir(parents=True)
    argv = ["tar", "-x", "-f", str(tarball), "-C", str(temp), "--strip-components=1"]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(f"cannot unpack {tarball}: {done.stderr.partition(chr(10))[0]}")
    temp.rename(folder)


# ---- The build.


@dataclass(frozen=True)
class Workplace:
    """The folders of one build. The object files stay, so that the next build compiles only what changed."""

    source: Path
    objects: Path
    result: Path

    @property
    def log(self) -> Path:
        """All that make printed."""
        return self.objects / "build.log"


class Builder:
    """Makes one kernel. ``say`` tells the user what goes on."""

    def __init__(self, settings: Settings, arch: Arch, inputs: Inputs, say: Callable[[str], None]) -> None:
        self.settings = settings
        self.arch = arch
        self.inputs = inputs
        self.say = say
        self.build_root = settings.cache / "kernel-build"
        folder = self.build_root / inputs.source_id[:16]
        tree = settings.source if settings.source.is_dir() else folder / "source"
        result = settings.cache / "kernel" / inputs.key
        self.place = Workplace(tree, folder / f"build-{arch.name}", result)
        self.lock_fd = -1

    @property
    def image(self) -> Path:
        """What QEMU is given."""
        return self.place.result / self.arch.target

    def check(self) -> str:
        """Make the configuration and check it; the sentence that says all is well."""
        requests = self.inputs.requests()
        check_tools(self.settings)
        with self.locked():
            final = self.configure(requests, self.place.objects.with_name(f"check-{self.arch.name}"))
        built_in = sum(value == "y" for value in final.values())
        return f"{len(requests)} requests honoured, {built_in} symbols built in"

    def build(self, jobs: int, *, force: bool) -> None:
        """Make the kernel, unless somebody else made it while this call waited for its turn."""
        requests = self.inputs.requests()
        check_tools(self.settings)
        with self.locked():
            if self.image.exists() and not force:
                return
            began = time.monotonic()
            self.configure(requests, self.place.objects)
            self.compile(jobs)
            self.publish(time.monotonic() - began)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One build at a time. make inherits the lock: if this process is killed, the next one waits for its make."""
        self.build_root.mkdir(parents=True, exist_ok=True)
        with (self.build_root / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.say("kernel: another build is under way, waiting for it")
                fcntl.flock(lock, fcntl.LOCK_EX)
            self.lock_fd = lock.fileno()
            yield

    def configure(self, requests: Sequence[Request], objects: Path) -> dict[str, str]:
        """Everything off, then what the fragments ask for, then what that needs. What got lost is an error."""
        if not self.place.source.is_dir():
            self.say(f"kernel: unpacking {self.settings.source}")
            unpack(self.settings.source, self.place.source)
        objects.mkdir(parents=True, exist_ok=True)
        wanted = objects / "fragments.config"
        wanted.write_text("".join(fragment.text for fragment in self.inputs.fragments))
        self.run_make(objects, [f"KCONFIG_ALLCONFIG={wanted}", "allnoconfig"], lambda _: None)
        final = parse_config((objects / ".config").read_text())
        if lost := lost_symbols(requests, final):
            more = "\n".join(lost)
            hint = "a symbol needs others that are off, or this kernel spells it differently"
            raise BuildError(f"cannot build kernel: {len(lost)} symbols got lost:\n{more}", hint=hint)
        return final

    def compile(self, jobs: int) -> None:
        """Run make and show how far it is."""
        progress = Progress(self.say, live=sys.stderr.isatty())
        self.run_make(self.place.objects, [f"-j{jobs}", self.arch.target], progress.line)
        progress.done()

    def run_make(self, objects: Path, arguments: Sequence[str], watch: Callable[[str], None]) -> None:
        """Run the kernel's make with its output into the log and, line by line, to ``watch``."""
        settings = self.settings
        argv = ["make", "-C", str(self.place.source), f"O={objects}", f"ARCH={self.arch.make}"]
        argv += [f"CC={settings.cc}", f"CROSS_COMPILE={settings.cross_compile}", *self.identity(), *arguments]
        env = {name: value for name, value in os.environ.items() if name not in _FOREIGN} | {"LC_ALL": "C"}
        tail: list[str] = []
        with (objects / "build.log").open("w") as log, subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace", env=env, pass_fds=(self.lock_fd,),
        ) as make:  # fmt: skip
            assert make.stdout is not None
            for line in make.stdout:
                log.write(line)
                tail = [*tail[-11:], line.rstrip()]
                watch(line)
        if make.returncode != 0:
            hint = f"the whole output is in {objects / 'build.log'}"
            end = "\n".join(tail)
            raise BuildError(f"cannot build kernel: make ended with status {make.returncode}:\n{end}", hint=hint)

    def identity(self) -> list[str]:
        """What ``uname -v`` says: of the source, not of the machine, the user and the hour of the build."""
        stamp = time.strftime("%Y-%m-%d", time.gmtime((self.place.source / "Makefile").stat().st_mtime))
        return [
            "KBUILD_BUILD_USER=runv",
            "KBUILD_BUILD_HOST=runv",
            "KBUILD_BUILD_VERSION=1",
            f"KBUILD_BUILD_TIMESTAMP={stamp}",
        ]

    def publish(self, seconds: float) -> None:
        """Put the result into the cache under its key, all files at once."""
        result = self.place.result
        result.parent.mkdir(parents=True, exist_ok=True)
        for leftover in result.parent.glob(".*"):
            shutil.rmtree(leftover)
        temp = result.with_name(f".{result.name}.new")
        temp.mkdir()
        image = temp / self.arch.target
        shutil.copyfile(self.place.objects / self.arch.image, image)
        if self.arch.target == "vmlinux":
            output_of([f"{self.settings.cross_compile}strip", str(image)])
        shutil.copyfile(self.place.objects / ".config", temp / "config")
        shutil.copyfile(self.place.objects / "System.map", temp / "System.map")
        (temp / "build.json").write_text(json.dumps(self.record(image, seconds), indent=2) + "\n")
        if result.exists():
            result.rename(result.with_name(f".{result.name}.old"))
        temp.rename(result)
        shutil.rmtree(result.with_name(f".{result.name}.old"), ignore_errors=True)

    def record(self, image: Path, seconds: float) -> dict[str, object]:
        """build.json: where the kernel came from."""
        release = self.place.objects / "include/config/kernel.release"
        return {
            "key": self.inputs.key,
            "arch": self.arch.name,
            "release": release.read_text().strip(),
            "source": str(self.settings.source),
            "source_id": self.inputs.source_id,
            "compiler": self.inputs.compiler,
            "fragments": [fragment.name for fragment in self.inputs.fragments],
            "image_bytes": image.stat().st_size,
            "build_seconds": round(seconds),
        }


class Progress:
    """Counts what make prints. ``live`` rewrites one line; otherwise there is a line for every tenth."""

    def __init__(self, say: Callable[[str], None], *, live: bool, expected: int = EXPECTED_STEPS) -> None:
        self.say = say
        self.live = live
        self.expected = expected
        self.steps = 0
        self.tenth = 0
        self.began = time.monotonic()

    def line(self, line: str) -> None:
        """Take note of a line of make's output."""
        if not _STEP.match(line):
            return
        self.steps += 1
        # The number expected is an estimate, so 100 % is only said when make has ended.
        percent = min(99, self.steps * 100 // self.expected)
        if self.live:
            sys.stderr.write(f"\r\033[K{self.text(percent)}")
            sys.stderr.flush()
        elif percent // 10 > self.tenth:
            self.tenth = percent // 10
            self.say(self.text(percent))

    def done(self) -> None:
        """make has ended well."""
        if self.live:
            sys.stderr.write("\r\033[K")
        self.say(self.text(100))

    def text(self, percent: int) -> str:
        """``kernel: 1234 of about 2480 objects, 51 %, 3:05``."""
        minutes, seconds = divmod(int(time.monotonic() - self.began), 60)
        total = "" if percent == 100 else f" of about {self.expected}"
        return f"kernel: {self.steps}{total} objects, {percent} %, {minutes}:{seconds:02}"


# ---- The command.


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Build the guest kernel, or find the one that is built already.")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--print-path", action="store_true", help="print where the kernel is and build nothing")
    what.add_argument("--check", action="store_true", help="only make the configuration and check it")
    what.add_argument("--force", action="store_true", help="build although there is a result")
    parser.add_argument("--arch", choices=sorted(ARCHES), default=platform.machine(), help="default: this machine's")
    parser.add_argument("-j", "--jobs", type=int, default=os.cpu_count() or 1, help="default: one per CPU")
    return parser.parse_args(argv)


def run(options: argparse.Namespace, say: Callable[[str], None]) -> int:
    """Do what was asked; the exit status."""
    if options.arch not in ARCHES:
        raise BuildError(f"cannot build a kernel for {options.arch}", hint=f"one of: {', '.join(sorted(ARCHES))}")
    arch = ARCHES[options.arch]
    settings = Settings.from_environment(os.environ)
    inputs = Inputs(arch.name, source_id(settings), compiler_version(settings), read_fragments(HERE, arch))
    builder = Builder(settings, arch, inputs, say)
    if options.check:
        say(f"kernel: {builder.check()}")
        return 0
    if not options.print_path and (options.force or not builder.image.exists()):
        builder.build(options.jobs, force=options.force)
    print(builder.image)
    return 0 if builder.image.exists() else 1


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    try:
        return run(parse_arguments(argv), lambda text: print(text, file=sys.stderr, flush=True))
    except BuildError as error:
        print(f"build.py: {error}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
