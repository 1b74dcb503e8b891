"""Calls of runv, with another program in its place."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from hyperd.errors import UnavailableError
from hyperd.pods.runv import Runv, RunvFailure

# exec --pid-file FILE CONTAINER COMMAND...: something that stands for the program is left behind when the call is killed.
PROGRAM = """#!/bin/sh
while [ "$1" != --pid-file ]; do shift; done
[ "$4" = hang ] || { shift 3; exec "$@"; }
setsid sleep 100 &
printf $! >"$2"
echo $! >"$5"
wait
"""


@pytest.fixture
def runv(tmp_path: Path) -> Runv:
    program = tmp_path / "program"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    return Runv(str(program), tmp_path / "root", command_s=20.0)


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def test_what_a_program_says(runv: Runv) -> None:
    code, out, err = asyncio.run(runv.execute("c", ("sh", "-c", "echo out; echo err >&2; exit 3"), 20.0))
    assert (code, out, err) == (3, b"out\n", b"err\n")


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_program_that_hangs_is_not_left(runv: Runv, tmp_path: Path, cancelled: bool) -> None:
    told = tmp_path / "pid"

    async def work() -> None:
        running = asyncio.create_task(runv.execute("c", ("hang", str(told)), 20.0 if cancelled else 0.5))
        if cancelled:
            while not told.exists() or not told.read_text().endswith("\n"):
                await asyncio.sleep(0.01)
            running.cancel()
        with pytest.raises(asyncio.CancelledError if cancelled else RunvFailure):
            await running

    asyncio.run(work())
    end = time.monotonic() + 20
    while alive(int(told.read_text())):
        assert time.monotonic() < end, "it is still there"
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("set_to", "records", "others", "first"),
    [("auto", True, "take", "record"), ("auto", False, "auto", "record"), ("off", True, "off", "off"), ("take", True, "take", "take")],
)  # fmt: skip
def test_what_machines_are_to_translate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, set_to: str, records: bool, others: str, first: str
) -> None:
    monkeypatch.setenv("RUNV_CONFIG", "/dev/null")
    monkeypatch.setenv("RUNV_TCG_KEEP", set_to)
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\necho "$RUNV_TCG_KEEP $RUNV_TCG_NAME" >>{tmp_path}/said\n')
    program.chmod(0o755)
    made = Runv(str(program), tmp_path / "root", command_s=20.0, records=records)
    asyncio.run(made.create("c", tmp_path, 20.0))
    asyncio.run(made.create("c", tmp_path, 20.0, record=True))
    assert (tmp_path / "said").read_text().splitlines() == [f"{others} pods", f"{first} pods"]
    assert not made.records("c")


def test_settings_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNV_TCG_KEEP", "sometimes")
    with pytest.raises(UnavailableError, match=r"cannot read runv's settings: .*RUNV_TCG_KEEP"):
        Runv("runv", tmp_path, command_s=20.0)
