"""runv as hyperd calls it: commands as subprocesses with a deadline each, and looks at its state root in-process."""

import asyncio
import contextlib
import io
import json
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Any

from hyperd.errors import MissingError, UnavailableError
from runv import state
from runv.errors import RunvError
from runv.sandbox.layout import SandboxFolder
from runv.sandbox.storage import copies
from runv.settings import AUTO, load

# A message of runv's is a line; what is longer is a guest's.
_MESSAGE_MAX = 2000
_OUTPUT_MAX = 16 << 20
# What translations are called that pods' machines have recorded: their roots are of layers on disks, which no ordinary container has.
_TRANSLATIONS = "pods"


class RunvFailure(UnavailableError):
    """A call of runv ended with an error. ``code`` is its exit status, -1 when it took too long."""

    def __init__(self, message: str, *, code: int) -> None:
        super().__init__(message)
        self.code = code


class Runv:
    """The runtime with one state root.

    :param program: a path, or a name to look up in PATH; empty: the one beside this installation, or else in PATH
    :param environment: added to that of the process
    :param records: somebody will have machines record what they translate; then no others do so in the background
    """

    def __init__(
        self, program: str, root: Path, *, command_s: float, environment: dict[str, str] | None = None, records: bool = False
    ) -> None:
        self.root = root
        self._program = shutil.which(program or _installed()) or program or "runv"
        self._unprotected = _unprotected()
        self._command_s = command_s
        try:
            settings = load()
        except RunvError as error:
            raise UnavailableError(f"cannot read runv's settings: {error}") from error
        self._keeps = settings.text("tcg_keep") == AUTO
        self._environment = {**os.environ, **(environment or {})}
        if not settings.text("tcg_name"):
            self._environment["RUNV_TCG_NAME"] = _TRANSLATIONS
        if records and self._keeps:
            self._environment["RUNV_TCG_KEEP"] = "take"
        # A call must not outlive the daemon that is waiting for it: the next one could not know of it.
        self._prefix = [shutil.which("setpriv") or "/usr/bin/setpriv", "--pdeathsig", "KILL", "--"]

    def command(self, *arguments: str) -> list[str]:
        """A call as somebody else may start it."""
        return [*self._unprotected, self._program, "--root", str(self.root), "--log-format", "json", *arguments]

    async def call(self, *arguments: str, timeout_s: float = 0.0, stdin: bytes = b"", environment: dict[str, str] | None = None) -> str:
        """Runs one command; its output. ``environment``: added to that of all calls.

        :raise RunvFailure: it failed, or took longer than ``timeout_s`` (0: the setting) and was killed
        """
        code, out, err = await self.output(*arguments, timeout_s=timeout_s, stdin=stdin, environment=environment)
        if code:
            raise RunvFailure(message_of(err) or f"runv {arguments[0]} ended with status {code}", code=code)
        return out.decode(errors="replace")

    async def output(
        self, *arguments: str, timeout_s: float = 0.0, stdin: bytes = b"", environment: dict[str, str] | None = None
    ) -> tuple[int, bytes, bytes]:
        """Runs one command: exit status, output and errors.

        :raise RunvFailure: it cannot be started, or took too long and was killed
        """
        timeout_s = timeout_s or self._command_s
        # Files and not pipes: what a call leaves running, a machine for one, may keep its descriptors.
        with _memory_file() as out, _memory_file() as err:
            try:
                process = await asyncio.create_subprocess_exec(
                    *self._prefix,
                    *self.command(*arguments),
                    stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    env=self._environment | (environment or {}),
                )
            except OSError as error:
                raise RunvFailure(f"cannot run {self._program}: {error.strerror}", code=-1) from error
            try:
                async with asyncio.timeout(timeout_s):
                    await _feed(process, stdin)
                    await process.wait()
            except TimeoutError:
                raise RunvFailure(f"runv {arguments[0]} took longer than {timeout_s:g} s", code=-1) from None
            finally:
                await _end(process)
            return process.returncode or 0, os.pread(out.fileno(), _OUTPUT_MAX, 0), os.pread(err.fileno(), _OUTPUT_MAX, 0)

    async def execute(self, container: str, arguments: tuple[str, ...], timeout_s: float) -> tuple[int, bytes, bytes]:
        """Runs a program in a container; exit status, output and errors.

        :raise RunvFailure: it cannot be started, or took too long and was killed, as it is when nobody waits for it any more
        """
        with tempfile.TemporaryDirectory(prefix="hyperd-") as folder:
            pid_file = Path(folder) / "pid"
            try:
                return await self.output("exec", "--pid-file", str(pid_file), container, *arguments, timeout_s=timeout_s)
            except BaseException:
                # The call was killed; the process that stands for the program takes the program along.
                with contextlib.suppress(OSError, ValueError):
                    os.kill(int(pid_file.read_text()), signal.SIGKILL)
                raise

    async def create(self, container: str, bundle: Path, timeout_s: float, *, record: bool = False) -> None:
        """Creates a container that has no streams to keep: a pod's infra container. ``record``: what its machine translates, if there is nothing of that
        for pods yet and runv's settings are to keep any (``records``)."""
        keep = {"RUNV_TCG_KEEP": "record"} if record and self._keeps else {}
        await self.call("create", "--bundle", str(bundle), container, timeout_s=timeout_s, environment=keep)

    def records(self, container: str) -> bool:
        """Whether what the machine of a container translates can be kept for others."""
        try:
            record = state.Container(str(self.root), container).load()
            return bool(SandboxFolder(str(self.root), record.sandbox).load().keeps)
        except RunvError:
            return False

    async def start(self, container: str) -> None:
        """Lets a created container's program run."""
        await self.call("start", container)

    async def kill(self, container: str, number: int, *, everyone: bool = False) -> None:
        """Sends a signal.

        :raise MissingError: it has ended, or there is none
        """
        try:
            await self.call("kill", *(["--all"] if everyone else []), container, str(number))
        except RunvFailure as failure:
            if self.status(container) in ("", state.STOPPED):
                raise MissingError("the container is not running") from None
            raise failure

    async def delete(self, container: str) -> None:
        """Ends and removes a container; fine when there is none."""
        if os.path.isdir(self.root / container):
            await self.call("delete", "--force", container)

    def status(self, container: str) -> str:
        """``creating``, ``created``, ``running``, ``paused``, ``stopped``; empty when there is none."""
        one = state.Container(str(self.root), container)
        try:
            return one.status(one.load())[0]
        except RunvError:
            return "creating" if one.exists() else ""

    def was_started(self, container: str) -> bool:
        """Whether its program was ever let run."""
        try:
            return bool(state.Container(str(self.root), container).load().started)
        except RunvError:
            return False

    def pid(self, container: str) -> int:
        """The host process that stands for its first process; 0 when there is none alive."""
        one = state.Container(str(self.root), container)
        standin = one.standin()
        return standin.pid if standin is not None and standin.alive() else 0

    def machine_size(self, container: str) -> tuple[int, int]:
        """Virtual CPUs and MiB of the machine that a container lives in.

        :raise MissingError: there is none
        """
        try:
            record = state.Container(str(self.root), container).load()
            sandbox = SandboxFolder(str(self.root), record.sandbox).load()
        except RunvError as error:
            raise MissingError(f"the machine of {container} has ended") from error
        return sandbox.vcpus, sandbox.memory_mib

    def known(self) -> list[str]:
        """The ids of all containers below the root, whole or not."""
        return [one.id for one in state.containers(str(self.root))]

    def with_abandoned_copies(self) -> list[str]:
        """The ids of containers with a disk that a call of an earlier daemon was copying when it was killed."""
        return copies.abandoned_below(str(self.root))

    async def statistics(self, container: str) -> dict[str, Any]:
        """What the guest counts of a container, in the shape of ``runc events --stats``."""
        event = json.loads(await self.call("events", "--stats", container))
        data: dict[str, Any] = event.get("data") or {}
        return data


def _unprotected() -> list[str]:
    """What a call begins with where this process is one that the kernel is to spare when memory gets scarce: machines are not."""
    if int(Path("/proc/self/oom_score_adj").read_text()) >= 0:
        return []
    return [shutil.which("choom") or "/usr/bin/choom", "-n", "0", "--"]


def _installed() -> str:
    """PREFIX/bin/runv of this very installation (PREFIX/lib/runv/hyperd/pods/runv.py)."""
    beside = Path(__file__).resolve().parents[4] / "bin/runv"
    return str(beside) if beside.exists() else "runv"


def _memory_file() -> io.BufferedRandom:
    return os.fdopen(os.memfd_create("runv", os.MFD_CLOEXEC), "w+b")


async def _feed(process: asyncio.subprocess.Process, data: bytes) -> None:
    if process.stdin is not None:
        process.stdin.write(data)
        with contextlib.suppress(ConnectionError):
            await process.stdin.drain()
        process.stdin.close()


async def _end(process: asyncio.subprocess.Process) -> None:
    """Leaves no call behind: whoever gave up waiting, by deadline or by being cancelled, kills it."""
    if process.returncode is None:
        process.send_signal(signal.SIGKILL)
        await asyncio.shield(process.wait())


def message_of(err: bytes) -> str:
    """What runv said went wrong: the last of its JSON lines, or the last line of anything else."""
    found = ""
    for line in err.decode(errors="replace").splitlines():
        try:
            entry = json.loads(line)
            found = str(entry["msg"]) if entry["level"] == "error" else found
        except (ValueError, TypeError, KeyError):
            found = line.strip() or found
    return found[:_MESSAGE_MAX]
