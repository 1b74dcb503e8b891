"""Containers in one network namespace are in one machine: ``docker run --network container:X``, and pods."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..harness import Bundle, Created, Runtime
from .nets import Net, in_namespace

pytestmark = pytest.mark.vm

MakeBundle = Callable[[], Bundle]


@pytest.fixture
def file(folder: Path) -> Iterator[Path]:
    """A file that a namespace can be bound to, as Docker does below /run/docker/netns."""
    path = folder / "netns"
    path.touch()
    yield path
    subprocess.run(["umount", str(path)], stderr=subprocess.DEVNULL, check=False)


def boot_id(container: Created) -> str:
    return container.exec("cat", "/proc/sys/kernel/random/boot_id").ok().out


def test_by_the_first_ones_process(runv: Runtime, make_bundle: MakeBundle, net: Net) -> None:
    first = runv.start(in_namespace(make_bundle(), net.path).script("nc -l -p 80 </dev/null; sleep 1000"))
    second = make_bundle()
    second.config["hostname"] = "the-second"
    joined = runv.start(in_namespace(second, f"/proc/{first.pid}/ns/net").script("hostname; echo hello | nc 127.0.0.1 80; sleep 1000"))
    first.wait_output(b"hello")
    joined.wait_output(b"the-second")
    assert boot_id(first) == boot_id(joined)
    assert joined.exec("ping", "-c1", "-W5", "10.77.0.1").code == 0
    # Its processes and file systems are its own.
    assert "nc -l" not in joined.exec("ps").out
    first.delete()
    assert joined.exec("ping", "-c1", "-W5", "10.77.0.1").code == 0
    joined.delete()
    assert net.nothing_of_ours()


def test_by_a_name_of_the_namespace(runv: Runtime, make_bundle: MakeBundle, file: Path) -> None:
    first = runv.start(make_bundle().args("sleep", "1000"))
    subprocess.run(["mount", "--bind", f"/proc/{first.pid}/ns/net", str(file)], check=True)
    joined = runv.start(in_namespace(make_bundle(), str(file)).args("sleep", "1000"))
    assert boot_id(first) == boot_id(joined)
    first.delete()
    joined.delete()


def test_of_a_container_that_was_given_its_namespace(runv: Runtime, make_bundle: MakeBundle, net: Net) -> None:
    """As Kubernetes gives one to the containers of a pod; who comes first makes the machine."""
    made = [runv.start(in_namespace(make_bundle(), net.path).args("sleep", "1000")) for _ in range(2)]
    assert boot_id(made[0]) == boot_id(made[1])
    assert len(os.listdir(runv.root / "@sandboxes")) == 1
    for container in made:
        container.delete()
    assert net.nothing_of_ours()


def test_a_namespace_that_is_nobodys_gets_a_machine_of_its_own(
    runv: Runtime, make_bundle: MakeBundle, net: Net
) -> None:
    other = runv.start(make_bundle().args("sleep", "1000"))
    own = runv.start(in_namespace(make_bundle(), net.path).args("sleep", "1000"))
    assert boot_id(other) != boot_id(own)
    other.delete()
    own.delete()


def test_a_link_that_came_before_the_second_started(runv: Runtime, make_bundle: MakeBundle, net: Net) -> None:
    first = runv.start(in_namespace(make_bundle(), net.path).args("sleep", "1000"))
    net.veth("eth1", 1)
    joined = runv.start(in_namespace(make_bundle(), net.path).args("sleep", "1000"))
    for container in (first, joined):
        assert container.exec("ping", "-c1", "-W5", "10.77.1.1").code == 0
    first.delete()
    joined.delete()
    assert net.nothing_of_ours()
