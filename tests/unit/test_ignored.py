"""What a configuration asks for in vain, and that it is told."""

from typing import Any

import pytest

from runv.spec.ignored import in_config

from .test_spec import changed, read

CASES: list[tuple[str, Any, str]] = [
    ("process.apparmorProfile", "docker-default", "process.apparmorProfile is not applied"),
    ("process.selinuxLabel", "system_u:system_r:t:s0", "process.selinuxLabel is not applied"),
    ("process.capabilities.ambient", ["CAP_KILL", "CAP_TEST", "CAP_A"], "process.capabilities: CAP_A, CAP_TEST cannot be granted"),
    ("linux.mountLabel", "system_u:object_r:t:s0", "linux.mountLabel is not applied"),
    ("linux.resources.memory", {"kernel": 5}, "linux.resources.memory.kernel is not applied"),
    ("linux.resources.memory", {"kernelTCP": 5}, "linux.resources.memory.kernelTCP is not applied"),
    ("linux.resources.memory", {"swappiness": 0}, "linux.resources.memory.swappiness is without effect"),
    ("linux.resources.memory", {"disableOOMKiller": True}, "linux.resources.memory.disableOOMKiller is not applied"),
    ("linux.resources.network", {"classID": 5}, "linux.resources.network.classID is not applied"),
    ("linux.resources.network", {"priorities": [{"name": "a", "priority": 5}]}, "linux.resources.network.priorities"),
]


@pytest.mark.parametrize(("path", "value", "sentence"), CASES)
def test_told(path: str, value: Any, sentence: str) -> None:
    document = changed(path, value)
    (told,) = in_config(read(document), document)
    assert told.startswith(sentence)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("hostname", "h"),
        ("process.apparmorProfile", "unconfined"),
        ("linux.mountLabel", ""),
        # What Docker and containerd send for nothing
        ("linux.resources.memory", {"kernel": 0, "kernelTCP": -1, "disableOOMKiller": False}),
        ("linux.resources", None),
        ("linux.resources.network", {"classID": None, "priorities": []}),
    ],
)
def test_nothing_to_tell(path: str, value: Any) -> None:
    document = changed(path, value)
    assert in_config(read(document), document) == []
