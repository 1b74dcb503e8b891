"""What the specification demands of ``linux`` beyond types (spec: config-linux.md), and what a virtual machine cannot do."""


from runv.errors import ConfigError
from runv.quick import Any
from runv.spec.memory_policy import mode_and_nodes

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from runv.spec.config import Linux, Namespace, NetDevice, Resources

NAMESPACES = ("cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts")
_LINK_NAME_MAX = 15


def check_linux(linux: "Linux", name: str) -> None:
    """Checks ``linux``; ``name`` is how messages call the file."""
    _check_namespaces(linux.namespaces or [], name)
    _check_dependent(linux, name)
    if linux.intel_rdt is not None:
        raise ConfigError(f"{name}: $.linux.intelRdt cannot be honoured for a virtual machine's container")
    if linux.resources is not None:
        _check_resources(linux.resources, name)
    if linux.memory_policy is not None:
        mode_and_nodes(linux.memory_policy)
    for member, paths in (("maskedPaths", linux.masked_paths), ("readonlyPaths", linux.readonly_paths)):
        for index, path in enumerate(paths or []):
            if not path.startswith("/"):
                raise ConfigError(f"{name}: $.linux.{member}[{index}] must be an absolute path, not {path!r}")
    _check_seccomp(linux.seccomp or {}, name)
    _check_net_devices(linux.net_devices or {}, name)


def _check_net_devices(devices: "dict[str, NetDevice]", name: str) -> None:
    targets = [entry.name or device for device, entry in devices.items()]
    for text in {*devices, *targets}:
        if not 0 < len(text.encode(errors="replace")) <= _LINK_NAME_MAX or text in (".", "..") or any(c in "/:" or c.isspace() for c in text):
            raise ConfigError(f"{name}: $.linux.netDevices: {text!r} is not a name for a network interface")
    for text in targets:
        if targets.count(text) > 1:
            raise ConfigError(f"{name}: $.linux.netDevices: two devices are to be called {text}")


def _check_dependent(linux: "Linux", name: str) -> None:
    """What means something only with a namespace of its own; runc refuses it too."""
    own = {namespace.type for namespace in linux.namespaces or []}
    for member, given, kind in (
        ("timeOffsets", linux.time_offsets, "time"),
        ("uidMappings", linux.uid_mappings, "user"),
        ("gidMappings", linux.gid_mappings, "user"),
    ):
        if given and kind not in own:
            raise ConfigError(f"{name}: $.linux.{member} needs a namespace of type {kind}")


def _check_resources(resources: "Resources", name: str) -> None:
    path = f"{name}: $.linux.resources"
    if resources.rdma:
        raise ConfigError(f"{path}.rdma cannot be honoured: the guest has no such devices")
    if resources.cpu is not None and (resources.cpu.realtime_runtime or resources.cpu.realtime_period):
        raise ConfigError(
            f"{path}.cpu.realtimeRuntime cannot be honoured: cgroups of version 2, as the guest has them, know no real-time limits"
        )


def _check_seccomp(seccomp: dict[str, Any], name: str) -> None:
    actions = [seccomp.get("defaultAction")]
    rules = seccomp.get("syscalls") or []
    actions += [rule.get("action") for rule in rules if isinstance(rule, dict)] if isinstance(rules, list) else []
    if "SCMP_ACT_NOTIFY" in actions or seccomp.get("listenerPath"):
        raise ConfigError(
            f"{name}: $.linux.seccomp: SCMP_ACT_NOTIFY is not possible: its descriptor cannot leave the virtual machine"
        )


def _check_namespaces(namespaces: "list[Namespace]", name: str) -> None:
    seen = set()
    for index, namespace in enumerate(namespaces):
        where = f"{name}: $.linux.namespaces[{index}]"
        if namespace.type not in NAMESPACES:
            raise ConfigError(f"{where}.type: unknown namespace {namespace.type!r}")
        if namespace.type in seen:
            raise ConfigError(f"{where}.type: {namespace.type} is given twice")
        if namespace.path and not namespace.path.startswith("/"):
            raise ConfigError(f"{where}.path must be absolute, not {namespace.path!r}")
        seen.add(namespace.type)
    if "network" not in seen:
        raise ConfigError(
            f"{name}: $.linux.namespaces: a virtual machine cannot use the host's own network",
            hint="add a namespace of type network (docker: leave out --network host)",
        )
