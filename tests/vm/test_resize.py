"""The size of a machine, changed while it runs."""

from __future__ import annotations

import json

import pytest

from .harness import Bundle, Created, Runtime
from .test_limits import MEMORY, MIB, inside, number

pytestmark = pytest.mark.vm


def has(container: Created) -> tuple[int, int]:
    """The machine's CPUs and its memory in MiB, as its guest counts them: less what the kernel keeps."""
    lines = container.exec("sh", "-c", "nproc; grep MemTotal: /proc/meminfo").ok().out.split()
    return int(lines[0]), int(lines[2]) // 1024


def test_a_machine_grows_and_shrinks(runv: Runtime, bundle: Bundle) -> None:
    bundle.config["annotations"] = {"run.runv.memory_mib": "256", "run.runv.memory_max_mib": "1024", "run.runv.vcpus_max": "2"}
    bundle.config["mounts"].append({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]})
    bundle.config["mounts"].append({"destination": "/memory", "type": "tmpfs", "source": "tmpfs", "options": ["size=400m"]})
    bundle.linux["resources"] = {"memory": {"limit": 128 * MIB}}
    container = runv.start(bundle.args("sleep", "1000"))
    cpus, at_first = has(container)
    room = number(container, *MEMORY)
    assert cpus == 1 and 200 < at_first < 256

    runv.run("update", "--vm", "--memory", "512M", "--vcpus", "2", container.id).ok()
    cpus, memory = has(container)
    assert cpus == 2 and at_first + 240 < memory <= at_first + 256
    assert number(container, *MEMORY) == room + 256 * MIB + 4 * MIB  # QEMU's tables of pages

    # A container's limit brings what it needs along, and a limit that cannot be met is refused before anything is changed.
    runv.run("update", "--memory", "600M", container.id).ok()
    assert has(container)[1] > 600 and inside(container, "memory.max") == str(600 * MIB)
    container.exec("sh", "-c", "dd if=/dev/zero of=/memory/file bs=1M count=300 && rm /memory/file").ok()
    for flags, message in (
        (["--memory", "1100M"], "cannot set a memory limit of 1100 MiB: the machine can grow to 1024 MiB"),
        (["--vm", "--vcpus", "3", "--memory", "1G"], "cannot give the machine 3 virtual CPUs: it has 2 and cannot grow"),
        (["--vm", "--memory", "100M"], "cannot leave the machine 100 MiB of memory: it was started with 256 MiB"),
    ):
        refused = runv.run("update", *flags, container.id)
        assert refused.code == 1 and message in refused.err
    assert has(container)[0] == 2 and inside(container, "memory.max") == str(600 * MIB)

    runv.run("update", "--memory", "100M", container.id).ok()
    runv.run("update", "--vm", "--vcpus", "1", container.id).ok()
    cpus, memory = has(container)
    assert cpus == 1 and memory < at_first + 64
    sandbox = json.loads(next((runv.root / "@sandboxes").glob("*/sandbox.json")).read_text())
    assert sandbox["vcpus"] == 1 and 256 <= sandbox["memory_mib"] < 320
    assert room <= number(container, *MEMORY) < room + 68 * MIB
    container.delete()
