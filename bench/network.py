# SPDX-License-Identifier: Apache-2.0
"""TCP between a pod and the host: runv beside a plain guest whose card hangs on the same kind of tap, which is wired to the same kind of link."""

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench import usage
from bench.plain import Plain
from bench.runtimes import SLOW, Runtime, change
from bench.timing import BenchError, Figure, Measure, in_pairs, parse_report
from runv.network import plan, wire
from runv.sandbox.links import cards
from tests.vm.network.nets import Net

_PORT = 7000
_MEGABYTES = 64
_ROUND_TRIPS = 500
_LISTENS_S = 30.0 * SLOW
_POLL_S = 0.1
_MEASURES = [
    Measure("sent", f"{_MEGABYTES} MB into the guest", "MB/s"),
    Measure("taken", f"{_MEGABYTES} MB out of the guest", "MB/s"),
    Measure("round_trip", "a byte there and back", "ms"),
    Measure("cpu", "CPU time on the host", "ms"),
]


def measure(plain: Plain, runv: Runtime, bundle: Path, probe: Path, vcpus: int, count: int, tick: Callable[[], None]) -> list[Figure]:
    """Times a client on the host of a server in each. ``bundle`` has the probe, and is changed to run it."""
    with (
        _connected() as ours,
        _connected() as theirs,
        _serving(runv, bundle, ours) as our_processes,
        _plain(plain, theirs, vcpus) as their_processes,
    ):
        _wait(probe, ours)
        _wait(probe, theirs)
        works = (_work(probe, ours, our_processes), _work(probe, theirs, their_processes))
        return in_pairs("TCP, runv", "TCP, plain guest", works, _MEASURES, count, tick)


def _work(probe: Path, net: Net, processes: list[int]) -> Callable[[], dict[str, float]]:
    return lambda: usage.with_cpu(processes, lambda: _client(probe, net, _MEGABYTES, _ROUND_TRIPS))


@contextlib.contextmanager
def _connected() -> Iterator[Net]:
    """A pod's namespace with one link, 10.77.0.2, to its peer's, 10.77.0.1."""
    net = Net()
    try:
        net.make(net.pod)
        net.make(net.peer)
        net.veth("eth0", 0)
        yield net
    finally:
        net.remove()


@contextlib.contextmanager
def _serving(runv: Runtime, bundle: Path, net: Net) -> Iterator[list[int]]:
    def in_namespace(config: dict[str, Any]) -> None:
        config["process"]["args"] = ["/probe", "serve", str(_PORT)]
        others = [entry for entry in config["linux"]["namespaces"] if entry["type"] != "network"]
        config["linux"]["namespaces"] = [*others, {"type": "network", "path": net.path}]

    change(bundle, in_namespace)
    container = runv.start(bundle)
    try:
        yield list(usage.pids(runv.root, container).values())
    finally:
        runv.delete(container)


@contextlib.contextmanager
def _plain(plain: Plain, net: Net, vcpus: int) -> Iterator[list[int]]:
    wiring = wire.connect(net.path, plan.queues(vcpus))
    nics = [cards.nic_of(card) for card in wiring.cards]
    try:
        with plain.with_card(nics[0], "10.77.0.2") as guest:
            yield [guest.pid]
    finally:
        for fd in nics[0].vhost_fds:
            os.close(fd)
        wiring.close()


def _wait(probe: Path, net: Net) -> None:
    end = time.monotonic() + _LISTENS_S
    while True:
        try:
            _client(probe, net, 1, 1)
            return
        except BenchError:
            if time.monotonic() > end:
                raise
        time.sleep(_POLL_S)


def _client(probe: Path, net: Net, megabytes: int, round_trips: int) -> dict[str, float]:
    words = ["client", "10.77.0.2", str(_PORT), str(megabytes), str(round_trips)]
    command = ["ip", "netns", "exec", net.peer, str(probe), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120 * SLOW, check=False)
    if done.returncode:
        raise BenchError(f"no TCP with the guest: {done.stderr.strip()}")
    return parse_report(done.stdout)
