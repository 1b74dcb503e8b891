"""config.json (runtime-spec 1.0 to 1.3) as frozen records: the fields the host acts on or checks.

Everything else travels to the guest as it is, in ``Document.raw``. Unknown members are ignored, as the specification demands.
"""

from runv.quick import NamedTuple
from runv.spec import limits, rules
from runv.spec.process import Process
from runv.spec.records import Record, decode

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from typing import Any

    Raw = dict[str, Any]
else:
    Raw = dict


class Root(Record):
    path: str
    readonly: bool = False


class Mount(Record):
    destination: str
    type: str = ""
    source: str = ""
    options: list[str] | None = None
    uid_mappings: list[Raw] | None = None
    gid_mappings: list[Raw] | None = None

    @property
    def is_bind(self) -> bool:
        """Whether it is a bind mount: the options say so, the type is then a dummy (spec: config.md, "Mounts"); some callers only set the type.
        A remount has no source."""
        options = self.options or []
        return (self.type == "bind" or "bind" in options or "rbind" in options) and "remount" not in options


class Namespace(Record):
    type: str
    path: str = ""


class Device(Record):
    type: str
    path: str
    major: int = 0
    minor: int = 0


class Memory(Record):
    """Bytes; ``swap`` is memory and swap together. 0 is the same as absent, -1 is no limit."""

    limit: int | None = None
    reservation: int | None = None
    swap: int | None = None
    swappiness: int | None = None


class Cpu(Record):
    """``quota``, ``period`` and ``burst`` in microseconds; ``cpus`` and ``mems`` in the kernel's list format."""

    shares: int | None = None
    quota: int | None = None
    period: int | None = None
    burst: int | None = None
    idle: int | None = None
    cpus: str = ""
    mems: str = ""
    realtime_runtime: int | None = None
    realtime_period: int | None = None


class Pids(Record):
    limit: int | None = None


class WeightDevice(Record):
    major: int
    minor: int
    weight: int | None = None


class ThrottleDevice(Record):
    major: int
    minor: int
    rate: int


class BlockIO(Record):
    """Weights are 10 to 1000, rates bytes or operations per second."""

    weight: int | None = None
    weight_device: list[WeightDevice] | None = None
    throttle_read_bps_device: list[ThrottleDevice] | None = None
    throttle_write_bps_device: list[ThrottleDevice] | None = None
    throttle_read_iops_device: list[ThrottleDevice] | None = None
    throttle_write_iops_device: list[ThrottleDevice] | None = None
    NAMES = {"throttle_read_iops_device": "throttleReadIOPSDevice", "throttle_write_iops_device": "throttleWriteIOPSDevice"}  # noqa: RUF012 - never changed


class Resources(Record):
    """What the host applies or sizes by (spec: config-linux.md, "Control groups"); the guest gets all of it."""

    memory: Memory | None = None
    cpu: Cpu | None = None
    pids: Pids | None = None
    block_io: BlockIO | None = None
    rdma: Raw | None = None
    NAMES = {"block_io": "blockIO"}  # noqa: RUF012 - never changed


class MemoryPolicy(Record):
    mode: str
    nodes: str = ""
    flags: list[str] | None = None


class NetDevice(Record):
    """A device of the host's that moves into the container's network (spec: config-linux.md, "Network Devices"). An empty name: the same."""

    name: str = ""


class Linux(Record):
    namespaces: list[Namespace] | None = None
    devices: list[Device] | None = None
    cgroups_path: str = ""
    resources: Resources | None = None
    sysctl: dict[str, str] | None = None
    seccomp: Raw | None = None
    masked_paths: list[str] | None = None
    readonly_paths: list[str] | None = None
    mount_label: str = ""
    intel_rdt: Raw | None = None
    net_devices: dict[str, NetDevice] | None = None
    uid_mappings: list[Raw] | None = None
    gid_mappings: list[Raw] | None = None
    time_offsets: Raw | None = None
    memory_policy: MemoryPolicy | None = None


class Hook(Record):
    path: str
    args: list[str] | None = None
    env: list[str] | None = None
    timeout: int | None = None


class Hooks(Record):
    prestart: list[Hook] | None = None
    create_runtime: list[Hook] | None = None
    create_container: list[Hook] | None = None
    start_container: list[Hook] | None = None
    poststart: list[Hook] | None = None
    poststop: list[Hook] | None = None


class Hypervisor(Record):
    path: str
    parameters: list[str] | None = None


class Kernel(Record):
    path: str
    parameters: list[str] | None = None
    initrd: str = ""


class HwConfig(Record):
    """``memory`` in bytes. The other members are Xen's."""

    device_tree: str = ""
    vcpus: int | None = None
    memory: int | None = None
    dtdevs: list[str] | None = None
    iomems: list[Raw] | None = None
    irqs: list[int] | None = None


class Vm(Record):
    """The machine (spec: config-vm.md); what it names goes before runv's settings."""

    kernel: Kernel | None = None
    hypervisor: Hypervisor | None = None
    image: Raw | None = None
    hw_config: HwConfig | None = None


class Config(Record):
    oci_version: str
    root: Root | None = None
    process: Process | None = None
    hostname: str = ""
    domainname: str = ""
    mounts: list[Mount] | None = None
    hooks: Hooks | None = None
    linux: Linux = Linux()
    annotations: dict[str, str] | None = None
    vm: Vm | None = None


class Document(NamedTuple):
    """A configuration twice: ``config``, checked, to act on; ``raw``, as it was read, to hand on."""

    config: Config
    raw: Raw


def parse_config(data: bytes, name: str) -> Document:
    """Reads and checks config.json. ``name`` is how messages call it.

    :raise ConfigError: it is not JSON, breaks the specification, or asks for what runv cannot do
    """
    raw = decode(data, name)
    config = Config.read(raw, f"{name}: $")
    limits.check_limits({key: raw[key] for key in raw if key != "annotations"}, name, "$")
    rules.check_config(config, name)
    return Document(config, raw)


def parse_resources(data: bytes, name: str) -> tuple[Resources, Raw]:
    """Reads and checks linux.resources, as ``update --resources`` gets them; see ``parse_config``."""
    raw = decode(data, name)
    resources = Resources.read(raw, f"{name}: $")
    limits.check_limits(raw, name, "$")
    return resources, raw
