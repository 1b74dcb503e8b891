"""The downward API: what a pod may learn about itself."""

import re
from decimal import ROUND_CEILING

from hyperd.errors import InvalidError
from hyperd.manifests.kubernetes import records
from hyperd.manifests.kubernetes.scope import Scope
from hyperd.manifests.quantities import parse_quantity
from hyperd.spec import Late

LATE: dict[str, Late] = {
    "status.podIP": "pod-ip",
    "status.podIPs": "pod-ips",
    "status.hostIP": "host-ip",
    "status.hostIPs": "host-ips",
    "spec.nodeName": "node-name",
    "metadata.uid": "pod-uid",
}
_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")


def field_value(selector: records.FieldSelector, path: str, scope: Scope, *, in_file: bool) -> str | None:
    """A field of the pod as text; None: it is known at the start only (``LATE``).

    ``in_file``: all labels or annotations are possible there, and what is known only later is not.
    """
    field = selector.field_path
    simple = {"metadata.name": scope.name, "metadata.namespace": scope.namespace}
    if not in_file:
        simple["spec.serviceAccountName"] = scope.service_account
    if field in simple:
        return simple[field]
    if found := _SUBSCRIPT.fullmatch(field):
        return (scope.labels if found[1] == "labels" else scope.annotations).get(found[2], "")
    if in_file and field in ("metadata.labels", "metadata.annotations"):
        return _lines(scope.labels if field == "metadata.labels" else scope.annotations)
    if field in LATE and not in_file:
        return None
    if field in LATE:
        raise InvalidError(f"{path}.fieldPath: {field} cannot be put into a file: it is known at the start only", hint="use a variable")
    raise InvalidError(f"{path}.fieldPath: {field!r} is not a field that a pod can be told")


def _lines(found: dict[str, str]) -> str:
    """``key="escaped value"``, sorted, as Kubernetes writes them."""

    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r") + '"'

    return "\n".join(f"{key}={quoted(found[key])}" for key in sorted(found))


def resource_value(selector: records.ResourceSelector, path: str, own: str, scope: Scope) -> str:
    """A limit or request of a container, ``own`` where none is named, in units of the divisor and rounded up."""
    container = selector.container_name or own
    if container not in scope.requirements:
        raise InvalidError(f"{path}.containerName: there is no container {container!r}")
    kind, _, resource = selector.resource.partition(".")
    if kind not in ("limits", "requests") or resource not in ("cpu", "memory", "ephemeral-storage"):
        raise InvalidError(f"{path}.resource: {selector.resource!r} is not a resource that a pod can be told")
    found = scope.requirements[container]
    value = (found.limits if kind == "limits" else {**found.limits, **found.requests}).get(resource)
    if value is None and kind == "limits":
        raise InvalidError(f"{path}.resource: container {container!r} has no limit of {resource}")
    divisor = parse_quantity(selector.divisor, f"{path}.divisor") or 1
    return str(int((parse_quantity(value or 0, path) / divisor).to_integral_value(ROUND_CEILING)))
