"""Whatever pod was accepted, its bundles are such that runv accepts them, or refused with a reason."""

from __future__ import annotations

import copy
import json
import random

import pytest

from hyperd import bundle
from hyperd.bundle import Disk, Folder, Memory, Source
from hyperd.errors import InvalidError
from hyperd.manifests import load
from hyperd.manifests.documents import parse_documents

from ..manifests.samples import text
from ..manifests.test_mutations import FILES, mutate
from .samples import IMAGE, PLACE, checked

ROUNDS = 200


@pytest.mark.parametrize("name", FILES)
def test_bundles_of_mutated_manifests(name: str) -> None:
    source = random.Random(name)
    originals = parse_documents(text(name))
    configs = [text("configs.yaml")] if name == "sidecar.yaml" else []
    image = IMAGE._replace(passwd=IMAGE.passwd + b"www:x:33:33::/:\n", group=IMAGE.group + b"www:x:33:\n")
    made = 0
    for _ in range(ROUNDS):
        documents = copy.deepcopy(originals)
        mutate(documents, source)
        try:
            pods = load([json.loads(json.dumps(document)) for document in documents], configs=configs).pods
        except InvalidError:
            continue
        kinds: list[Source] = [Folder("/v"), Disk("/v.img", "ext4", populate=True), Memory(shared="v")]
        for pod in pods:
            sources = {volume.name: source.choice(kinds) for volume in pod.volumes}
            checked(bundle.infra(pod, PLACE, "/run/netns/p"))
            for own in [*pod.init_containers, *pod.containers]:
                try:
                    found = bundle.container(pod, own, image, PLACE, sources, read=lambda path: b"")
                except InvalidError as error:
                    assert error.message
                else:
                    checked(found.config)
                    made += 1
    assert made > ROUNDS // 20
