"""Small manifests for the tests, and a shorthand to change them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hyperd import spec
from hyperd.manifests import Loaded, load

DATA = Path(__file__).parent / "data"
Json = dict[str, Any]


def text(name: str) -> str:
    return (DATA / name).read_text()


def container(**members: Any) -> Json:
    return {"name": "c", "image": "busybox:1", **members}


def pod(*containers: Json, **members: Any) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": {"containers": [*containers] or [container()], **members},
    }


def config_map(name: str = "cm", **data: str) -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def read(*documents: Json) -> Loaded:
    return load("\n---\n".join(json.dumps(document) for document in documents), suffix=lambda: "x2x2x")


def one(*documents: Json) -> spec.Pod:
    (made,) = read(*documents).pods
    return made


def first(*documents: Json) -> spec.Container:
    return one(*documents).containers[0]
