"""A Pod of core/v1, or the template of one."""

import math
import re

from hyperd import spec
from hyperd.errors import InvalidError
from hyperd.manifests import names
from hyperd.manifests.kubernetes import records, resources
from hyperd.manifests.kubernetes.containers import RESTARTS, container
from hyperd.manifests.kubernetes.scope import Scope
from hyperd.manifests.kubernetes.security import check_pod
from hyperd.manifests.kubernetes.store import Store, namespace_of
from hyperd.manifests.kubernetes.volumes import volumes
from hyperd.manifests.weight import check_weight, container_weight

_SYSCTL = re.compile(r"[a-z0-9]([-_a-z0-9]*[a-z0-9])?([./][a-zA-Z0-9]([-_a-zA-Z0-9]*[a-zA-Z0-9])?)+")
_ONE_NODE = "there is one host, and nothing to choose"
_IGNORED = {
    "affinity": _ONE_NODE, "nodeName": _ONE_NODE, "nodeSelector": _ONE_NODE, "tolerations": _ONE_NODE, "topologySpreadConstraints": _ONE_NODE,
    "schedulerName": _ONE_NODE, "priority": _ONE_NODE, "priorityClassName": _ONE_NODE, "preemptionPolicy": _ONE_NODE, "schedulingGates": _ONE_NODE,
    "serviceAccount": "there is no API server", "serviceAccountName": "there is no API server", "overhead": "the machine's own is counted by itself",
    "imagePullSecrets": "registries are logged in to by hyperctl login", "readinessGates": "nobody sets their conditions",
    "runtimeClassName": "every pod is a machine",
}  # fmt: skip
_REFUSED = {
    "ephemeralContainers": "add a container to the running pod", "resourceClaims": "there are no devices to claim",
    "hostNetwork": "a pod has a kernel of its own", "hostPID": "a pod has a kernel of its own", "hostIPC": "a pod has a kernel of its own",
    "setHostnameAsFQDN": "set hostname",
}  # fmt: skip


def pod(name: str, metadata: records.Metadata, found: records.PodSpec, path: str, store: Store, warnings: list[str]) -> spec.Pod:
    """``path``: that of the spec in its document. ``name``: what the pod will be called."""
    scope = _scope(name, metadata, found, store, warnings)
    _check_support(found, path, scope)
    check_pod(found.security_context, f"{path}.securityContext", scope)
    vcpus, memory_mib = _size(found.resources, f"{path}.resources")
    made = spec.Pod(
        name=names.dns_subdomain(name, "metadata.name"),
        namespace=metadata.namespace,
        hostname=names.dns_label(found.hostname, f"{path}.hostname") if found.hostname else name[:63].rstrip("-."),
        labels=metadata.labels,
        annotations=metadata.annotations,
        vcpus=vcpus,
        memory_mib=memory_mib,
        containers=_containers(found.containers, f"{path}.containers", found, scope),
        init_containers=_containers(found.init_containers, f"{path}.initContainers", found, scope, init=True),
        volumes=volumes(found.volumes, f"{path}.volumes", scope),
        dns=_dns(found, path),
        host_aliases=_host_aliases(found.host_aliases, f"{path}.hostAliases"),
        sysctls=_sysctls(found.security_context.sysctls, f"{path}.securityContext.sysctls"),
        restart=_restart(found.restart_policy, f"{path}.restartPolicy"),
        share_pids=found.share_process_namespace,
        fs_group=found.security_context.fs_group,
        termination_grace_s=float(_not_negative(found.termination_grace_period_seconds, f"{path}.terminationGracePeriodSeconds")),
        active_deadline_s=float(_deadline(found.active_deadline_seconds, f"{path}.activeDeadlineSeconds")),
    )
    _check_containers(made, path)
    return made


def _containers(
    given: list[records.Container], path: str, found: records.PodSpec, scope: Scope, *, init: bool = False
) -> tuple[spec.Container, ...]:
    made: list[spec.Container] = []
    size = 0
    for index, each in enumerate(given):
        made.append(container(each, f"{path}[{index}]", found, scope, init=init))
        size += container_weight(made[-1])
        check_weight(size, path)
    return tuple(made)


def _scope(name: str, metadata: records.Metadata, found: records.PodSpec, store: Store, warnings: list[str]) -> Scope:
    return Scope(
        name=name,
        namespace=namespace_of(metadata),
        labels=metadata.labels,
        annotations=metadata.annotations,
        service_account=str(found.service_account_name or found.service_account or "default"),
        requirements={each.name: each.resources for each in [*found.init_containers, *found.containers]},
        store=store,
        warnings=warnings,
    )


def check_metadata(found: records.Metadata, path: str) -> None:
    names.labels(found.labels, f"{path}.labels")
    for key in found.annotations:
        names.label_key(key.lower(), f"{path}.annotations")
    if found.namespace:
        names.dns_label(found.namespace, f"{path}.namespace")


def _check_support(found: records.PodSpec, path: str, scope: Scope) -> None:
    given = {name: getattr(found, field) for field, name in zip(found.__struct_fields__, found.__struct_encode_fields__, strict=True)}
    for name, why in _REFUSED.items():
        if given[name]:
            raise InvalidError(f"{path}.{name} cannot be honoured", hint=why)
    for name, why in _IGNORED.items():
        if given[name]:
            scope.warn(f"{path}.{name} is ignored: {why}")
    if found.os is not None and found.os.name != "linux":
        raise InvalidError(f"{path}.os.name: {found.os.name[:80]!r} cannot be honoured: pods are Linux's")
    if found.hostname_override:
        raise InvalidError(f"{path}.hostnameOverride is not supported", hint="set hostname")
    if found.subdomain:
        scope.warn(f"{path}.subdomain is ignored: networks know pods by their names and aliases")
    if not found.host_users:
        scope.warn(f"{path}.hostUsers is ignored: a pod has a kernel, and so users, of its own")
    if found.automount_service_account_token or found.enable_service_links:
        name = "automountServiceAccountToken" if found.automount_service_account_token else "enableServiceLinks"
        scope.warn(f"{path}.{name} is ignored: there is no API server")


def _check_containers(made: spec.Pod, path: str) -> None:
    if not made.containers:
        raise InvalidError(f"{path}.containers: a pod needs at least one container")
    all_of = [(f"{path}.initContainers[{index}]", each) for index, each in enumerate(made.init_containers)]
    all_of += [(f"{path}.containers[{index}]", each) for index, each in enumerate(made.containers)]
    names.unique(((f"{where}.name", each.name) for where, each in all_of), "the container")
    names.unique(
        (
            (f"{where}.ports[{index}].hostPort", (port.host_ip, port.host_port, port.protocol) if port.host_port else None)
            for where, each in all_of
            for index, port in enumerate(each.ports)
        ),
        "the port of the host",
    )


def _size(found: records.Requirements, path: str) -> tuple[int, int]:
    """Virtual CPUs and MiB of the machine, from the limits (or else the requests) of the whole pod."""
    whole = resources.resources(found, path)
    cpus, memory = whole.cpus or whole.request_cpus, whole.memory or whole.request_memory
    return math.ceil(cpus), math.ceil(memory / (1 << 20))


def _dns(found: records.PodSpec, path: str) -> spec.Dns:
    if found.dns_policy not in ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"):
        raise InvalidError(f"{path}.dnsPolicy: {found.dns_policy[:80]!r} is none of ClusterFirst, ClusterFirstWithHostNet, Default, None")
    config, where = found.dns_config, f"{path}.dnsConfig"
    for index, address in enumerate(config.nameservers):
        names.address(address, f"{where}.nameservers[{index}]")
    for index, domain in enumerate(config.searches):
        if domain != ".":
            names.dns_subdomain(domain.removesuffix(".").replace("_", "-"), f"{where}.searches[{index}]")
    for index, option in enumerate(config.options):
        if not option.name or any(char <= " " for char in option.name + (option.value or "")):
            raise InvalidError(f"{where}.options[{index}]: {option.name[:80]!r} is not an option")
    if len(config.nameservers) > 3 or len(config.searches) > 32:
        raise InvalidError(f"{where}: at most 3 nameservers and 32 searches")
    if found.dns_policy == "None" and not config.nameservers:
        raise InvalidError(f"{where}.nameservers: dnsPolicy None needs at least one")
    return spec.Dns(
        policy="none" if found.dns_policy == "None" else "default",
        servers=tuple(config.nameservers),
        searches=tuple(config.searches),
        options=tuple(option.name + (f":{option.value}" if option.value else "") for option in config.options),
    )


def _host_aliases(found: list[records.HostAlias], path: str) -> tuple[spec.HostAlias, ...]:
    for index, alias in enumerate(found):
        names.address(alias.ip, f"{path}[{index}].ip")
        for position, name in enumerate(alias.hostnames):
            names.dns_subdomain(name, f"{path}[{index}].hostnames[{position}]")
    return tuple(spec.HostAlias(ip=alias.ip, names=tuple(alias.hostnames)) for alias in found if alias.hostnames)


def _sysctls(found: list[records.Sysctl], path: str) -> dict[str, str]:
    """All of them are safe here: the kernel is the pod's own."""
    for index, each in enumerate(found):
        if len(each.name) > 253 or not _SYSCTL.fullmatch(each.name):
            raise InvalidError(f"{path}[{index}].name: {each.name[:80]!r} is not a sysctl")
    names.unique(((f"{path}[{index}].name", each.name) for index, each in enumerate(found)), "the sysctl")
    return {each.name: names.no_nul(each.value, path) for each in found}


def _restart(text: str, path: str) -> spec.RestartPolicy:
    if text not in RESTARTS:
        raise InvalidError(f"{path}: {text[:80]!r} is none of {', '.join(RESTARTS)}")
    return RESTARTS[text]


def _not_negative(number: int, path: str) -> int:
    if not 0 <= number < 2**31:
        raise InvalidError(f"{path}: {number} is not a number of seconds")
    return number


def _deadline(number: int | None, path: str) -> int:
    if number is not None and not 1 <= number < 2**31:
        raise InvalidError(f"{path}: {number} is not a positive number of seconds")
    return number or 0
