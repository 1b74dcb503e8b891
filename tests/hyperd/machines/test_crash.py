"""SIGKILL of the daemon at any moment, under load: what should run runs, what it wrote is there once, and nothing is left over."""

from __future__ import annotations

import http.client
import random
import threading
import time

import pytest

from .harness import COUNT, Daemon, until

pytestmark = pytest.mark.vm


class Load:
    """Makes, uses and removes pods until it is told to end. ``sure`` are those whose start was confirmed and whose removal was never asked for."""

    def __init__(self, daemon: Daemon, dice: random.Random) -> None:
        self.sure: set[str] = set()
        self._daemon = daemon
        self._dice = dice
        self._number = 0
        self._end = threading.Event()

    def work(self, most: int) -> None:
        while not self._end.is_set():
            try:
                self._one(most)
            except (OSError, http.client.HTTPException):
                time.sleep(0.05)  # the daemon was killed

    def _one(self, most: int) -> None:
        if len(self.sure) < most:
            self._number += 1
            name = f"p{self._number}"
            pod = {"name": name, "restart": "always", "containers": [{"name": "c", "image": "busybox", "args": COUNT}]}
            if self._daemon.ask("POST", "/pods?start=1", {"spec": pod}).status == 201:
                self.sure.add(name)
            return
        name = self._dice.choice(sorted(self.sure))
        choice = self._dice.random()
        if choice < 0.4:
            self._daemon.ask("POST", f"/containers/{name}%2Fc/exec", {"args": ["true"], "detach": True})
        elif choice < 0.8:
            self._daemon.ask("GET", f"/containers/{name}%2Fc/logs?tail=5")
        else:
            self.sure.discard(name)
            self._daemon.ask("DELETE", f"/pods/{name}?force=1")

    def during(self, seconds: float, most: int) -> None:
        """Works for so long, kills the daemon in the middle of it, and starts it again."""
        self._end.clear()
        thread = threading.Thread(target=self.work, args=(most,))
        thread.start()
        time.sleep(seconds)
        self._daemon.kill()
        self._end.set()
        thread.join()
        self._daemon.start()


def check(daemon: Daemon, load: Load) -> None:
    pods = {pod["name"]: pod for pod in daemon.expect(200, "GET", "/pods?all=1")}
    assert load.sure <= set(pods), "a confirmed pod is gone"
    for name in load.sure:
        until(lambda name=name: daemon.state(name) == "running", f"{name} runs")  # type: ignore[misc]
        assert daemon.expect(200, "GET", f"/pods/{name}")["restarts"] == 0, f"{name} was not taken over but started anew"
        lines = daemon.log(name)
        assert lines == [str(number) for number in range(len(lines))], f"{name}: {lines[-5:]}"
    until(lambda: not daemon.left(), f"nothing is left over: {daemon.left()}")


def kill_often(daemon: Daemon, times: int, seed: int) -> None:
    dice = random.Random(seed)
    load = Load(daemon, dice)
    for _ in range(times):
        load.during(dice.uniform(0.1, 3.0), most=2)
        check(daemon, load)


def test_a_few_moments(daemon: Daemon) -> None:
    kill_often(daemon, 3, seed=1)


@pytest.mark.soak
def test_fifty_moments(daemon: Daemon) -> None:
    kill_often(daemon, 50, seed=2)
