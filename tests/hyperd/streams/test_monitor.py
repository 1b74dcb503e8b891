"""Monitors from Python: created, attached to, waited for, also by a daemon that did not start them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hyperd.errors import MissingError, UnavailableError
from hyperd.streams import logs, monitor
from hyperd.streams.records import CommandError, Exit, LogSettings
from tests.host_c.process import wait_until

from .world import PROGRAM, World, collect, run, shell

FAILING_RUNV = """#!/bin/sh
echo 'time="2026-01-01T00:00:00Z" level=error msg="cannot find \\"x\\": No such file or directory"' >&2
exit 3
"""


def test_attach_exit_and_log(world: World) -> None:
    async def work() -> None:
        script = "read line; echo got $line; echo err >&2; exit 4"
        folder, _ = await world.start(*shell(script), stdin_open=True, stdin_once=True, log=world.log())
        assert (monitor.state(folder), monitor.exit_status(folder)) == ("running", None)
        async with await monitor.attach(folder, stdin=True) as attachment:
            assert (attachment.stdin_open, attachment.terminal) == (True, False)
            await attachment.send(b"text\n")
            assert await collect(attachment) == {"stdout": b"got text\n", "stderr": b"err\n"}
            assert attachment.exit and (attachment.exit.code, attachment.exit.log_complete) == (4, True)
            assert await monitor.wait(folder) == attachment.exit == monitor.exit_status(folder)
        assert monitor.state(folder) == "exited"
        lines = [(line.stream, line.text) async for line in logs.read(world.root / "one.log")]
        assert sorted(lines) == [("stderr", "err\n"), ("stdout", "got text\n")]
        async with await monitor.attach(folder) as late:
            assert await collect(late) == {"stdout": b"", "stderr": b""}
            assert late.exit and late.exit.code == 4

    run(work())


def test_exec_with_input_and_much_output(world: World) -> None:
    block = bytes(range(256)) * 4096

    async def work() -> None:
        folder, _ = await world.start("cat", stdin_open=True, stdin_once=True, hold=True)
        async with await monitor.attach(folder, stdin=True, hold=True) as attachment:

            async def feed() -> None:
                for _ in range(20):
                    await attachment.send(block)
                await attachment.send_eof()

            feeding = asyncio.create_task(feed())
            assert (await collect(attachment))["stdout"] == block * 20
            await feeding

    run(work())


def test_short_exec_is_seen_whole(world: World) -> None:
    async def work() -> None:
        for number in range(10):
            folder, _ = await world.start("echo", str(number), name=str(number), hold=True)
            async with await monitor.attach(folder, hold=True) as attachment:
                assert (await collect(attachment))["stdout"] == b"%d\n" % number

    run(work())


def test_input_for_who_does_not_read_it(world: World) -> None:
    """Neither is the end lost, nor does the sender hang."""

    async def work() -> None:
        folder, _ = await world.start(*shell("echo said; exit 3"), stdin_open=True, stdin_once=True, hold=True)
        async with await monitor.attach(folder, stdin=True, hold=True) as attachment:
            feeding = asyncio.create_task(attachment.send(b"x" * 10_000_000))
            assert (await collect(attachment))["stdout"] == b"said\n"
            assert attachment.exit and attachment.exit.code == 3
            feeding.cancel()

    run(work())


def test_terminal(world: World) -> None:
    async def work() -> None:
        script = "stty -echo; echo ready; read a; stty size; read a; stty size"
        folder, _ = await world.start(*shell(script), terminal=True, stdin_open=True, hold=True)
        async with await monitor.attach(folder, stdin=True) as attachment:
            assert attachment.terminal
            assert (await anext(attachment)).data == b"ready\r\n"
            await monitor.resize(folder, 33, 100)
            await attachment.send(b"\n")
            assert (await anext(attachment)).data == b"33 100\r\n"
            await attachment.resize(44, 99999)
            await attachment.send(b"\n")
            assert (await collect(attachment))["stdout"] == b"44 65535\r\n"

    run(work())


def test_command_that_fails(world: World) -> None:
    program = world.root / "failing"
    program.write_text(FAILING_RUNV)
    program.chmod(0o755)

    async def work() -> None:
        folder = world.folder()
        with pytest.raises(CommandError) as caught:
            await monitor.create(folder, [str(program), "create", "x"], program=PROGRAM)
        error = caught.value
        assert (error.message, error.code) == ('cannot find "x": No such file or directory', 3)
        with pytest.raises(CommandError, match="cannot run /no/such: No such file or directory"):
            await monitor.create(folder, ["/no/such", "create", "x"], program=PROGRAM)
        assert monitor.state(folder) == "none"
        with pytest.raises(MissingError):
            await monitor.attach(folder)
        with pytest.raises(MissingError):
            await monitor.wait(folder)

    run(work())


def test_monitor_that_cannot_do_its_part(world: World) -> None:
    async def work() -> None:
        with pytest.raises(UnavailableError, match="cannot open the log: No such file or directory"):
            await world.start("true", log=LogSettings("cri", world.root / "missing/log"))
        with pytest.raises(UnavailableError, match="cannot monitor in /no/such: No such file or directory"):
            await monitor.create(Path("/no/such"), ["/bin/true", "create"], program=PROGRAM)
        with pytest.raises(UnavailableError, match="cannot start /no/program"):
            await monitor.create(world.folder(), ["/bin/true", "create"], program=Path("/no/program"))

    run(work())


def test_creation_that_takes_too_long(world: World) -> None:
    """The command and the monitor are gone, whichever way it is given up."""
    slow = world.root / "slow"
    slow.write_text(f"#!/bin/sh\necho $$ >{world.root}/slow.pid\nexec sleep 1000\n")
    slow.chmod(0o755)

    async def work() -> None:
        folder = world.folder()
        with pytest.raises(UnavailableError, match="took longer than"):
            await monitor.create(folder, [str(slow), "create", "x"], program=PROGRAM, timeout_s=0.2)
        assert_slow_is_gone(world.root)
        creating = asyncio.create_task(monitor.create(folder, [str(slow), "create", "x"], program=PROGRAM))
        while monitor.state(folder) != "creating" or not (world.root / "slow.pid").exists():
            await asyncio.sleep(0.01)
        creating.cancel()
        with pytest.raises(asyncio.CancelledError):
            await creating
        assert_slow_is_gone(world.root)
        # As an earlier daemon's: nobody waits for it.
        creating = asyncio.create_task(monitor.create(folder, [str(slow), "create", "x"], program=PROGRAM))
        while not (folder / "command.pid").exists():
            await asyncio.sleep(0.01)
        await monitor.end(folder)
        await monitor.end(folder)
        with pytest.raises(CommandError):
            await creating
        assert monitor.state(folder) == "none"

    run(work())


def assert_slow_is_gone(root: Path) -> None:
    path = root / "slow.pid"
    if path.exists():
        pid = path.read_text().strip()  # empty: killed at writing it
        assert not pid or not Path("/proc", pid).exists()
        path.unlink()


@pytest.mark.parametrize("number", range(8))
def test_given_up_at_any_moment(world: World, number: int) -> None:
    async def work() -> None:
        folder = world.folder()
        command = [str(world.runtime), "exec", "sleep", "1000"]
        creating = asyncio.create_task(monitor.create(folder, command, program=PROGRAM))
        await asyncio.sleep(number * 0.006)
        creating.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await creating
        assert not (folder / "monitor.pid").exists() or monitor.state(folder) != "creating"
        await monitor.end(folder)

    run(work())


DAEMON = """
import asyncio, sys
from pathlib import Path
from hyperd.streams import monitor
from hyperd.streams.records import LogSettings
folder, program, log, runtime, script = sys.argv[1:]
async def main():
    await monitor.create(Path(folder), [runtime, "exec", "sh", "-c", script], program=Path(program),
                         stdin_open=True, log=LogSettings("json-file", Path(log), 5000, 100))
    async with await monitor.attach(Path(folder), stdin=True) as attachment:
        print("attached", flush=True)
        async for chunk in attachment:
            pass
asyncio.run(main())
"""


def test_daemon_killed(world: World) -> None:
    """The process, its log and its end do not depend on who had it started; the next one finds all."""
    folder = world.folder()
    script = "seq 1 500; read line; seq 501 1000; exit 6"
    arguments = [str(folder), str(PROGRAM), str(world.root / "one.log"), str(world.runtime), script]
    daemon = subprocess.Popen([sys.executable, "-c", DAEMON, *arguments], stdout=subprocess.PIPE)
    assert daemon.stdout and daemon.stdout.readline() == b"attached\n"
    daemon.kill()
    daemon.wait()
    daemon.stdout.close()
    wait_until(lambda: b'"500\\n"' in b"".join(path.read_bytes() for path in world.root.glob("one.log*")))

    async def work() -> None:
        assert monitor.state(folder) == "running"
        waiting = asyncio.create_task(monitor.wait(folder))
        async with await monitor.attach(folder, stdin=True) as attachment:
            await attachment.send(b"go on\n")
            said = await collect(attachment)
        assert said["stdout"] == "".join(f"{n}\n" for n in range(501, 1001)).encode()
        assert (await waiting).code == 6
        lines = [int(line.text) async for line in logs.read(world.root / "one.log")]
        assert lines == list(range(1, 1001))

    run(work())


READER = """
import asyncio, sys
from pathlib import Path
from hyperd.streams import logs, monitor
folder, log = map(Path, sys.argv[1:])
async def main():
    print("begun", flush=True)
    async def follow():
        async for line in logs.read(log, follow=True):
            pass
    asyncio.create_task(follow())
    async with await monitor.attach(folder, stdin=True, hold=True) as attachment:
        async for chunk in attachment:
            await attachment.send(b"x")
asyncio.run(main())
"""


def test_killed_again_and_again_under_load(world: World) -> None:
    """Daemons that are attached, waited for and reading when they are killed: every line is logged once, and the process never stops."""
    count = 100_000
    script = "for i in $(seq 0 39); do seq $((i * 2500 + 1)) $((i * 2500 + 2500)); sleep 0.05; done"

    async def work() -> None:
        log = LogSettings("json-file", world.root / "one.log", 500_000, 1000)
        folder, _ = await world.start(*shell(script), stdin_open=True, hold=True, log=log)
        kills = 0
        while monitor.state(folder) == "running" and kills < 50:
            arguments = ["-c", READER, str(folder), str(log.path)]
            daemon = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=-1, stderr=-3)
            assert daemon.stdout
            await daemon.stdout.readline()
            await asyncio.sleep(random.random() * 0.1)
            with contextlib.suppress(ProcessLookupError):  # it saw the end
                daemon.kill()
            await daemon.wait()
            kills += 1
        assert (await monitor.wait(folder))._replace(finished="") == Exit(0, 0, "")
        assert log.path
        number = 0
        async for line in logs.read(log.path):
            number += 1
            assert line.text == f"{number}\n"
        assert number == count and kills > 1

    run(work())


def test_wait_in_every_way(world: World) -> None:
    async def work() -> None:
        folder, created = await world.start("sleep", "1000")
        waiting = [asyncio.create_task(monitor.wait(folder)) for _ in range(5)]
        await asyncio.sleep(0.05)
        os.kill(created.pid, signal.SIGKILL)
        ends = await asyncio.gather(*waiting)
        assert {(end.code, end.signal, end.known) for end in ends} == {(137, 9, True)}
        assert await monitor.wait(folder) == ends[0]

    run(work())


def test_monitor_killed(world: World) -> None:
    """Its process runs on, and all that can be known is when it ends."""

    async def work() -> None:
        folder, created = await world.start("sleep", "1000", stdin_open=True)
        waiting = asyncio.create_task(monitor.wait(folder))
        attachment = await monitor.attach(folder)
        await monitor.end(folder)
        assert await collect(attachment) == {"stdout": b"", "stderr": b""}
        assert attachment.exit is None
        attachment.close()
        assert monitor.state(folder) == "running"
        await asyncio.sleep(0.05)
        assert not waiting.done()
        with pytest.raises(MissingError):
            await monitor.attach(folder)
        with pytest.raises(MissingError):
            await monitor.status(folder)
        os.kill(created.pid, signal.SIGKILL)
        end = await waiting
        assert (end.known, end.code) == (False, 255)
        assert monitor.state(folder) == "exited"

    run(work())


def test_slow_reader_is_told(world: World) -> None:
    async def work() -> None:
        folder, _ = await world.start(*shell("read line; seq 1 300000"), stdin_open=True)
        async with await monitor.attach(folder, stdin=True) as attachment:
            await attachment.send(b"\n")
            assert (await monitor.wait(folder)).code == 0
            length = lost = 0
            async for chunk in attachment:
                length += len(chunk.data)
                lost += chunk.lost
        assert lost > 0 and length + lost == sum(len(f"{n}\n") for n in range(1, 300001))

    run(work())


def test_status_and_reopened_log(world: World) -> None:
    async def work() -> None:
        folder, created = await world.start("cat", stdin_open=True, log=world.log())
        assert (await monitor.status(folder)) == (created.pid, True, 0, "")
        log = world.root / "one.log"
        log.rename(world.root / "moved")
        await monitor.reopen_log(folder)
        assert log.exists()
        log.unlink()
        log.mkdir()
        with pytest.raises(UnavailableError, match="Is a directory"):
            await monitor.reopen_log(folder)

    run(work())


def test_folder_with_a_long_path(world: World) -> None:
    async def work() -> None:
        folder, _ = await world.start("echo", "far", name="x" * 150, hold=True)
        async with await monitor.attach(folder) as attachment:
            assert (await collect(attachment))["stdout"] == b"far\n"

    run(work())


def test_folder_removed_while_somebody_reads(world: World) -> None:
    """As soon as the end is known; what was said still comes."""

    async def work() -> None:
        folder, _ = await world.start("seq", "30000", hold=True)
        async with await monitor.attach(folder) as attachment:
            assert (await monitor.wait(folder)).code == 0
            await monitor.end(folder)
            shutil.rmtree(folder)
            assert (await collect(attachment))["stdout"].endswith(b"\n30000\n")
            assert attachment.exit and attachment.exit.code == 0

    run(work())


def test_folder_used_again(world: World) -> None:
    """What an earlier process left is not taken for the next one's; its log goes on."""

    async def work() -> None:
        for code in (1, 2, 3):
            folder, _ = await world.start(*shell(f"echo {code}; exit {code}"), log=world.log())
            assert (await monitor.wait(folder)).code == code
            while (folder / "monitor.pid").exists():
                await asyncio.sleep(0.01)
        assert [line.text async for line in logs.read(world.root / "one.log")] == ["1\n", "2\n", "3\n"]

    run(work())


def test_more_clients_than_there_may_be(world: World) -> None:
    async def work() -> None:
        folder, created = await world.start("sleep", "1000")
        waiting = [asyncio.create_task(monitor.wait(folder)) for _ in range(70)]
        await asyncio.sleep(0.1)
        with pytest.raises(UnavailableError, match="too many clients"):
            await monitor.attach(folder)
        os.kill(created.pid, signal.SIGKILL)
        assert {end.code for end in await asyncio.gather(*waiting)} == {137}

    run(work())
