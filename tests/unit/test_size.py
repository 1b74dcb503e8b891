"""How big a machine is."""

import os

import pytest

from runv.errors import ConfigError
from runv.sandbox.machine.size import Size, machine_size, most, within
from runv.spec.config import Config, Cpu, HwConfig, Linux, Memory, Resources, Vm

MIB = 1 << 20
HOST_MIB = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // MIB
HOST_CPUS = os.cpu_count() or 1
LEAST = Size(1, 256)
NOTHING = Size(0, 0)


def sized(resources: Resources | None = None, least: Size = NOTHING) -> Size:
    return machine_size(Config(oci_version="1.0.0", linux=Linux(resources=resources)), least)


def annotated(annotations: dict[str, str], least: Size = LEAST) -> Size:
    return machine_size(Config(oci_version="1.0.0", annotations=annotations), least)


@pytest.mark.parametrize(
    ("memory", "expected"),
    [(None, 0), (-1, 0), (0, 0), (1, 96), (61 * MIB, 128), (62 * MIB, 128), (64 * MIB, 160), (256 * MIB, 384), (300 * MIB, 384), (4096 * MIB, 5120)],
)
def test_memory_follows_the_limit(memory: int | None, expected: int) -> None:
    assert sized(Resources(memory=Memory(limit=memory))) == (0, min(expected, HOST_MIB))


def test_few_sizes_of_machines_serve_many_limits() -> None:
    sizes = {sized(Resources(memory=Memory(limit=limit * MIB))).memory_mib for limit in range(128, 8192, 16)}
    assert len({size for size in sizes if size < HOST_MIB}) <= 24
    for limit in range(256, min(8192, HOST_MIB // 2), 100):
        needed = limit + 64 + limit // 32
        assert needed <= sized(Resources(memory=Memory(limit=limit * MIB))).memory_mib <= needed * 5 // 4


def test_memory_is_never_more_than_the_host_has() -> None:
    assert sized(Resources(memory=Memory(limit=1 << 60))) == (0, HOST_MIB)


@pytest.mark.parametrize(
    ("quota", "period", "cpus", "expected"),
    [
        (None, None, "", 0),
        (-1, 100, "", 0),
        (50, 100, "", 1),
        (100, 100, "", 1),
        (100_000, 0, "", 1),
        (100_000, None, "", 1),
        (10**9, 1, "", HOST_CPUS),
        (None, None, "0", 1),
        (None, None, "0-99", HOST_CPUS),
        (10**9, 1, "0", 1),
        (50, 100, "0-99", 1),
    ],
)
def test_cpus_follow_the_quota_and_the_set(quota: int | None, period: int | None, cpus: str, expected: int) -> None:
    assert sized(Resources(cpu=Cpu(quota=quota, period=period, cpus=cpus))) == (expected, 0)


def test_settings_are_the_least() -> None:
    assert sized(None, LEAST) == LEAST
    assert sized(Resources(memory=Memory(limit=MIB)), LEAST) == LEAST


def test_containerd_says_how_big_the_pod_is() -> None:
    pod = {
        "io.kubernetes.cri.sandbox-memory": str(640 * MIB),
        "io.kubernetes.cri.sandbox-cpu-quota": "50000",
        "io.kubernetes.cri.sandbox-cpu-period": "100000",
    }
    assert annotated(pod) == (1, 768)
    assert annotated(pod | {"io.kubernetes.cri.sandbox-cpu-quota": "100000000"}) == (HOST_CPUS, 768)
    assert annotated(dict.fromkeys(pod, "0")) == LEAST


@pytest.mark.parametrize("name", ["pod-linux-resources.crio.io", "io.kubernetes.cri-o.PodLinuxResources"])
def test_crio_says_how_big_the_pod_is(name: str) -> None:
    assert annotated({name: '{"cpu_period":100000,"cpu_quota":1,"memory_limit_in_bytes":671088640}'}) == (1, 768)
    assert annotated({name: "{}"}) == LEAST


def test_our_own_annotations_go_before_all_else() -> None:
    pod = {"io.kubernetes.cri.sandbox-memory": str(640 * MIB)}
    assert annotated(pod | {"run.runv.memory_mib": "100", "run.runv.vcpus": "1"}, Size(2, 256)) == (1, 100)


def test_what_it_may_grow_to() -> None:
    def grown(annotations: dict[str, str], settings: Size = NOTHING, size: Size = LEAST) -> Size:
        return most(Config(oci_version="1.0.0", annotations=annotations), size, settings)

    assert grown({}) == LEAST
    assert grown({}, Size(0, 700)) == Size(1, 256 + 3 * 128)
    assert grown({"run.runv.memory_max_mib": "400"}, Size(0, 4096)) == Size(1, 256 + 128)
    assert grown({"run.runv.memory_max_mib": "0", "run.runv.vcpus_max": "0"}, Size(8, 4096)) == LEAST
    assert within(LEAST, Size(1 << 20, 1 << 30)) == Size(HOST_CPUS, 256 + (HOST_MIB - 256) // 128 * 128)
    assert within(Size(2, 256), Size(1, 128)) == Size(2, 256)
    with pytest.raises(ConfigError, match="memory_max_mib"):
        grown({"run.runv.memory_max_mib": "4G"})


@pytest.mark.parametrize(
    "annotations",
    [
        {"run.runv.memory_mib": "1G"},
        {"run.runv.memory_mib": "10"},
        {"run.runv.vcpus": "0"},
        {"run.runv.vcpus": "100000"},
        {"io.kubernetes.cri.sandbox-memory": "lots"},
        {"pod-linux-resources.crio.io": "wrong"},
        {"pod-linux-resources.crio.io": "[1]"},
        {"pod-linux-resources.crio.io": '{"cpu_quota": "x"}'},
    ],
)
def test_annotations_that_are_refused(annotations: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"^config\.json: \$\.annotations\["):
        annotated(annotations)


def test_vm_hw_config() -> None:
    """Goes before limits and settings, and after our own annotations."""
    vm = Vm(hw_config=HwConfig(vcpus=1, memory=(100 << 20) + 1))
    assert machine_size(Config(oci_version="1.3.0", vm=vm), Size(2, 256)) == Size(1, 101)
    own = {"run.runv.memory_mib": "300"}
    assert machine_size(Config(oci_version="1.3.0", vm=vm, annotations=own), Size(2, 256)) == Size(1, 300)
    half = Config(oci_version="1.3.0", vm=Vm(hw_config=HwConfig(memory=100 << 20)))
    assert machine_size(half, Size(2, 256)) == Size(2, 100)
    with pytest.raises(ConfigError, match=r"\$\.vm\.hwConfig\.memory: the host has [0-9]+ MiB only"):
        machine_size(Config(oci_version="1.3.0", vm=Vm(hw_config=HwConfig(memory=1 << 60))), Size(1, 256))
