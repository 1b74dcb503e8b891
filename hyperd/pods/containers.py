"""The containers of one pod: start, stop, and what their ends mean."""

import asyncio
import logging
import signal
from collections import Counter
from pathlib import Path

from hyperd import spec
from hyperd.errors import HyperError, InvalidError, MissingError
from hyperd.pods import policy
from hyperd.pods.book import Book
from hyperd.pods.handlers import Handlers
from hyperd.pods.machine import Machine
from hyperd.pods.ports import Exit
from hyperd.pods.tools import Tools, now
from hyperd.store import ContainerRecord

_LOG = logging.getLogger(__name__)
# How long a start waits for those who said that they want to see the first output.
_ATTACH_S = 10.0
# A killed process is gone at once; its monitor still passes on what it wrote.
_KILLED_S = 30.0
_NOT_FOUND, _NOT_EXECUTABLE, _FAILED = 127, 126, 128


class ProgramError(InvalidError):
    """A container's program cannot be run. ``exit_code`` as a shell has it: 127 when there is none, else 126."""

    def __init__(self, message: str, *, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Containers:
    """Acts on the containers of a pod; whoever calls it is the pod's one actor."""

    def __init__(self, tools: Tools, book: Book, machine: Machine, handlers: Handlers) -> None:
        self._tools = tools
        self._book = book
        self._machine = machine
        self._handlers = handlers
        self._expected: Counter[str] = Counter()

    async def settle(self, record: ContainerRecord) -> ContainerRecord:
        """Takes note of an end that nobody has noted yet, and decides what follows; completes a start that was only not noted."""
        if record.phase == "starting" and self._tools.runtime.was_started(record.id):
            record = await self._book.change_container(record.id, phase="running", started=record.started or now())
        if record.phase not in ("running", "stopping"):
            return record
        state = self._tools.monitors.state(self._folder(record))
        if state == "running":
            return record
        if state == "exited":
            return await self.note_exit(record, await self._tools.monitors.wait(self._folder(record)))
        return await self.note_exit(record, Exit(255, finished=now()), message="its monitor is gone")

    async def note_exit(self, record: ContainerRecord, end: Exit, message: str = "", *, restart: bool = True) -> ContainerRecord:
        """Writes down how a container has ended, and when it is started again."""
        finished = end.finished or now()
        failures = policy.failures_now(record.failures, finished - (record.started or finished), self._tools.config.restart)
        again = (
            restart
            and record.phase != "stopping"
            and record.desired == self._book.pod.desired == "running"
            and restarts(self._book, record, end.code)
        )
        pause = policy.pause_s(failures, self._tools.config.restart)
        changed = await self._book.change_container(
            record.id,
            phase="exited",
            code=end.code,
            signal=end.signal,
            oom=end.oom,
            finished=finished,
            message=message,
            failures=failures,
            retry_at=finished + pause if again else 0.0,
            restarts=record.restarts + (1 if again else 0),
        )
        if end.oom:
            await self._tell("oom", record)
        await self._tell("die", record, exit_code=str(end.code))
        return changed

    async def start(self, record: ContainerRecord) -> None:
        """Makes a container and lets its program run. It is made anew each time: of the last one only its disk and log stay.

        :raise HyperError: it cannot be; nothing of it runs then
        """
        await self._book.until(lambda: record.id not in self._book.looked_at)
        fresh = {"retry_at": 0.0, "code": -1, "signal": 0, "oom": False, "message": "", "started": 0.0, "finished": 0.0}
        await self._book.change_container(record.id, phase="creating", **fresh)
        await self._machine.clear_process(record.pod, record.id)
        container = self._book.specification(record)
        try:
            await self._create(record, container)
            await self._book.change_container(record.id, phase="starting")
            await self._attached(record.id)
            await self._tools.runtime.start(record.id)
        except HyperError as error:
            await self._machine.clear_process(record.pod, record.id)
            raise as_program_error(error) from error
        await self._book.change_container(record.id, phase="running", started=now())
        await self._tell("start", record)

    async def let_go_on(self, record: ContainerRecord) -> None:
        """An earlier daemon may have had it stand still, to read its files, and have ended meanwhile."""
        if record.id not in self._book.frozen and self._tools.runtime.status(record.id) == "paused":
            await self._tools.runtime.call("resume", record.id)

    async def _create(self, record: ContainerRecord, container: spec.Container) -> None:
        prepared = await self._tools.preparer.container(self._book.pod, record, container)
        if prepared.image != record.image:
            await self._book.change_container(record.id, image=prepared.image)
        async with self._tools.creating:
            await self._tools.monitors.create(
                self._folder(record),
                self._tools.runtime.command("create", "--bundle", str(prepared.bundle), record.id),
                terminal=prepared.terminal,
                stdin_open=prepared.stdin_open,
                stdin_once=prepared.stdin_once,
                log=prepared.log,
                log_path=self._tools.log(record.pod, record.id),
                hold=None,
                timeout_s=self._tools.config.timeouts.create_s,
            )
        if prepared.archive:
            await self._tools.runtime.call("archive", "put", record.id, "/", stdin=prepared.archive)

    async def stop(self, record: ContainerRecord, grace_s: float) -> ContainerRecord:
        """Ends a container: its handler, its signal, and after ``grace_s`` SIGKILL."""
        record = await self.settle(record)
        if record.phase in ("creating", "starting"):
            await self._machine.clear_process(record.pod, record.id)
            return await self._book.change_container(record.id, phase="waiting", retry_at=0.0)
        if record.phase not in ("running", "stopping"):
            return await self._book.change_container(record.id, retry_at=0.0) if record.retry_at else record
        record = await self._book.change_container(record.id, phase="stopping")
        deadline = asyncio.get_running_loop().time() + grace_s
        if grace_s > 0:
            await self._ask_to_end(record, deadline)
        if self._tools.monitors.state(self._folder(record)) == "running":
            await self._signal(record, signal.SIGKILL)
        try:
            async with asyncio.timeout(_KILLED_S):
                end = await self._tools.monitors.wait(self._folder(record))
        except (TimeoutError, HyperError):
            await self._machine.clear_process(record.pod, record.id)
            end = Exit(128 + signal.SIGKILL, signal.SIGKILL, finished=now())
        return await self.note_exit(record, end)

    async def _ask_to_end(self, record: ContainerRecord, deadline: float) -> None:
        container = self._book.specification(record)
        try:
            async with asyncio.timeout_at(deadline):
                if container.pre_stop is not None:
                    await self._handlers.run(record, container.pre_stop)
                await self._signal(record, await self._tools.preparer.stop_signal(record, container))
                await self._tools.monitors.wait(self._folder(record))
        except (TimeoutError, HyperError) as error:
            _LOG.info("a container did not end by itself: %s", error or "its time is over", extra={"id": record.id})

    async def _signal(self, record: ContainerRecord, number: int) -> None:
        try:
            await self._tools.runtime.kill(record.id, number)
        except MissingError:
            pass  # it has just ended
        except HyperError as error:
            _LOG.warning("cannot send signal %d: %s", number, error, extra={"id": record.id})

    async def forget(self, record: ContainerRecord) -> None:
        """Removes a container that does not run, with its disk and log."""
        await self._machine.clear_process(record.pod, record.id)
        for process in [one.id for one in self._book.execs.values() if one.container == record.id]:
            await self._tools.monitors.end(self._tools.folder(record.pod, process))
        await self._tools.preparer.forget_container(self._book.pod, record)
        await self._book.forget_container(record.id)
        await self._tell("remove", record)

    def expect(self, container: str) -> None:
        """Somebody wants to be attached before the program runs; ``arrived`` must follow."""
        self._expected[container] += 1

    def arrived(self, container: str) -> None:
        """They are, or gave up."""
        self._expected[container] -= 1
        self._book.notify()

    async def _attached(self, container: str) -> None:
        try:
            async with asyncio.timeout(_ATTACH_S):
                await self._book.until(lambda: self._expected[container] <= 0)
        except TimeoutError:
            _LOG.warning("somebody wanted to attach and did not", extra={"id": container})

    def _folder(self, record: ContainerRecord) -> Path:
        return self._tools.folder(record.pod, record.id)

    async def _tell(self, action: str, record: ContainerRecord, **attributes: str) -> None:
        await self._tools.bus.publish("container", action, record.id, record.name, pod=self._book.pod.name, **attributes)


def restarts(book: Book, record: ContainerRecord, code: int) -> bool:
    """Whether the policy has a container that ended with ``code`` started again."""
    pod, container = book.pod.spec, book.specification(record)
    most = policy.retries(pod, container) if record.kind != "sidecar" else 0
    return policy.restarts(policy.restart_policy(pod, container, record.kind), code, record.restarts, most)


def as_program_error(error: HyperError) -> HyperError:
    """runv says it in runc's words: that is what engines look for, too."""
    text = error.message.lower()
    if "executable file not found" in text or ("exec" in text and "no such file" in text):
        return ProgramError(error.message, exit_code=_NOT_FOUND)
    if "exec" in text and "permission denied" in text:
        return ProgramError(error.message, exit_code=_NOT_EXECUTABLE)
    return error


def failure_code(error: HyperError) -> int:
    """The exit status of a container that never ran."""
    return error.exit_code if isinstance(error, ProgramError) else _FAILED
