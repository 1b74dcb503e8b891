"""Whatever is done to a manifest, it is a pod or a clear refusal."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import msgspec
import pytest

from hyperd.errors import InvalidError
from hyperd.manifests import load, read_pod
from hyperd.manifests.documents import parse_documents

from .samples import text

ROUNDS = 500
ODD: list[Any] = [
    None, True, -1, 0, 1, 70000, 2**31, 2**64, 1.5, 1e300, "", "x", "/", "..", "\0", "é", "\ud800", "$(A)", "$$", "a" * 300, "1e3", "0x", "yes", "128Mi",
    [], {}, [None], [[]], [{}], {"": ""}, {"name": "x"}, ["x", 1], {"a": {"b": [1]}},
]  # fmt: skip
FILES = ("deployment.yaml", "sidecar.yaml", "jobs.yaml", "original.json")


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every member as its parent and its key."""
    found = []
    stack = [value]
    while stack:
        parent = stack.pop()
        for key in list(parent) if isinstance(parent, dict) else range(len(parent)):
            found.append((parent, key))
            if isinstance(parent[key], dict | list):
                stack.append(parent[key])
    return found


def mutate(documents: list[Any], source: random.Random) -> None:
    parent, key = source.choice(places(documents))
    kind = source.randrange(5)
    if kind == 0 and isinstance(parent, dict):
        del parent[key]
    elif kind == 1 and isinstance(parent, dict):
        parent[str(key).swapcase()] = parent.pop(key)
    elif kind == 2 and isinstance(parent, list):
        parent.append(copy.deepcopy(parent[key]))
    elif kind == 3:
        other, member = source.choice(places(documents))
        parent[key] = copy.deepcopy(other[member])
    else:
        parent[key] = copy.deepcopy(source.choice(ODD))


@pytest.mark.parametrize("name", FILES)
def test_mutated_members(name: str) -> None:
    source = random.Random(name)
    originals = parse_documents(text(name))
    configs = [text("configs.yaml")] if name == "sidecar.yaml" else []
    pods = refusals = 0
    for round_number in range(ROUNDS):
        documents = copy.deepcopy(originals)
        for _ in range(source.choice((1, 1, 2))):
            mutate(documents, source)
        try:
            loaded = load([json.loads(json.dumps(document)) for document in documents], configs=configs)
        except InvalidError as error:
            refusals += 1
            assert error.message and "\n" not in error.message, (round_number, documents)
        else:
            pods += 1
            for pod in loaded.pods:
                assert read_pod(msgspec.to_builtins(pod)) == pod
    # Both happen, else the test shows nothing.
    assert pods > ROUNDS // 20 and refusals > ROUNDS // 20


@pytest.mark.parametrize("name", FILES)
def test_mutated_texts(name: str) -> None:
    source = random.Random(name)
    original = text(name)
    refusals = 0
    for _ in range(ROUNDS // 4):
        letters = list(original)
        for _ in range(source.randint(1, 4)):
            at = source.randrange(len(letters))
            letters[at : at + source.randint(0, 3)] = source.choice(
                ["", ":", "- ", "\n", "{", "]", "&a ", "*a", "!!int ", "\t", "'", "#", "\x00", "0"]
            )
        try:
            load("".join(letters))
        except InvalidError:
            refusals += 1
    assert refusals
