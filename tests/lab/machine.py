"""The lab's machine: QEMU, the daemons that share host directories with it, and the streams that come out of it.

Nothing of it has a name on the host. Sockets are connected before the programs start and inherited, the initrd is a
memfd, and each child dies with this process; so that there is nothing to clean up, however this process ends.
"""

import ctypes
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab.errors import LabError
from tests.lab.initrd import Job, build_initrd
from tests.lab.kernel import Kernel

VIRTIOFSD = Path("/usr/lib/qemu/virtiofsd")

# As timeout(1) does.
STATUS_DEADLINE = 124

# The guest is up in 5 s; on a busy machine it has been seen to take 20.
BOOT_DEADLINE_S = 120.0

# How long the guest may take, after the deadline of its job, to tell what stands still.
ACCOUNT_DEADLINE_S = 60.0

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Size:
    """How big the lab is."""

    memory_mib: int = 4096
    cpus: int = 2


@dataclass
class Stream:
    """One of the guest's ports, or its console: what arrives goes to ``sink``."""

    name: str
    ours: socket.socket
    theirs: socket.socket
    sink: Callable[[bytes], None]


@dataclass
class Report:
    """What the guest said about itself."""

    control: bytearray = field(default_factory=bytearray)
    console: bytearray = field(default_factory=bytearray)

    @property
    def ready(self) -> bool:
        """The job has been started."""
        return b"ready\n" in self.control

    @property
    def accounted(self) -> bool:
        """What stands still was told."""
        return b"accounted\n" in self.control

    @property
    def status(self) -> int | None:
        """The exit status of the job, if it has ended."""
        for line in self.control.decode().splitlines(keepends=True):
            if line.startswith("exit ") and line.endswith("\n"):
                return int(line[5:])
        return None

    def add_console(self, data: bytes) -> None:
        """Keep the end of what the kernel says."""
        self.console += data
        del self.console[:-8192]


def run_job(kernel: Kernel, job: Job, size: Size, timeout_s: float) -> int:
    """Run the job in a lab of its own; its exit status, or STATUS_DEADLINE. The output goes to ours as it comes."""
    report = Report()
    with ExitStack() as stack:
        streams = [
            open_stream(stack, "lab.stdout", lambda data: write_all(sys.stdout.fileno(), data)),
            open_stream(stack, "lab.stderr", lambda data: write_all(sys.stderr.fileno(), data)),
            open_stream(stack, "lab.control", report.control.extend),
            open_stream(stack, "console", report.add_console),
        ]
        # QEMU warns of each feature that an EPYC has and TCG has not: that is shown only when the lab fails.
        errors = streams[-1].theirs.fileno()
        shares = [stack.enter_context(shared_directory("lab-root", Path("/"), "always", errors))]
        if job.results:
            shares.append(stack.enter_context(shared_directory("lab-results", job.results, "auto", errors)))
        initrd = memory_file(stack, build_initrd(kernel, job))
        argv = qemu_argv(kernel, size, initrd, streams, shares)
        ends = [*(stream.theirs for stream in streams), *(share.client for share in shares)]
        qemu = stack.enter_context(child(argv, [initrd, *(end.fileno() for end in ends)], errors))
        # From here on QEMU alone holds these ends: their other ends see its end.
        for end in ends:
            end.close()
        return carry(qemu, streams, report, timeout_s)


# ---- What the machine is.


@dataclass(frozen=True)
class Share:
    """A directory of the host: its name in the guest, and the connection to the daemon, which is for QEMU."""

    tag: str
    client: socket.socket


def qemu_argv(kernel: Kernel, size: Size, initrd: int, streams: Sequence[Stream], shares: Sequence[Share]) -> list[str]:
    """QEMU's command line."""
    argv = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]
    # An EPYC with nested paging is what TCG can emulate of virtualisation; Intel's it cannot.
    argv += ["-machine", "q35,memory-backend=memory", "-cpu", "EPYC,+svm,+npt"]
    argv += ["-accel", "tcg,thread=multi,tb-size=512"]
    # vhost-user daemons map the guest's memory, so it has to be a shared file.
    argv += ["-object", f"memory-backend-memfd,id=memory,size={size.memory_mib}M,share=on"]
    argv += ["-m", f"{size.memory_mib}M", "-smp", str(size.cpus)]
    argv += ["-kernel", str(kernel.image), "-initrd", f"/proc/self/fd/{initrd}"]
    argv += ["-append", "console=ttyS0 quiet panic=-1 reboot=t"]
    argv += ["-device", "virtio-rng-pci", "-device", "virtio-serial-pci"]
    for stream in streams:
        argv += ["-chardev", f"socket,id={stream.name},fd={stream.theirs.fileno()}"]
        if stream.name == "console":
            argv += ["-serial", "chardev:console"]
        else:
            argv += ["-device", f"virtserialport,chardev={stream.name},name={stream.name}"]
    for share in shares:
        argv += ["-chardev", f"socket,id={share.tag},fd={share.client.fileno()}"]
        argv += ["-device", f"vhost-user-fs-pci,chardev={share.tag},tag={share.tag},queue-size=1024"]
    return argv


def open_stream(stack: ExitStack, name: str, sink: Callable[[bytes], None]) -> Stream:
    """A socket pair, both ends closed with ``stack``."""
    ours, theirs = socket.socketpair()
    stack.enter_context(ours)
    stack.enter_context(theirs)
    return Stream(name, ours, theirs, sink)


def memory_file(stack: ExitStack, content: bytes) -> int:
    """A file without a name, closed with ``stack``."""
    fd = os.memfd_create("initrd", os.MFD_CLOEXEC)
    stack.callback(os.close, fd)
    write_all(fd, content)
    return fd


# ---- Processes.


@contextmanager
def child(argv: Sequence[str], inherited: Sequence[int], errors: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is killed at the end of the block, and by the kernel if this process dies before."""
    null = subprocess.DEVNULL
    try:
        process = subprocess.Popen(
            argv, stdin=null, stdout=errors, stderr=errors, pass_fds=inherited, preexec_fn=_die_with_parent
        )
    except OSError as error:
        raise LabError(f"cannot run {argv[0]}: {error.strerror}", hint="Debian: qemu-system-x86") from error
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


@contextmanager
def shared_directory(tag: str, directory: Path, cache: str, errors: int) -> Iterator[Share]:
    """A virtiofsd for ``directory`` and a connection to it. It ends with QEMU, its only client."""
    with socket.socket(socket.AF_UNIX) as client:
        # The daemon takes a listening socket only, which needs a name for as long as it takes to connect to it.
        with tempfile.TemporaryDirectory(prefix="runv-lab-") as folder, socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"{folder}/socket")
            listener.listen(1)
            client.connect(f"{folder}/socket")
            fd = os.dup(listener.fileno())
        argv = [str(VIRTIOFSD), f"--fd={fd}", "-o", f"source={directory}", "-o", f"cache={cache}"]
        # Not sandbox=namespace: pivot_root() refuses to make the root the root.
        argv += ["-o", "sandbox=chroot", "-o", "log_level=err"]
        with child(argv, [fd], errors):
            os.close(fd)
            yield Share(tag, client)


# ---- The run.


def carry(qemu: subprocess.Popen[bytes], streams: Sequence[Stream], report: Report, timeout_s: float) -> int:
    """Carry the output until the machine ends; the status of the job."""
    began = time.monotonic()
    with selectors.DefaultSelector() as selector:
        for stream in streams:
            selector.register(stream.ours, selectors.EVENT_READ, stream)
        while selector.get_map():
            limit = timeout_s if report.ready else min(timeout_s, BOOT_DEADLINE_S)
            remaining = began + limit - time.monotonic()
            if remaining <= 0:
                if report.ready:
                    ask_for_account(selector, streams, report)
                return give_up(report, limit)
            carry_some(selector, remaining)
    qemu.wait()
    if report.status is None:
        raise LabError(f"the lab ended before the command did\n{console_tail(report)}")
    return report.status


def carry_some(selector: selectors.BaseSelector, timeout_s: float) -> bool:
    """Carry what is there; false when nothing came."""
    ready = selector.select(timeout_s)
    for key, _ in ready:
        stream = key.data
        if data := receive(stream.ours):
            stream.sink(data)
        else:
            selector.unregister(stream.ours)
    return bool(ready)


def ask_for_account(selector: selectors.BaseSelector, streams: Sequence[Stream], report: Report) -> None:
    """The deadline has passed: have the guest tell, on the command's stderr, what stands still in it."""
    deadline = time.monotonic() + ACCOUNT_DEADLINE_S
    try:
        next(stream for stream in streams if stream.name == "lab.control").ours.sendall(b"account\n")
    except OSError:  # QEMU is gone
        return
    while selector.get_map() and not report.accounted and (left := deadline - time.monotonic()) > 0:
        carry_some(selector, left)
    # Of a port that was written to before, the last may be read after.
    while selector.get_map() and carry_some(selector, 0):
        continue


def give_up(report: Report, limit_s: float) -> int:
    """The deadline has passed: of the job, or of the boot, which is a defect of the lab."""
    if not report.ready:
        raise LabError(f"the lab did not come up within {limit_s:.0f} s\n{console_tail(report)}")
    sys.stdout.flush()
    print(f"lab: the command did not end within {limit_s:.0f} s", file=sys.stderr, flush=True)
    return STATUS_DEADLINE


def console_tail(report: Report) -> str:
    """The last lines of the kernel."""
    return "\n".join(report.console.decode(errors="replace").splitlines()[-20:])


def receive(connection: socket.socket) -> bytes:
    """What is there to read; nothing at the end, whichever way QEMU ended."""
    try:
        return connection.recv(65536)
    except ConnectionResetError:
        return b""


def write_all(fd: int, data: bytes) -> None:
    """write(2) until all is written."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
