# SPDX-License-Identifier: Apache-2.0
"""Bytes through a container: in on stdin, out on stdout."""

import subprocess
import time
from pathlib import Path

from bench.bare import Bare
from bench.runtimes import Runtime, new_id
from bench.timing import Figure


def measure(bare: Bare, runtimes: list[Runtime], bundle: Path, megabytes: int, count: int) -> list[Figure]:
    """The throughput of ``cat`` in each runtime's container, its start included, and that of a bare guest's port."""
    data = bytes(megabytes << 20)
    floor: list[float] = []
    samples: dict[str, list[float]] = {runtime.name: [] for runtime in runtimes}
    for _ in range(count):
        floor.append(bare.echo(megabytes))
        for runtime in runtimes:
            begin = time.monotonic()
            done = runtime.run(
                "run", "--bundle", str(bundle), new_id(), stdin=None, input=data, stdout=subprocess.PIPE
            )
            assert len(done.stdout) == len(data)
            samples[runtime.name].append(megabytes / (time.monotonic() - begin))
    port = f"bare virtio-serial: {megabytes} MB there and back"
    return [Figure(port, "MB/s", tuple(floor))] + [
        Figure(f"{name}: {megabytes} MB through stdin and stdout", "MB/s", tuple(values), port if name == "runv" else "")
        for name, values in samples.items()
    ]
