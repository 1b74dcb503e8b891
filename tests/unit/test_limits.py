"""linux.resources as files of cgroups, without a cgroup."""

from runv.limits import Extra, cpu_weight, for_guest, of_machine, of_standin, settings, without_quota
from runv.spec.config import BlockIO, Cpu, Memory, Pids, Resources, ThrottleDevice, WeightDevice, parse_resources

MIB = 1 << 20
NOTHING = Extra(0, 0, 0)


def texts(resources: Resources, version: int, extra: Extra = NOTHING) -> dict[str, str]:
    """What would be written where every file exists."""
    return {
        setting.choices[0][0]: setting.choices[0][1]
        for setting in settings(resources, extra)
        if setting.version == version
    }


def test_memory_v1() -> None:
    memory = Memory(limit=100, reservation=50, swap=300, swappiness=5)
    assert texts(Resources(memory=memory), 1) == {
        "memory.limit_in_bytes": "100",
        "memory.memsw.limit_in_bytes": "300",
        "memory.soft_limit_in_bytes": "100",
        "memory.swappiness": "5",
    }


def test_memory_v2() -> None:
    memory = Memory(limit=1000 * MIB, reservation=50 * MIB, swap=1200 * MIB)
    assert texts(Resources(memory=memory), 2) == {
        "memory.max": str(1000 * MIB),
        "memory.low": str((50 + 64) * MIB),
        "memory.swap.max": str(200 * MIB),
    }


def test_memory_makes_room_for_the_machine() -> None:
    extra = of_machine(256, 1)
    small = texts(Resources(memory=Memory(limit=10 * MIB, swap=30 * MIB)), 1, extra)
    limit = int(small["memory.limit_in_bytes"])
    assert limit == 256 * MIB + extra.memory > 256 * MIB + 60 * MIB
    assert int(small["memory.memsw.limit_in_bytes"]) == limit + 20 * MIB
    # 64 MiB more of code, and a file of 55.
    assert of_machine(256, 1, records=True).memory - extra.memory > 128 << 20
    clone = of_machine(256, 1, cloned_mib=256)
    assert int(texts(Resources(memory=Memory(limit=10 * MIB)), 2, clone)["memory.max"]) > 2 * 256 * MIB
    standin = texts(Resources(memory=Memory(limit=10 * MIB)), 2, of_standin())
    assert 16 * MIB < int(standin["memory.max"]) < 64 * MIB


def test_no_limit() -> None:
    assert texts(Resources(memory=Memory(limit=-1)), 1, of_machine(256, 1)) == {
        "memory.limit_in_bytes": "-1",
        "memory.memsw.limit_in_bytes": "-1",
    }
    assert texts(Resources(memory=Memory(limit=-1, reservation=-1), pids=Pids(limit=-1)), 2, of_machine(256, 1)) == {
        "memory.max": "max",
        "memory.swap.max": "max",
        "memory.low": "max",
        "pids.max": "max",
    }


def test_zeroes_are_no_wishes() -> None:
    resources = Resources(
        memory=Memory(limit=0, swap=0, reservation=0),
        cpu=Cpu(shares=0, quota=0, period=0),
        pids=Pids(limit=0),
        block_io=BlockIO(weight=0),
    )
    assert settings(resources, of_machine(256, 1)) == settings(None, NOTHING) == []


def test_pids_make_room_for_the_machine() -> None:
    for version in (1, 2):
        assert int(texts(Resources(pids=Pids(limit=10)), version, of_machine(256, 4))["pids.max"]) > 10 + 64 + 4


def test_cpu() -> None:
    cpu = Cpu(shares=1024, quota=50000, period=100000, burst=1000, idle=1, cpus="0-1", mems="0")
    assert texts(Resources(cpu=cpu), 1) == {
        "cpu.shares": "1024",
        "cpu.idle": "1",
        "cpu.cfs_period_us": "100000",
        "cpu.cfs_quota_us": "50000",
        "cpu.cfs_burst_us": "1000",
        "cpuset.cpus": "0-1",
        "cpuset.mems": "0",
    }
    assert texts(Resources(cpu=cpu), 2) == {
        "cpu.weight": "100",
        "cpu.idle": "1",
        "cpu.max": "50000 100000",
        "cpu.max.burst": "1000",
        "cpuset.cpus": "0-1",
        "cpuset.mems": "0",
    }


def test_half_a_quota() -> None:
    assert texts(Resources(cpu=Cpu(quota=50000)), 2) == {"cpu.max": "50000"}
    assert texts(Resources(cpu=Cpu(period=50000)), 2) == {"cpu.max": "max 50000"}
    assert texts(Resources(cpu=Cpu(quota=-1, period=50000)), 2) == {"cpu.max": "max 50000"}
    assert texts(Resources(cpu=Cpu(quota=-1)), 1) == {"cpu.cfs_quota_us": "-1"}


def test_a_quota_waits_for_the_machine_and_nothing_else_does() -> None:
    found = settings(Resources(cpu=Cpu(shares=2, quota=1000, period=1000), memory=Memory(limit=MIB)), NOTHING)
    assert {setting.what for setting in found if setting.late} == {"cpu.quota", "cpu.period"}
    assert {setting.choices[0] for setting in without_quota()} == {("cpu.cfs_quota_us", "-1"), ("cpu.max", "max")}


def test_weights_are_converted_as_runc_does() -> None:
    assert [cpu_weight(shares) for shares in (2, 1024, 262144)] == [1, 100, 10000]
    assert sorted(map(cpu_weight, range(2, 262144, 997))) == list(map(cpu_weight, range(2, 262144, 997)))


def test_block_io() -> None:
    io = BlockIO(
        weight=500,
        weight_device=[WeightDevice(major=8, minor=0, weight=10)],
        throttle_read_bps_device=[ThrottleDevice(major=8, minor=16, rate=1000)],
        throttle_write_iops_device=[ThrottleDevice(major=8, minor=16, rate=0)],
    )
    found = settings(Resources(block_io=io), NOTHING)
    assert all(setting.needed for setting in found)
    assert [setting.choices for setting in found if setting.version == 1] == [
        (("blkio.weight", "500"), ("blkio.bfq.weight", "500")),
        (("blkio.weight_device", "8:0 10"), ("blkio.bfq.weight_device", "8:0 10")),
        (("blkio.throttle.read_bps_device", "8:16 1000"),),
        (("blkio.throttle.write_iops_device", "8:16 0"),),
    ]
    assert [setting.choices for setting in found if setting.version == 2] == [
        (("io.bfq.weight", "500"), ("io.weight", "default 4950")),
        (("io.bfq.weight", "8:0 10"), ("io.weight", "8:0 1")),
        (("io.max", "8:16 rbps=1000"),),
        (("io.max", "8:16 wiops=max"),),
    ]


def test_names_are_those_of_the_specification() -> None:
    text = b'{"blockIO": {"throttleReadIOPSDevice": [{"major": 1, "minor": 2, "rate": 3}], "weight": 10}, "pids": {"limit": 4}}'
    resources, raw = parse_resources(text, "x")
    assert resources.block_io is not None and resources.pids is not None and raw["pids"] == {"limit": 4}
    assert resources.block_io.throttle_read_iops_device == [ThrottleDevice(major=1, minor=2, rate=3)]


def test_the_guest_is_not_told_of_the_hosts_hardware() -> None:
    raw: dict[str, dict[str, object]] = {
        "cpu": {"shares": 5, "cpus": "3", "mems": "0"},
        "memory": {"limit": 5},
        "blockIO": {"weight": 10},
    }
    assert for_guest(raw, "1.2.0") == {"cpu": {"shares": 5}, "memory": {"limit": 5}}
    assert "cpus" in raw["cpu"]


def test_a_pids_limit_of_0_is_none_before_1_3() -> None:
    assert for_guest({"pids": {"limit": 0}}, "1.2.1") == {}
    assert for_guest({"pids": {"limit": 0}}, "1.3.0") == {"pids": {"limit": 0}}
    assert for_guest({"pids": {"limit": 5}}, "1.0.2-dev") == {"pids": {"limit": 5}}
