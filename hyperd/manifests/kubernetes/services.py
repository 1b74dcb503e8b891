"""Services: their names lead to their pods, in the networks of these. Nothing stands between, so ports are the containers' own."""

from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from hyperd import spec
from hyperd.manifests import names
from hyperd.manifests.decode import decode
from hyperd.manifests.kubernetes import records
from hyperd.manifests.kubernetes.store import namespace_of

_DOMAIN = "svc.cluster.local"


class _Loose(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What else there is says how a cluster brings connections to pods."""


class ServicePort(_Loose, frozen=True):
    port: int
    target_port: int | str | None = None


class ServiceSpec(_Loose, frozen=True):
    selector: dict[str, str] = {}
    type: str = "ClusterIP"
    ports: list[ServicePort] = []


class Document(_Loose, frozen=True):
    metadata: records.Metadata
    spec: ServiceSpec = ServiceSpec()


class Service(NamedTuple):
    name: str
    namespace: str
    selector: dict[str, str]


def read_service(document: Any, warnings: list[str]) -> Service:
    """Warns of what it does beyond giving pods a name."""
    found = decode(document, Document)
    name = names.dns_label(found.metadata.name, "metadata.name")
    if found.spec.type != "ClusterIP":
        warnings.append(f"spec.type {found.spec.type[:80]} is ignored: publish ports by hostPort or hyperctl")
    for index, port in enumerate(found.spec.ports):
        if port.target_port not in (None, port.port) and not isinstance(port.target_port, str):
            warnings.append(f"spec.ports[{index}].port {port.port} is not carried to {port.target_port}: ask the pods for {port.target_port}")
    if not found.spec.selector:
        warnings.append("a Service without a selector is ignored")
    return Service(name, namespace_of(found.metadata), found.spec.selector)


def with_names(pod: spec.Pod, services: list[Service]) -> spec.Pod:
    """The pod, known by the names of the services that select it."""
    namespace = pod.namespace or "default"
    selecting = [
        each for each in services if each.namespace == namespace and each.selector and each.selector.items() <= pod.labels.items()
    ]
    return with_aliases(pod, [name for each in selecting for name in full_names(each.name, namespace)])


def with_aliases(pod: spec.Pod, aliases: list[str]) -> spec.Pod:
    if not aliases:
        return pod
    return replace(pod, interfaces=tuple(replace(each, aliases=(*each.aliases, *aliases)) for each in pod.interfaces))


def full_names(name: str, namespace: str) -> list[str]:
    """All that a cluster's DNS calls it: ``web``, ``web.default``, ..., ``web.default.svc.cluster.local``."""
    return [name, f"{name}.{namespace}", f"{name}.{namespace}.svc", f"{name}.{namespace}.{_DOMAIN}"]
