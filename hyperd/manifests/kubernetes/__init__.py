"""Kubernetes' manifests -> pods: v1 Pods, the templates of workloads, and ConfigMaps, Secrets and claims beside them. Pure."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from hyperd import spec
from hyperd.errors import InvalidError
from hyperd.manifests.kubernetes import services, store, workloads
from hyperd.manifests.kubernetes.workloads import Made
from hyperd.manifests.weight import BYTES_MAX, PODS_MAX, check_weight, weight_of

_VERSIONS = {
    "Pod": "v1", "List": "v1", "ConfigMap": "v1", "Secret": "v1", "PersistentVolumeClaim": "v1", "Service": "v1", "ReplicationController": "v1",
    "Deployment": "apps/v1", "ReplicaSet": "apps/v1", "StatefulSet": "apps/v1", "DaemonSet": "apps/v1",
    "Job": "batch/v1", "CronJob": "batch/v1",
}  # fmt: skip
_PODS: dict[str, Callable[[Any, Made], list[spec.Pod]]] = {
    "Pod": workloads.from_pod,
    "ReplicationController": workloads.from_replication_controller,
    "Deployment": workloads.from_deployment,
    "ReplicaSet": workloads.from_deployment,
    "StatefulSet": workloads.from_deployment,
    "DaemonSet": workloads.from_deployment,
    "Job": workloads.from_job,
    "CronJob": workloads.from_cron_job,
}
_DATA: dict[str, Callable[[store.Store, Any], None]] = {
    "ConfigMap": store.add_config_map,
    "Secret": store.add_secret,
    "PersistentVolumeClaim": store.add_claim,
}
# Commonly in one file with a pod; nothing goes wrong in the pod without them.
_IGNORED = {
    "Ingress": "publish ports of the pod", "Namespace": "there is one", "ServiceAccount": "there is no API server",
    "Role": "there is no API server", "RoleBinding": "there is no API server", "ClusterRole": "there is no API server",
    "ClusterRoleBinding": "there is no API server", "PersistentVolume": "volumes are made when a claim is first used",
    "StorageClass": "there is one kind of volume", "PodDisruptionBudget": "nothing is drained", "HorizontalPodAutoscaler": "the number of pods is fixed",
}  # fmt: skip


class _Placed(NamedTuple):
    document: Any
    kind: str
    where: str


def is_kubernetes(document: Any) -> bool:
    return isinstance(document, dict) and "apiVersion" in document and "kind" in document


def read(documents: list[Any], configs: list[Any], suffix: str, warnings: list[str]) -> list[spec.Pod]:
    """The pods of ``documents``, in their order. ``configs``: documents of which only the data counts.

    :raise InvalidError: one of them is wrong; names the document, when there are several, and the path in it
    """
    placed = list(_flat(documents, "document", several=len(documents) > 1))
    beside = list(_flat(configs, "config document", several=True))
    for each in beside:
        if each.kind not in _DATA:
            raise InvalidError(f"{each.where}a config file has ConfigMaps and Secrets, not a {each.kind}")
    data = store.empty()
    for each in [*placed, *beside]:
        if each.kind in _DATA:
            with _within(each.where):
                _DATA[each.kind](data, each.document)
    known = [found for each in placed if (found := _service(each, warnings)) is not None]
    pods: list[spec.Pod] = []
    size = 0
    for each in placed:
        for pod in _pods(each, Made(data, warnings, suffix)):
            pods.append(services.with_names(pod, known))
            size += weight_of(pod)
        if len(pods) > PODS_MAX:
            raise InvalidError(f"more than {PODS_MAX} pods in one file")
        check_weight(size, "the file", BYTES_MAX)
    return pods


def _service(each: _Placed, warnings: list[str]) -> services.Service | None:
    if each.kind != "Service":
        return None
    own: list[str] = []
    with _within(each.where):
        found = services.read_service(each.document, own)
    warnings.extend(each.where + text for text in own)
    return found


def _pods(each: _Placed, made: Made) -> list[spec.Pod]:
    if each.kind in _PODS:
        own = made._replace(warnings=[])
        with _within(each.where):
            pods = _PODS[each.kind](each.document, own)
        made.warnings.extend(each.where + text for text in own.warnings)
        return pods
    if each.kind in _IGNORED:
        made.warnings.append(f"{each.where}{each.kind} is ignored: {_IGNORED[each.kind]}")
    elif each.kind not in _DATA and each.kind != "Service":
        raise InvalidError(f"{each.where}kind: {each.kind[:80]!r} is not supported", hint=f"there are {', '.join([*_PODS, *_DATA])}")
    return []


def _flat(documents: list[Any], what: str, *, several: bool) -> Iterator[_Placed]:
    """Lists opened. ``where`` is what messages begin with; empty for the only one."""
    for index, document in enumerate(documents):
        where = f"{what} {index + 1}: " if several else ""
        if not is_kubernetes(document) or not isinstance(document["kind"], str) or not isinstance(document["apiVersion"], str):
            raise InvalidError(f"{where}needs apiVersion and kind, as texts")
        kind = document["kind"]
        if several and isinstance(metadata := document.get("metadata"), dict) and isinstance(metadata.get("name"), str):
            where = f"{what} {index + 1} ({kind[:80]} {metadata['name'][:80]}): "
        expected = _VERSIONS.get(kind, document["apiVersion"])
        if document["apiVersion"] != expected:
            raise InvalidError(f"{where}apiVersion: {document['apiVersion'][:80]!r} has no {kind[:80]}; it is in {expected}")
        if kind == "List":
            items = document.get("items", [])
            if not isinstance(items, list):
                raise InvalidError(f"{where}items: expected a list")
            if any(isinstance(item, dict) and item.get("kind") == "List" for item in items):
                raise InvalidError(f"{where}items: a List in a List")
            yield from _flat(items, f"{where}item", several=True)
        else:
            yield _Placed(document, kind, where)


@contextmanager
def _within(where: str) -> Iterator[None]:
    """Puts the document's place in front of what goes wrong in it."""
    try:
        yield
    except InvalidError as error:
        raise InvalidError(where + error.message, hint=error.hint) from error
