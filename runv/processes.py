"""Host processes: who they are (a pid *and* a start time), and how ours are started and ended.

Nothing here imports ``subprocess``: it costs more than what we need of it, and the children here want things it cannot do
(namespaces, cgroups, and writing down their own pid before they run).
"""

import os
import select
import time

from runv.errors import HostError
from runv.files import read_text
from runv.quick import signal, suppress

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_START_TIME_FIELD = 19  # of /proc/PID/stat, counted from behind the command's closing parenthesis
_FIRST_FD = 3
_STEP_S = 0.001


class Identity:
    """A process that cannot be mistaken for a later one with the same pid. ``start``: clock ticks since boot, 0 when unknown."""

    __slots__ = ("pid", "start")

    def __init__(self, pid: int, start: int) -> None:
        self.pid = pid
        self.start = start

    def alive(self) -> bool:
        """Whether it runs. One that has ended and was not waited for does not."""
        status = _status(self.pid)
        return status is not None and status[0] not in "ZXx" and status[1] == self.start

    def __str__(self) -> str:
        return f"{self.pid} {self.start}"


def identify(pid: int) -> Identity:
    """The identity of a process that exists now (start 0 when it does not)."""
    status = _status(pid)
    return Identity(pid, status[1] if status else 0)


def _status(pid: int) -> tuple[str, int] | None:
    """State letter and start time of a process; None when there is none."""
    try:
        fields = read_text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return fields[0], int(fields[_START_TIME_FIELD])


def read_identity(path: str) -> Identity | None:
    """What a child wrote as its pid file; None when it never came that far, or the file is not whole."""
    try:
        pid, _, start = read_text(path).partition(" ")
        return Identity(int(pid), int(start))
    except (FileNotFoundError, ValueError):
        return None


class Entry:
    """How a child comes to where it is to be, before all else: this one is where its parent is."""

    def fork(self) -> int:
        """Makes the child, as ``os.fork`` does."""
        return os.fork()

    def enter(self) -> None:
        """What the child itself has to do for it. Raises ``OSError``."""


def spawn(
    argv: list[str],
    *,
    env: "Mapping[str, str]",
    stdio: tuple[int, int, int],
    keep: "Iterable[int]" = (),
    pid_file: str,
    session: bool = True,
    entry: "Entry | None" = None,
    prepare: "Callable[[], None] | None" = None,
    meanwhile: "Callable[[], object]" = lambda: None,
) -> Identity:
    """Starts a program as a child that outlives us. Returns when it executes.

    :param stdio: our descriptors that become its 0, 1 and 2
    :param keep: our descriptors that it inherits under their own numbers; every other one is closed
    :param pid_file: where the child writes its identity *before* it runs the program, so that there is never a
        process of ours that nobody knows of, whenever we are killed
    :param entry: where the child is to be, as of ``cgroups.Entry``; it is there before all that
    :param prepare: called in the child then, before all that; its ``OSError`` becomes ours
    :param meanwhile: called here while the child does all that
    :raise HostError: something of it failed; the child is gone then
    """

    way = entry or Entry()

    def become() -> None:
        if session:
            os.setsid()
        way.enter()
        if prepare is not None:
            prepare()
        _write_pid_file(pid_file)
        os.chdir("/")

    try:
        return identify(execute(argv[0], argv, env=env, stdio=stdio, keep=keep, fork=way.fork, prepare=become, meanwhile=meanwhile))
    except OSError as error:
        raise HostError(f"start {os.path.basename(argv[0])}: {error.filename}", error) from error


def execute(
    program: str,
    argv: list[str],
    *,
    env: "Mapping[str, str]",
    stdio: tuple[int, int, int],
    keep: "Iterable[int]" = (),
    fork: "Callable[[], int]" = os.fork,
    prepare: "Callable[[], None]",
    meanwhile: "Callable[[], object]" = lambda: None,
) -> int:
    """Starts a program as a child, whose pid this is, and returns when it executes; parameters as of ``spawn``. Raises the child's ``OSError``."""
    kept = sorted(set(keep))
    report_read, report_write = os.pipe2(os.O_CLOEXEC)
    pid = fork()
    if pid == 0:
        _child(program, argv, env, stdio, kept, prepare, report_write)
    os.close(report_write)
    with os.fdopen(report_read, "rb") as report:
        meanwhile()
        failure = report.read()
    if failure:
        os.waitpid(pid, 0)
        number, _, what = failure.decode(errors="surrogateescape").partition(" ")
        raise OSError(int(number), os.strerror(int(number)), what)
    return pid


def _child(
    program: str,
    argv: list[str],
    env: "Mapping[str, str]",
    stdio: tuple[int, int, int],
    keep: list[int],
    prepare: "Callable[[], None]",
    report: int,
) -> None:
    """The child's side of ``execute``; never returns."""
    try:
        prepare()
        _arrange_descriptors(stdio, [*keep, report])
        os.set_inheritable(report, False)
        _default_signals()
        os.execve(program, argv, dict(env))
    except OSError as error:
        os.write(report, f"{error.errno or 5} {error.filename or program}".encode(errors="surrogateescape"))
    finally:
        os._exit(127)


def _write_pid_file(path: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    os.write(fd, str(identify(os.getpid())).encode())
    os.close(fd)


def _arrange_descriptors(stdio: tuple[int, int, int], keep: list[int]) -> None:
    # dup2 onto 0..2 may overwrite a source that is needed later: so first out of the way.
    sources = [os.dup(fd) if fd < _FIRST_FD else fd for fd in stdio]
    for target, source in enumerate(sources):
        os.dup2(source, target)
    low = _FIRST_FD
    for fd in sorted(keep):
        os.closerange(low, fd)
        os.set_inheritable(fd, True)
        low = fd + 1
    os.closerange(low, 1 << 20)


def _default_signals() -> None:
    # Python ignores these two; a program must not inherit that.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def exit_status(child: Identity, timeout_s: float) -> int | None:
    """How a child of ours has ended, as ``os.waitstatus_to_exitcode`` has it; it stays to be waited for. None when it runs on for ``timeout_s``,
    or is no child of ours."""
    try:
        pidfd = os.pidfd_open(child.pid)
    except ProcessLookupError:
        return None
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.poll(timeout_s * 1000)
        found = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    finally:
        os.close(pidfd)
    if found is None:
        return None
    return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status


def kill_and_wait(process: Identity, timeout_s: float) -> bool:
    """Kills a process and waits until it is gone. False when it was not after ``timeout_s``."""
    return kill_all([process], timeout_s) is None


def kill_all(processes: "Iterable[Identity | None]", timeout_s: float) -> Identity | None:
    """Kills processes, and only then waits for the first: they take their time beside each other. Returns one that is not gone after ``timeout_s``
    of waiting for it."""
    dying: list[tuple[Identity, int]] = []
    try:
        for process in processes:
            if process is not None and (pidfd := _kill(process)) >= 0:
                dying.append((process, pidfd))
        return next((process for process, pidfd in dying if not wait_for_end(process, pidfd, timeout_s)), None)
    finally:
        for _, pidfd in dying:
            os.close(pidfd)


def _kill(process: Identity) -> int:
    """A descriptor of the process, which was sent SIGKILL; -1 where it has ended."""
    try:
        pidfd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return -1
    if not process.alive():
        os.close(pidfd)
        _reap(process.pid)
        return -1
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    return pidfd


def wait_for_end(process: Identity, pidfd: int, timeout_s: float) -> bool:
    """Waits until the process behind ``pidfd`` has ended. False when it had not after ``timeout_s``."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    ended = bool(poll.poll(timeout_s * 1000))
    if ended:
        _reap(process.pid)
    return ended


def wait_reaped(processes: "Iterable[Identity]", timeout_s: float) -> bool:
    """Waits until others have waited for their children that have ended. False when one had not after ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    for process in processes:
        while (status := _status(process.pid)) is not None and status[1] == process.start:
            if time.monotonic() > deadline:
                return False
            time.sleep(_STEP_S)
    return True


def _reap(pid: int) -> None:
    # It may be a child of ours (a foreground run) or somebody else's.
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def wait_gone(process: Identity, timeout_s: float) -> bool:
    """Waits until a process, not of our own starting, has ended."""
    deadline = time.monotonic() + timeout_s
    try:
        pidfd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    try:
        return not process.alive() or wait_for_end(process, pidfd, max(0.0, deadline - time.monotonic()))
    finally:
        os.close(pidfd)
