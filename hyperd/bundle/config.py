"""config.json of a pod's containers, and of the infra container that brings its machine."""

import json
import posixpath
from collections.abc import Callable, Mapping
from typing import Any

from hyperd.bundle.capabilities import capabilities_of
from hyperd.bundle.files import OUR_FILES, archive, mounted
from hyperd.bundle.mounts import mounts_of
from hyperd.bundle.process import process_of
from hyperd.bundle.records import Bundle, ImageView, Place, Source
from hyperd.bundle.seccomp import default_profile
from hyperd.bundle.size import cpus_of, memory_of
from hyperd.bundle.texts import hostname_of
from hyperd.signals import name_of
from hyperd.spec import Container, EmptyDir, Named, Pod, Resources
from runv import OCI_VERSION
from runv.spec.annotations import (
    INFRA,
    LAYERS,
    MEMORY_MAX_MIB,
    MEMORY_MIB,
    POD_CPU_PERIOD,
    POD_CPU_QUOTA,
    POD_MEMORY,
    UPPER,
    VCPUS,
    VCPUS_MAX,
)
from runv.spec.default import default_config

Json = dict[str, Any]

_OF_UTS = ("kernel.hostname", "kernel.domainname")

KIND, SANDBOX = "io.kubernetes.cri.container-type", "io.kubernetes.cri.sandbox-id"
# For whoever looks at containers with runv; under a prefix of their own, since others mean something to runv.
POD_NAME, CONTAINER_NAME, LABEL = "hyperd.pod", "hyperd.container", "hyperd.label."
_PERIOD_US = 100_000
# What is newer than the list that runc's own default has.
_MASKED_TOO = ("/proc/interrupts", "/sys/devices/virtual/powercap")


def infra(pod: Pod, place: Place, netns: str, vcpus_max: int = 0, memory_max_mib: int = 0) -> Json:
    """The container that holds the machine and the namespaces which all others join. ``netns``: the path of the pod's network namespace.
    ``vcpus_max``, ``memory_max_mib``: what the machine may grow to; 0: it does not."""
    namespaces: list[Json] = [{"type": "network", "path": netns}, *({"type": kind} for kind in ("ipc", "uts", "mount"))]
    if pod.share_pids:
        namespaces.append({"type": "pid"})
    grown = {VCPUS_MAX: str(vcpus_max), MEMORY_MAX_MIB: str(memory_max_mib)}
    return {
        "ociVersion": OCI_VERSION,
        "hostname": hostname_of(pod),
        "root": {"path": "rootfs"},
        "annotations": {KIND: "sandbox", INFRA: "true", POD_NAME: pod.name, **_size(pod), **grown, **_labels(pod.labels)},
        "linux": {"namespaces": namespaces, "sysctl": dict(pod.sysctls), "cgroupsPath": f"{_cgroup(place)}/infra"},
    }


def looking(place: Place, image: ImageView, upper: str, *, own: bool, empty: str) -> Json:
    """A container without a program that has the root of another, for whoever wants its files. ``own``: in a machine of its own. ``empty``: an empty
    file of the host, which lies where every container has files of ours: their places are none of its changes."""
    new: list[Json] = [{"type": kind} for kind in ("network", "ipc", "uts", "mount")]
    kind = {KIND: "sandbox"} if own else {KIND: "container", SANDBOX: place.pod_id}
    return {
        "ociVersion": OCI_VERSION,
        "hostname": "looking",
        "root": {"path": "rootfs"},
        "mounts": [{"destination": path, "type": "bind", "source": empty, "options": ["bind", "ro"]} for path in OUR_FILES],
        "annotations": {**kind, INFRA: "true", LAYERS: json.dumps(list(image.layers)), UPPER: upper},
        "linux": {"namespaces": new if own else _namespaces(Pod(name="looking"), place), "cgroupsPath": f"{_cgroup(place)}/{place.container_id}"},
    }


def container(
    pod: Pod,
    own: Container,
    image: ImageView,
    place: Place,
    sources: Mapping[str, Source],
    *,
    upper: str = "",
    anonymous: Mapping[str, Source] | None = None,
    read: Callable[[str], bytes],
) -> Bundle:
    """A container that joins its pod's machine.

    ``sources``: where the pod's volumes are. ``upper``: the disk of what the container writes. ``anonymous``: places of the image's own volumes.
    ``read``: the content of a file of the host, for files that are put in.

    :raise InvalidError: no command, an unknown user, a volume without source, ...
    """
    taken = {posixpath.normpath(mount.path) for mount in own.mounts}
    files = list(mounted(pod, own, image, place, taken, read))
    config = {
        "ociVersion": OCI_VERSION,
        "hostname": hostname_of(pod),
        "process": process_of(pod, own, image, place),
        "root": {"path": "rootfs", "readonly": own.security.read_only_root},
        "mounts": mounts_of(pod, own, sources, anonymous or {}, files),
        "annotations": _annotations(pod, own, image, place, upper),
        "linux": {
            "namespaces": _namespaces(pod, place),
            "resources": _resources(own),
            "sysctl": {name: value for name, value in pod.sysctls.items() if name in _OF_UTS},
            "cgroupsPath": f"{_cgroup(place)}/{place.container_id}",
            **_confinement(own),
        },
    }
    return Bundle(config, tuple(file for _, file in files), archive(own, image, read))


def root_of(pod: Pod, source: EmptyDir | Named) -> tuple[int, int]:
    """Mode and group that the root of a new volume has: everybody may write to an emptyDir, the pod's group to all that is the pod's."""
    mode = 0o777 if isinstance(source, EmptyDir) else 0o755
    return (mode | 0o2070, pod.fs_group) if pod.fs_group is not None else (mode, 0)


def stop_signal(own: Container, image: ImageView) -> str:
    """``SIGTERM`` and the like.

    :raise InvalidError: the image names none that exists
    """
    return name_of(own.stop_signal or image.stop_signal or "SIGTERM", f"container {own.name}: the stop signal")


def _cgroup(place: Place) -> str:
    return place.cgroup or f"/hyperd/{place.pod_id}"


def _labels(labels: Mapping[str, str]) -> dict[str, str]:
    return {LABEL + key: value for key, value in labels.items()}


def _annotations(pod: Pod, own: Container, image: ImageView, place: Place, upper: str) -> dict[str, str]:
    root = {LAYERS: json.dumps(list(image.layers))} if image.layers else {}
    return {
        KIND: "container",
        SANDBOX: place.pod_id,
        POD_NAME: pod.name,
        CONTAINER_NAME: own.name,
        **root,
        **({UPPER: upper} if upper else {}),
        **_labels({**pod.labels, **own.labels}),
    }


def _size(pod: Pod) -> dict[str, str]:
    """What the pod says, else what its containers need: runv makes the machine at least that large."""
    found = {VCPUS: str(pod.vcpus)} if pod.vcpus else {}
    if not pod.vcpus and (cpus := cpus_of(pod)):
        found |= {POD_CPU_QUOTA: str(cpus * _PERIOD_US), POD_CPU_PERIOD: str(_PERIOD_US)}
    return found | ({MEMORY_MIB: str(pod.memory_mib)} if pod.memory_mib else {POD_MEMORY: str(memory_of(pod))})


def _namespaces(pod: Pod, place: Place) -> list[Json]:
    # The names are each container's own: a machine that waited for a pod has been given none.
    shared = ["network", "ipc", *(["pid"] if pod.share_pids else [])]
    names = {"network": "net"}
    joined = [{"type": kind, "path": f"/proc/{place.infra_pid}/ns/{names.get(kind, kind)}"} for kind in shared]
    return joined + [{"type": kind} for kind in ("mount", "cgroup", "uts", *(() if pod.share_pids else ("pid",)))]


def _resources(own: Container) -> Json:
    return {"devices": [{"allow": own.security.privileged, "access": "rwm"}], **limits_of(own.resources)}


def limits_of(resources: Resources) -> Json:
    """linux.resources, as ``runv update --resources`` takes them as well."""
    found: Json = {}
    if resources.memory:
        # OCI's swap is memory and swap together. Without a word of it there is none: the guest does not swap.
        found["memory"] = {"limit": resources.memory, "swap": resources.memory + resources.swap}
    cpu: Json = {"shares": resources.cpu_shares} if resources.cpu_shares else {}
    if resources.cpus:
        cpu |= {"quota": max(1000, round(resources.cpus * _PERIOD_US)), "period": _PERIOD_US}
    if cpu:
        found["cpu"] = cpu
    if resources.pids:
        found["pids"] = {"limit": resources.pids}
    return found


def _confinement(own: Container) -> Json:
    """What of the machine's kernel the container does not see, and does not call."""
    if own.security.privileged:
        return {}
    hidden = default_config()["linux"]
    found: Json = {"maskedPaths": [*hidden["maskedPaths"], *_MASKED_TOO], "readonlyPaths": hidden["readonlyPaths"]}
    if own.security.seccomp == "default":
        found["seccomp"] = default_profile(capabilities_of(own.security))
    return found
