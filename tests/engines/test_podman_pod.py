"""Podman's pods: their containers are in the machine of the infra container."""

from __future__ import annotations

import os
import signal

import pytest

from tests.vm.harness import DEADLINE_S, qemu_of, wait_until

from .harness import ENGINE_ADDRESS, IMAGE, Netns
from .podman import Podman

pytestmark = pytest.mark.engines

_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_SLEEP = ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done")
_WHO = "while :; do echo hello | nc -l -p 8000; done"
_ASK = ("timeout", "30", "sh", "-c", "until nc -w 5 127.0.0.1 8000; do sleep 0.1; done")


def _machines(podman: Podman) -> int:
    return len(list((podman.folder / "runtime/@sandboxes").glob("*")))


@pytest.mark.smoke
def test_a_pod_is_one_machine(podman: Podman) -> None:
    podman.pod("pod")
    podman.in_pod("pod", "--name", "server", "-e", "SECRET=one", IMAGE, "sh", "-c", _WHO)
    podman.in_pod("pod", "--name", "other", IMAGE, *_SLEEP)
    assert _machines(podman) == 1
    seen = [podman.exec(name, "cat", _BOOT_ID).ok().out for name in ("server", "other")]
    assert seen[0] == seen[1]
    assert podman.exec("other", *_ASK).ok().out == "hello\n"
    # Shared: network, IPC, host name. Their own: processes, files, environment.
    assert podman.exec("other", "hostname").ok().out == "pod\n"
    for kind in ("net", "ipc", "uts"):
        links = {podman.exec(name, "readlink", f"/proc/self/ns/{kind}").ok().out for name in ("server", "other")}
        assert len(links) == 1, kind
    for kind in ("pid", "mnt"):
        links = {podman.exec(name, "readlink", f"/proc/self/ns/{kind}").ok().out for name in ("server", "other")}
        assert len(links) == 2, kind
    assert "nc -l" not in podman.exec("other", "ps").ok().out
    podman.exec("server", "touch", "/only-here").ok()
    assert podman.exec("other", "ls", "/only-here").code == 1
    assert "SECRET" not in podman.exec("other", "env").ok().out
    podman("pod", "stop", "--time", "5", "pod")
    assert podman("ps", "--quiet").out == ""
    podman("pod", "rm", "pod")
    assert podman("ps", "--all", "--quiet").out == ""


def test_shared_memory_of_a_pod(podman: Podman) -> None:
    podman.pod("pod")
    for name in ("one", "two"):
        podman.in_pod("pod", "--name", name, IMAGE, *_SLEEP)
    podman.exec("one", "sh", "-c", "echo shared > /dev/shm/file").ok()
    assert podman.exec("two", "cat", "/dev/shm/file").ok().out == "shared\n"


def test_processes_shared_when_asked(podman: Podman) -> None:
    podman.pod("pod", "--share", "+pid")
    podman.in_pod("pod", "--name", "one", IMAGE, "sleep", "1111")
    podman.in_pod("pod", "--name", "two", IMAGE, *_SLEEP)
    assert "sleep 1111" in podman.exec("two", "ps").ok().out
    podman.exec("two", "killall", "sleep").ok()
    wait_until(lambda: podman.status("one") == "exited", "the end of the other", DEADLINE_S)


def test_containers_come_and_go(podman: Podman) -> None:
    podman.pod("pod")
    podman.in_pod("pod", "--name", "stays", IMAGE, *_SLEEP)
    for word in ("a", "b"):
        done = podman.try_("run", "--rm", "--pull", "never", "--pod", "pod", IMAGE, "echo", word)
        assert done.ok().out == f"{word}\n"
    done = podman.try_("run", "--rm", "--pull", "never", "--pod", "pod", IMAGE, "no-such-program")
    assert done.code == 127
    podman("restart", "--time", "1", "stays")
    assert podman.exec("stays", "echo", "back").ok().out == "back\n"
    assert _machines(podman) == 1
    podman("pod", "restart", "pod")
    assert podman.exec("stays", "echo", "again").ok().out == "again\n"


def test_a_port_of_a_pod(podman: Podman, outside: Netns) -> None:
    podman.pod("pod", "-p", "8082:8000")
    podman.in_pod("pod", IMAGE, "sh", "-c", _WHO)

    def answers() -> bool:
        try:
            return outside.fetch(ENGINE_ADDRESS, 8082) == b"hello\n"
        except OSError:
            return False

    wait_until(answers, "the published port to answer", DEADLINE_S)


def test_pausing_a_pod(podman: Podman) -> None:
    podman.pod("pod")
    podman.in_pod("pod", "--name", "one", IMAGE, *_SLEEP)
    podman("pod", "pause", "pod")
    assert podman.status("one") == "paused"
    podman("pod", "unpause", "pod")
    assert podman.exec("one", "echo", "up").ok().out == "up\n"


def test_a_machine_that_dies_under_a_pod(podman: Podman) -> None:
    podman.pod("pod")
    for name in ("one", "two"):
        podman.in_pod("pod", "--name", name, IMAGE, *_SLEEP)
    os.kill(qemu_of(podman.folder / "runtime"), signal.SIGKILL)
    for name in ("one", "two"):
        wait_until(lambda: podman.status(name) == "exited", "Podman to notice", DEADLINE_S)  # noqa: B023 - called at once
    podman("pod", "start", "pod")
    assert podman.exec("two", "echo", "back").ok().out == "back\n"
