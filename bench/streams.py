# SPDX-License-Identifier: Apache-2.0
"""Bytes through a container: in on stdin, out on stdout."""

import subprocess
import threading
import time
from pathlib import Path

from bench.bare import Bare
from bench.runtimes import SLOW, Runtime, new_id
from bench.timing import BenchError, Figure

_DEADLINE_S = 120.0 * SLOW
_CHUNK = 1 << 20


def measure(bare: Bare, runtimes: list[Runtime], bundle: Path, megabytes: int, count: int) -> list[Figure]:
    """The throughput of ``cat`` in each runtime's container, and that of a bare guest's port. Both have answered a byte before the clock starts."""
    floor: list[float] = []
    samples: dict[str, list[float]] = {runtime.name: [] for runtime in runtimes}
    for _ in range(count):
        floor.append(bare.echo(megabytes))
        for runtime in runtimes:
            samples[runtime.name].append(_echo(runtime, bundle, megabytes))
    port = f"bare virtio-serial: {megabytes} MB there and back"
    return [Figure(port, "MB/s", tuple(floor))] + [
        Figure(f"{name}: {megabytes} MB through stdin and stdout", "MB/s", tuple(values), port if name == "runv" else "")
        for name, values in samples.items()
    ]


def _echo(runtime: Runtime, bundle: Path, megabytes: int) -> float:
    process = runtime.open(
        "run", "--bundle", str(bundle), new_id(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    )
    guard = threading.Timer(_DEADLINE_S, process.kill)
    guard.start()
    try:
        with process:
            rate = _through(process, megabytes)
    finally:
        guard.cancel()
    if process.returncode:
        raise BenchError(f"{runtime.program} run ended with {process.returncode}")
    return rate


def _through(process: subprocess.Popen[bytes], megabytes: int) -> float:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(b"\n")
    _expect(process, 1)
    begin = time.monotonic()
    sender = threading.Thread(target=_send, args=(process, megabytes), daemon=True)
    sender.start()
    _expect(process, megabytes << 20)
    rate = megabytes / (time.monotonic() - begin)
    sender.join()
    process.stdin.close()
    return rate


def _send(process: subprocess.Popen[bytes], megabytes: int) -> None:
    assert process.stdin is not None
    data = memoryview(bytes(megabytes << 20))
    while data:
        data = data[process.stdin.write(data[:_CHUNK]) :]


def _expect(process: subprocess.Popen[bytes], count: int) -> None:
    assert process.stdout is not None
    while count:
        data = process.stdout.read(min(count, _CHUNK))
        if not data:
            process.kill()
            raise BenchError("cat has ended before all came back")
        count -= len(data)
