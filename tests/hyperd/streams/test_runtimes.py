"""Monitors over runc and over machines of runv: what both do is the same."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hyperd.streams import logs, monitor
from hyperd.streams.records import CommandError, Created
from tests.vm.harness import Bundle, Runtime, new_id, own_templates, runv_program

from .world import PROGRAM, World, collect, shell

DEADLINE_S = 60.0
NOT_HERE = "there is no runc"


@pytest.fixture(params=[pytest.param("runv", marks=pytest.mark.vm), "runc"])
def runtime(request: pytest.FixtureRequest, world: World) -> Iterator[Runtime]:
    program = runv_program() if request.param == "runv" else shutil.which("runc")
    if program is None:
        pytest.fail(NOT_HERE)
    root = world.root / request.param
    root.mkdir(mode=0o700)
    runtime = Runtime(request.param, program, root)
    with own_templates():
        yield runtime
        runtime.delete_all()


def bundle_of(world: World, text: str, **members: Any) -> Bundle:
    folder = world.root / "bundle"
    folder.mkdir()
    return Bundle(folder).script(text, **members)


async def create(world: World, runtime: Runtime, bundle: Bundle, container: str, **more: Any) -> tuple[Path, Created]:
    folder = world.folder(container)
    command = runtime.command("create", "--bundle", str(bundle.path), container)
    return folder, await monitor.create(folder, command, program=PROGRAM, **more)


async def execute(world: World, runtime: Runtime, container: str, *args: str, tty: bool = False, **more: Any) -> Path:
    folder = world.folder(f"{container}-exec")
    process = {"args": args, "cwd": "/", "env": ["PATH=/bin", "TERM=xterm"], "terminal": tty, "user": {"uid": 0, "gid": 0}}
    (folder / "process.json").write_text(json.dumps(process))
    command = runtime.command("exec", "--process", str(folder / "process.json"), container)
    await monitor.create(folder, command, program=PROGRAM, terminal=tty, hold=True, **more)
    return folder


async def call(runtime: Runtime, *args: str) -> None:
    (await asyncio.to_thread(runtime.run, *args)).ok()


def run(work: Any) -> None:
    async def limited() -> None:
        async with asyncio.timeout(DEADLINE_S):
            await work

    asyncio.run(limited())


def test_container(world: World, runtime: Runtime) -> None:
    """From before its start to its end, with processes beside it."""
    bundle = bundle_of(world, "seq 1 1000; echo err >&2; while read line; do echo got $line; done; exit 7")
    container = new_id()

    async def work() -> None:
        log = world.log(max_size=20_000, max_files=100)
        folder, created = await create(world, runtime, bundle, container, stdin_open=True, stdin_once=True, log=log)
        assert created.said == ""
        attachment = await monitor.attach(folder, stdin=True, hold=True)
        await call(runtime, "start", container)

        binary = bytes(range(256)) * 2000
        executed = await execute(world, runtime, container, "cat", stdin_open=True, stdin_once=True)
        async with await monitor.attach(executed, stdin=True, hold=True) as other:
            feeding = asyncio.create_task(feed(other, binary))
            assert (await collect(other))["stdout"] == binary
            assert other.exit and other.exit.code == 0
            await feeding

        await attachment.send(b"one\ntwo\n")
        await attachment.send_eof()
        said = await collect(attachment)
        expected = "".join(f"{n}\n" for n in range(1, 1001)) + "got one\ngot two\n"
        assert said == {"stdout": expected.encode(), "stderr": b"err\n"}
        assert attachment.exit and (attachment.exit.code, attachment.exit.log_complete) == (7, True)
        attachment.close()
        assert log.path
        lines = [line async for line in logs.read(log.path)]
        assert "".join(line.text for line in lines if line.stream == "stdout") == expected
        assert "".join(line.text for line in lines if line.stream == "stderr") == "err\n"
        await call(runtime, "delete", container)

    run(work())


async def feed(attachment: monitor.Attachment, data: bytes) -> None:
    await attachment.send(data)
    await attachment.send_eof()


def test_terminal_and_a_killed_monitor(world: World, runtime: Runtime) -> None:
    bundle = bundle_of(world, "stty -echo; stty size; read a; stty size; exec sleep 1000", terminal=True)
    container = new_id()

    async def work() -> None:
        folder, created = await create(world, runtime, bundle, container, terminal=True, stdin_open=True)
        async with await monitor.attach(folder, stdin=True) as attachment:
            assert attachment.terminal
            await monitor.resize(folder, 30, 90)
            await call(runtime, "start", container)
            await until(attachment, b"30 90\r\n")
            await attachment.resize(31, 91)
            await attachment.send(b"\r")
            await until(attachment, b"31 91\r\n")

        executed = await execute(world, runtime, container, *shell("tty; stty size; exit 5"), tty=True)
        async with await monitor.attach(executed, hold=True) as other:
            assert (await collect(other))["stdout"].startswith(b"/dev/pts/")
            assert other.exit and other.exit.code == 5

        waiting = asyncio.create_task(monitor.wait(folder))
        await asyncio.sleep(0.05)
        await monitor.end(folder)
        # The terminal hangs up with it, for which a first process has no reason to end.
        assert monitor.state(folder) == "running" and not waiting.done()
        os.kill(created.pid, signal.SIGKILL)
        end = await waiting
        assert (end.known, end.code) == (False, 255)
        await call(runtime, "delete", "--force", container)

    run(work())


async def until(attachment: monitor.Attachment, text: bytes) -> None:
    said = b""
    while text not in said:
        said += (await anext(attachment)).data


def test_refused_and_given_up(world: World, runtime: Runtime) -> None:
    bundle = bundle_of(world, "sleep 1000")
    container = new_id()

    async def work() -> None:
        with pytest.raises(CommandError) as caught:
            command = runtime.command("create", "--bundle", "/no/such/bundle", container)
            await monitor.create(world.folder("refused"), command, program=PROGRAM)
        assert caught.value.code == 1 and "/no/such/bundle" in caught.value.stderr
        # Given up while the machine boots: what there is of it can be deleted.
        creating = asyncio.create_task(create(world, runtime, bundle, container))
        while not (runtime.root / container).exists() and not creating.done():
            await asyncio.sleep(0.001)
        creating.cancel()
        await asyncio.gather(creating, return_exceptions=True)
        assert monitor.state(world.folder(container)) != "creating"
        await call(runtime, "delete", "--force", container)
        folder, created = await create(world, runtime, bundle, container)
        os.kill(created.pid, signal.SIGKILL)
        end = await monitor.wait(folder)
        assert (end.code, end.signal, end.known) == (137, 9, True)
        await call(runtime, "delete", "--force", container)

    run(work())
