"""What a small file may not become."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hyperd.errors import InvalidError
from hyperd.manifests import load, read_pod

from .samples import Json, config_map, container, pod, read

LARGE = config_map("large", **{f"k{number}": "x" * 100_000 for number in range(10)})


def template(spec: Json, replicas: int) -> Json:
    body: dict[str, Any] = {"replicas": replicas, "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": spec}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": body}


def volumes(count: int) -> Json:
    return {"volumes": [{"name": f"v{number}", "configMap": {"name": "large"}} for number in range(count)]}


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ([LARGE, pod(**volumes(1000))], "spec.volumes: more than 8 MiB"),
        ([LARGE, pod(volumes=[{"name": "v", "projected": {"sources": [{"configMap": {"name": "large"}}] * 1000}}])], "spec.volumes[0].projected: more than 8 MiB"),
        ([LARGE, pod(container(envFrom=[{"prefix": f"P{n}", "configMapRef": {"name": "large"}} for n in range(1000)]))], "spec.containers[0].envFrom: more than 2 MiB"),
        ([LARGE, pod(container(env=[{"name": f"V{n}", "valueFrom": {"configMapKeyRef": {"name": "large", "key": "k1"}}} for n in range(1000)]))], "spec.containers[0].env: more than 2 MiB"),
        ([LARGE, pod(container(args=["$(k1)"] * 1000, envFrom=[{"configMapRef": {"name": "large"}}]))], "spec.containers[0].args: more than 2 MiB"),
        ([LARGE, pod(*(container(name=f"c{n}", envFrom=[{"configMapRef": {"name": "large"}}]) for n in range(50)))], "spec.containers: more than 8 MiB"),
        ([LARGE, template({"containers": [container()], **volumes(5)}, 100)], "spec.replicas: more than 64 MiB"),
        ([template({"containers": [container()]}, 100)] * 6, "more than 500 pods in one file"),
    ],
    ids=["volumes", "sources", "envFrom", "env", "args", "containers", "replicas", "workloads"],
)  # fmt: skip
def test_too_much(documents: list[Json], message: str) -> None:
    with pytest.raises(InvalidError) as caught:
        read(*documents)
    assert message in str(caught.value)


def test_too_much_in_other_formats() -> None:
    file = {"path": "/x", "content": "y" * (5 << 20)}
    with pytest.raises(InvalidError, match="the pod: more than 8 MiB"):
        read_pod({"name": "p", "containers": [{"name": "c", "image": "i", "files": [file, {**file, "path": "/z"}]}]})
    with pytest.raises(InvalidError, match="more than 500 pods"):
        load("---\n".join(json.dumps({"id": f"p{number}"}) + "\n" for number in range(600)))


def test_much() -> None:
    assert len(read(LARGE, template({"containers": [container()], **volumes(2)}, 20)).pods) == 20
