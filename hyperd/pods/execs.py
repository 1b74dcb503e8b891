"""Further processes in containers: written down, started when somebody attaches or at once, and remembered for a while."""

import asyncio
import logging

import msgspec

from hyperd import spec
from hyperd.errors import ConflictError, HyperError, MissingError
from hyperd.pods.containers import as_program_error
from hyperd.pods.pod import Pod
from hyperd.pods.tools import Tools, new_id, now
from hyperd.store import ContainerRecord, ExecRecord

# Ended processes whose status can still be asked for, in each pod.
_KEPT = 32
_LOG = logging.getLogger(__name__)


class Execs:
    """The further processes of all pods."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._tasks: set[asyncio.Task[None]] = set()

    def adopt(self, pod: Pod) -> None:
        """Watches over those that an earlier daemon has started."""
        for record in pod.book.execs.values():
            if record.phase in ("starting", "running"):
                self._watch(pod, record)

    async def close(self) -> None:
        """Ends the watching; the processes run on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def create(self, pod: Pod, container: ContainerRecord | None, wanted: ExecRecord) -> ExecRecord:
        """Writes one down. ``container`` None: it is to run in the machine.

        :raise ConflictError: the container does not run
        """
        if (container.phase if container is not None else pod.book.pod.phase) != "running":
            raise ConflictError(f"{f'container {container.name}' if container else f'pod {pod.book.pod.name}'} is not running", hint="start it")
        await self._forget_old(pod)
        identity = container.id if container is not None else pod.book.pod.id
        return await pod.book.put_exec(
            msgspec.structs.replace(wanted, id=new_id(), container=identity, pod=pod.book.pod.id, created=now())
        )

    async def start(self, pod: Pod, record: ExecRecord, *, hold: bool) -> ExecRecord:
        """Runs it. ``hold``: its output waits for whoever attaches.

        :raise ConflictError: it was started before
        :raise HyperError: it cannot be
        """
        if record.phase != "created":
            raise ConflictError(f"process {record.id} was started before")
        record = await pod.book.put_exec(msgspec.structs.replace(record, phase="starting"))
        try:
            await self._tools.monitors.create(
                self._tools.folder(record.pod, record.id),
                await self._command(pod, record),
                terminal=record.tty,
                stdin_open=record.stdin,
                stdin_once=True,
                log=spec.Log(driver="none"),
                log_path=None,
                hold=None if record.machine else hold,
                timeout_s=self._tools.config.timeouts.create_s,
            )
        except HyperError as error:
            raise await self._failed(pod, record, error) from error
        return record

    async def release(self, pod: Pod, record: ExecRecord) -> ExecRecord:
        """What was started is let go on, now that whoever wanted to attach has done so.

        :raise HyperError: it cannot be run
        """
        if record.machine:
            try:
                await self._tools.runtime.start(record.id)
            except HyperError as error:
                raise await self._failed(pod, record, error) from error
        record = await pod.book.put_exec(msgspec.structs.replace(record, phase="running"))
        await self._tools.bus.publish("exec", "start", record.id, record.args[0], pod=pod.book.pod.name, container=record.container)
        self._watch(pod, record)
        return record

    async def _failed(self, pod: Pod, record: ExecRecord, error: HyperError) -> HyperError:
        failure = as_program_error(error)
        await self._clear(record)
        await pod.book.put_exec(msgspec.structs.replace(record, phase="exited", code=getattr(failure, "exit_code", 255)))
        return failure

    async def _clear(self, record: ExecRecord) -> None:
        await self._tools.monitors.end(self._tools.folder(record.pod, record.id))
        if record.machine:
            await self._tools.runtime.delete(record.id)

    async def _command(self, pod: Pod, record: ExecRecord) -> list[str]:
        """In the machine it is a container of its own, which shares all namespaces with it that it can."""
        if record.machine:
            bundle = await self._tools.preparer.machine(pod.book.pod, record)
            return self._tools.runtime.command("create", "--bundle", str(bundle), record.id)
        container = pod.book.containers[record.container]
        own = pod.book.specification(container)
        file = await self._tools.preparer.process(pod.book.pod, container, own, record)
        return self._tools.runtime.command("exec", "--process", str(file), container.id)

    def find(self, pods: list[Pod], identity: str) -> tuple[Pod, ExecRecord]:
        """:raise MissingError: there is none of that id"""
        for pod in pods:
            if identity in pod.book.execs:
                return pod, pod.book.execs[identity]
        raise MissingError(f"no such process: {identity}")

    def _watch(self, pod: Pod, record: ExecRecord) -> None:
        task = asyncio.create_task(self._until_end(pod, record), name=f"exec {record.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _until_end(self, pod: Pod, record: ExecRecord) -> None:
        code, number = 255, 0
        try:
            end = await self._tools.monitors.wait(self._tools.folder(record.pod, record.id))
            code, number = end.code, end.signal
        except HyperError as error:
            _LOG.warning("cannot watch a process: %s", error, extra={"id": record.id})
        if record.id in pod.book.execs and not pod.book.gone:
            await self._clear(record)
            await pod.book.put_exec(msgspec.structs.replace(record, phase="exited", code=code, signal=number))
            await self._tools.bus.publish("exec", "die", record.id, record.args[0], pod=pod.book.pod.name, exit_code=str(code))

    async def _forget_old(self, pod: Pod) -> None:
        ended = [one for one in pod.book.execs.values() if one.phase == "exited"]
        old = [one.id for one in sorted(ended, key=lambda one: one.created)[:-_KEPT]]
        if old:
            for identity in old:
                await self._tools.monitors.end(self._tools.folder(pod.book.pod.id, identity))
            await pod.book.forget_execs(old)
