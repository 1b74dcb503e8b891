"""Annotations that matter: which container belongs to which sandbox and how big a pod is, as containerd's CRI plugin and CRI-O say it. Pure."""

# runv's own: the size of the machine that the container brings.
MEMORY_MIB = "run.runv.memory_mib"
VCPUS = "run.runv.vcpus"
# The same: what it can grow to while it runs.
MEMORY_MAX_MIB = "run.runv.memory_max_mib"
VCPUS_MAX = "run.runv.vcpus_max"
# runv's own: the root file system. The file system of one that is a disk (without it the guest looks); or its layers, a JSON list of paths of EROFS
# images, bottom first, and the ext4 image on top of them.
PREFIX = "run.runv.rootfs."
ROOTFS_FSTYPE = "run.runv.rootfs.fstype"
LAYERS = "run.runv.rootfs.layers"
UPPER = "run.runv.rootfs.upper"
# runv's own: "true" for a root that is a copy of the folder, and gone with the container.
COPY = "run.runv.rootfs.copy"
# runv's own: "true" for a container that only holds its pod's namespaces.
INFRA = "run.runv.infra"

# runv's own: "on" or "off" for the setting share_notify, for this container.
SHARE_NOTIFY = "run.runv.share_notify"

# The sum of a pod's containers: bytes and microseconds as text; CRI-O has an object of them, under its new name and its old one.
POD_MEMORY = "io.kubernetes.cri.sandbox-memory"
POD_CPU_QUOTA = "io.kubernetes.cri.sandbox-cpu-quota"
POD_CPU_PERIOD = "io.kubernetes.cri.sandbox-cpu-period"
POD_RESOURCES = ("pod-linux-resources.crio.io", "io.kubernetes.cri-o.PodLinuxResources")

_KINDS = ("io.kubernetes.cri.container-type", "io.kubernetes.cri-o.ContainerType")
_SANDBOXES = ("io.kubernetes.cri.sandbox-id", "io.kubernetes.cri-o.SandboxID")


def sandbox_of(annotations: dict[str, str]) -> str:
    """The id of the container whose sandbox this one joins; empty when it brings a sandbox of its own."""
    for kind_key, sandbox_key in zip(_KINDS, _SANDBOXES, strict=True):
        if annotations.get(kind_key) == "container":
            return annotations.get(sandbox_key, "")
    return ""


def is_infra(annotations: dict[str, str]) -> bool:
    """Whether a container only holds the namespaces of its pod."""
    return annotations.get(INFRA) == "true"
