"""Pod files of every kind -> ``hyperd.spec.Pod``. Pure: nothing but the given text is read.

``load`` takes what people write (the original format, Kubernetes), ``read_pod`` and ``read_container`` what programs send (the canonical form).
"""

import secrets
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from hyperd import spec
from hyperd.errors import InvalidError
from hyperd.manifests import hyper, kubernetes
from hyperd.manifests.check import check_container, check_pod
from hyperd.manifests.decode import decode
from hyperd.manifests.documents import normal, parse_documents
from hyperd.manifests.weight import PODS_MAX

_LETTERS = "bcdfghjklmnpqrstvwxz2456789"


class Loaded(NamedTuple):
    """``warnings``: what of the text is not carried out, each with its path."""

    pods: tuple[spec.Pod, ...]
    warnings: tuple[str, ...]


def random_suffix() -> str:
    """Five letters that make no words."""
    return "".join(secrets.choice(_LETTERS) for _ in range(5))


def load(
    text: str | bytes | list[Any], *, configs: Iterable[str | bytes] = (), suffix: Callable[[], str] = random_suffix
) -> Loaded:
    """The pods of a pod file, in its order.

    ``text``: JSON or YAML with one document or several, or the documents of such a text. ``configs``: files with Kubernetes' ConfigMaps, Secrets and claims
    beside it. ``suffix``: what the names of pods without a name end with.

    :raise InvalidError: names the document and the path of what is wrong
    """
    documents = [normal(document) for document in text] if isinstance(text, list) else parse_documents(text)
    beside = [document for each in configs for document in parse_documents(each)]
    warnings: list[str] = []
    if any(kubernetes.is_kubernetes(document) for document in documents):
        pods = kubernetes.read(documents, beside, suffix(), warnings)
    elif beside:
        raise InvalidError("ConfigMaps and Secrets are for Kubernetes' manifests, and this is none", hint="put files into the pod file")
    else:
        if len(documents) > PODS_MAX:
            raise InvalidError(f"more than {PODS_MAX} pods in one file")
        pods = [_original(document, suffix(), warnings) for document in documents]
    if not documents:
        raise InvalidError("there is no pod in the file")
    for pod in pods:
        check_pod(pod)
    return Loaded(tuple(pods), tuple(warnings))


def read_pod(value: Any) -> spec.Pod:
    """A pod in the canonical form (docs/pods.md).

    :raise InvalidError: names the path of what is wrong
    """
    pod = decode(normal(value), spec.Pod)
    check_pod(pod)
    return pod


def read_container(value: Any, volumes: Iterable[str]) -> spec.Container:
    """A container in the canonical form, to be added to a pod that has ``volumes``.

    :raise InvalidError: names the path of what is wrong
    """
    container = decode(normal(value), spec.Container)
    check_container(container, "container", set(volumes))
    return container


def _original(document: Any, suffix: str, warnings: list[str]) -> spec.Pod:
    if not isinstance(document, dict):
        raise InvalidError("a pod file is a mapping", hint="Kubernetes' manifests begin with apiVersion and kind")
    if "apiVersion" in document or "kind" in document:
        raise InvalidError(f"{'kind' if 'apiVersion' in document else 'apiVersion'}: missing")
    return hyper.read(document, suffix, warnings)
