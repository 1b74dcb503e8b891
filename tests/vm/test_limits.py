"""linux.resources on the host's cgroups, around a machine."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .harness import SLOW, Bundle, Created, Json, Runtime, qemu_of, wait_until

pytestmark = pytest.mark.vm

MIB = 1 << 20
# The same limit in v1's files and in v2's.
MEMORY = ("memory.limit_in_bytes", "memory.max")
SHARES = ("cpu.shares", "cpu.weight")
OOM_KILLS = ("memory.oom_control", "memory.events")


def group_file(container: Created, *names: str) -> Path:
    """A file of the container's cgroup on the host, by its name in v1 or in v2."""
    state = json.loads((container.runtime.root / container.id / "state.json").read_text())
    found = [path for group in state["groups"] for name in names if (path := Path(group, name)).exists()]
    assert len(found) == 1, found
    return found[0]


def number(container: Created, *names: str) -> int:
    return int(group_file(container, *names).read_text().split()[0])


def oom_kills(container: Created) -> int:
    lines = group_file(container, *OOM_KILLS).read_text().splitlines()
    return int(dict(line.split() for line in lines)["oom_kill"])


def quota(container: Created) -> str:
    return group_file(container, "cpu.cfs_quota_us", "cpu.max").read_text().split()[0]


def inside(container: Created, file: str) -> str:
    """A file of the container's cgroup in the guest."""
    return container.exec("cat", f"/sys/fs/cgroup/{file}").ok().out.strip()


@pytest.fixture
def limited(bundle: Bundle) -> Callable[..., Bundle]:
    def limit(target: Bundle = bundle, **resources: Json) -> Bundle:
        target.config["mounts"].append(
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]}
        )
        target.linux["resources"] = resources
        return target.args("sleep", "1000")

    return limit


def test_limits_on_both_sides(runv: Runtime, limited: Callable[..., Bundle]) -> None:
    container = runv.start(
        limited(
            memory={"limit": 64 * MIB, "reservation": 32 * MIB},
            cpu={"shares": 512, "quota": 80000, "period": 100000, "cpus": "0", "mems": "0"},
            pids={"limit": 30},
        )
    )
    assert inside(container, "memory.max") == str(64 * MIB)
    assert inside(container, "pids.max") == "30"
    assert inside(container, "cpu.max") == "80000 100000"
    assert number(container, *MEMORY) > 64 * MIB + 256 * MIB
    assert number(container, "pids.max") > 30 + 64
    assert number(container, *SHARES) in (512, 59)
    assert quota(container) == "80000"
    assert group_file(container, "cpuset.cpus").read_text().strip() == "0"
    container.delete()


def test_more_memory_and_processors_where_they_are_called_for(runv: Runtime, limited: Callable[..., Bundle]) -> None:
    bundle = limited(memory={"limit": 400 * MIB}, cpu={"cpus": f"0-{min(2, os.cpu_count() or 1) - 1}"})
    container = runv.start(bundle)
    assert container.exec("nproc").ok().out.strip() == str(min(2, os.cpu_count() or 1))
    total = container.exec("awk", "/MemTotal/ { print $2 }", "/proc/meminfo").ok().out
    assert 400 * 1024 < int(total) < number(container, *MEMORY) >> 10
    container.delete()


def test_annotations_size_the_machine(runv: Runtime, bundle: Bundle) -> None:
    bundle.config["annotations"] = {"run.runv.memory_mib": "160"}
    container = runv.start(bundle.args("sleep", "1000"))
    total = int(container.exec("awk", "/MemTotal/ { print $2 }", "/proc/meminfo").ok().out)
    assert 100 * 1024 < total < 160 * 1024
    container.delete()


def test_a_container_at_its_limit_is_killed_inside_and_the_machine_stays(
    runv: Runtime, limited: Callable[..., Bundle]
) -> None:
    container = runv.start(limited(memory={"limit": 32 * MIB, "swap": 32 * MIB}))
    for _ in range(2):
        assert container.exec("sh", "-c", "exec tail /dev/zero").code == 137
    # Now all of the guest's memory, with its own page cache and what is in no cgroup of a container's.
    container.exec("sh", "-c", "for i in 1 2 3 4; do head -c 24m /dev/zero >/tmp/$i; done; cat /tmp/? >/dev/null").ok()
    assert container.exec("echo", "alive").ok().out == "alive\n"
    container.delete()


@pytest.mark.parametrize("template", ["off", "new", "clone"])
def test_a_guest_that_uses_all_of_its_memory(runv: Runtime, bundle: Bundle, folder: Path, template: str) -> None:
    # The container may have nearly all of it. On the host nothing is killed but what shows it there.
    runv.env = {
        "RUNV_TEMPLATE": "off" if template == "off" else "auto",
        "RUNV_TEMPLATE_FOLDER": f"/dev/shm/{folder.name}",
        "RUNV_TCG_KEEP": "off",
    }
    bundle.linux["resources"] = {"memory": {"limit": 340 * MIB}}
    bundle.config["annotations"] = {"run.runv.memory_mib": "400"}
    bundle.args("sleep", "1000")
    try:
        if template == "clone":
            runv.start(bundle).delete()
        container = runv.start(bundle)
        machine = qemu_of(runv.root)
        for _ in range(2):
            assert container.exec("dd", "if=/dev/zero", "of=/dev/null", "bs=320M", "count=1").code == 0
            assert container.exec("dd", "if=/dev/zero", "of=/dev/null", "bs=360M", "count=1").code == 137
            assert container.exec("echo", "alive").ok().out == "alive\n"
            time.sleep(1.1)
        assert qemu_of(runv.root) == machine
        assert Path(f"/proc/{machine}/oom_score_adj").read_text() == Path("/proc/self/oom_score_adj").read_text()
        container.delete()
    finally:
        runv.run("factory", "destroy")


def test_a_tiny_limit_does_not_kill_a_standin(
    runv: Runtime, limited: Callable[..., Bundle], make_bundle: Callable[[], Bundle]
) -> None:
    first = runv.start(limited(cpu={"quota": 90000, "period": 100000}))
    assert quota(first) == "90000"
    bundle = limited(make_bundle(), memory={"limit": 4 * MIB}, pids={"limit": 5})
    for namespace in bundle.linux["namespaces"]:
        if namespace["type"] == "network":
            namespace["path"] = f"/proc/{first.pid}/ns/net"
    second = runv.start(bundle.save())
    assert inside(second, "memory.max") == str(4 * MIB)
    assert number(second, *MEMORY) < 100 * MIB
    # Its machine is another container's, and no longer that one's alone.
    assert quota(first) in ("-1", "max")
    running = [runv.popen("exec", second.id, "sleep", "1000") for _ in range(3)]
    wait_until(lambda: second.exec("ps").out.count("sleep 1000") == 4, "the processes", 60 * SLOW)
    assert second.exec("echo", "alive").ok().out == "alive\n"
    assert oom_kills(second) == 0
    second.delete()
    for process in running:
        process.wait(60)
    first.delete()


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ({"cpu": {"cpus": "4000"}}, "cpuset.cpus"),
        ({"cpu": {"cpus": "x"}}, "$.linux.resources.cpu.cpus"),
        ({"memory": {"limit": "1G"}}, "$.linux.resources.memory.limit"),
        ({"blockIO": {"throttleReadBpsDevice": [{"major": 4000, "minor": 1, "rate": 5}]}}, "4000:1"),
    ],
)
def test_limits_that_are_refused(runv: Runtime, limited: Callable[..., Bundle], resources: Json, message: str) -> None:
    done = runv.run_bundle(limited(**resources))
    assert done.code == 1 and message in done.err


def test_update(runv: Runtime, limited: Callable[..., Bundle]) -> None:
    container = runv.start(limited(memory={"limit": 400 * MIB}, cpu={"quota": 50000, "period": 100000}))
    runv.run("update", "--memory", "500M", "--pids-limit", "40", "--cpu-share", "2048", container.id).ok()
    assert (inside(container, "memory.max"), inside(container, "pids.max")) == (str(500 * MIB), "40")
    assert inside(container, "cpu.max") == "50000 100000" and inside(container, "cpu.weight") == "174"
    assert number(container, "pids.max") > 40 + 64
    assert number(container, *SHARES) in (2048, 174)
    resources = json.dumps({"cpu": {"quota": 70000}, "memory": {"limit": 64 * MIB}}).encode()
    done = runv.run("update", "--resources", "-", container.id, stdin=resources).ok()
    assert done.err == ""
    assert inside(container, "cpu.max") == "70000 100000" and quota(container) == "70000"
    assert inside(container, "memory.max") == str(64 * MIB)
    assert inside(container, "pids.max") == "40"
    assert "MiB of memory, and cannot grow to as much" in runv.run("update", "--memory", "800M", container.id).ok().err
    container.delete()


def test_an_update_that_is_refused_changes_nothing(runv: Runtime, limited: Callable[..., Bundle]) -> None:
    container = runv.start(limited(memory={"limit": 400 * MIB}, cpu={"shares": 1024}))

    def facts() -> tuple[str, int, int]:
        return inside(container, "memory.max"), number(container, *MEMORY), number(container, *SHARES)

    before = facts()
    assert "4000" in runv.run("update", "--cpuset-cpus", "4000", "--cpu-share", "5", container.id).err
    container.exec("sh", "-c", "head -c 20m /dev/zero >/dev/shm/file").ok()
    too_little = json.dumps({"cpu": {"shares": 5}, "memory": {"limit": 4 * MIB, "checkBeforeUpdate": True}}).encode()
    refused = runv.run("update", "-r", "-", container.id, stdin=too_little)
    assert refused.code == 1 and "rejecting memory limit" in refused.err
    assert facts() == before
    container.kill("KILL").ok()
    container.wait()
    assert "container not running" in runv.run("update", "--memory", "1G", container.id).err
    container.delete()


def test_update_as_runc_does(runc: Runtime, runv: Runtime, limited: Callable[..., Bundle]) -> None:
    bundle = limited(memory={"limit": 300 * MIB})

    def updated(runtime: Runtime) -> list[int]:
        container = runtime.start(bundle)
        codes = [
            runtime.run("update", *flags, container.id).code
            for flags in (
                ["--memory", "500000k"],
                ["--cpu-quota", "-1"],
                ["--memory", "x"],
                ["--resources", "/no/such/file"],
                [],
            )
        ]
        codes.append(runtime.run("update", "-r", "-", container.id, stdin=b"not json").code)
        container.delete()
        codes.append(runtime.run("update", "--memory", "5M", container.id).code)
        return codes

    assert updated(runv) == updated(runc)
