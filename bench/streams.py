# SPDX-License-Identifier: Apache-2.0
"""Bytes through a container: in on stdin, out on stdout."""

import subprocess
import time
from pathlib import Path

from bench.runtimes import Runtime, new_id
from bench.timing import Figure


def measure(runtimes: list[Runtime], bundle: Path, megabytes: int, count: int) -> list[Figure]:
    """The throughput of ``cat`` in each runtime's container."""
    data = bytes(megabytes << 20)
    samples: dict[str, list[float]] = {runtime.name: [] for runtime in runtimes}
    for _ in range(count):
        for runtime in runtimes:
            begin = time.monotonic()
            done = runtime.run(
                "run", "--bundle", str(bundle), new_id(), stdin=None, input=data, stdout=subprocess.PIPE
            )
            assert len(done.stdout) == len(data)
            samples[runtime.name].append(megabytes / (time.monotonic() - begin))
    return [
        Figure(f"{name}: {megabytes} MB through stdin and stdout", "MB/s", tuple(values))
        for name, values in samples.items()
    ]
