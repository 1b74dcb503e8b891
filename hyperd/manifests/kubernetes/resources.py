"""resources: limits and requests."""

from hyperd import spec
from hyperd.errors import InvalidError
from hyperd.manifests.kubernetes import records
from hyperd.manifests.quantities import cores, milli, parse_quantity, whole

_KNOWN = ("cpu", "memory", "ephemeral-storage")


def resources(found: records.Requirements, path: str) -> spec.Resources:
    """A request that is not there is the limit."""
    _check(found, path)
    requests = {**found.limits, **found.requests}
    limit, request = f"{path}.limits", f"{path}.requests"
    asked = milli(requests["cpu"], f"{request}.cpu") if "cpu" in requests else 0
    return spec.Resources(
        cpus=cores(found.limits.get("cpu", 0), f"{limit}.cpu"),
        # cgroup's weight for requests, as the kubelet converts them
        cpu_shares=min(max(2, asked * 1024 // 1000), 262144) if asked else 0,
        memory=whole(found.limits.get("memory", 0), f"{limit}.memory"),
        request_cpus=asked / 1000,
        request_memory=whole(requests.get("memory", 0), f"{request}.memory"),
    )


def root_size(found: records.Requirements, path: str) -> int:
    """Bytes that the container may write; 0: as the daemon has it."""
    return whole(found.limits.get("ephemeral-storage", 0), f"{path}.limits.ephemeral-storage")


def _check(found: records.Requirements, path: str) -> None:
    if found.claims:
        raise InvalidError(f"{path}.claims is not supported: there are no devices to claim")
    for kind, quantities in (("limits", found.limits), ("requests", found.requests)):
        for name, value in quantities.items():
            if name not in _KNOWN:
                raise InvalidError(f"{path}.{kind}.{name} is not supported", hint=f"there are {', '.join(_KNOWN)}")
            parse_quantity(value, f"{path}.{kind}.{name}")
    for name in found.requests.keys() & found.limits.keys():
        if parse_quantity(found.requests[name], path) > parse_quantity(found.limits[name], path):
            raise InvalidError(f"{path}.requests.{name}: {found.requests[name]} is more than the limit, {found.limits[name]}")
