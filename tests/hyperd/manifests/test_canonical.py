"""The canonical form, as programs send it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hyperd.errors import InvalidError
from hyperd.manifests import load, read_container, read_pod

from .samples import text


@pytest.mark.parametrize("name", ["deployment.yaml", "jobs.yaml", "original.json"])
def test_what_is_stored_reads_as_it_was(name: str) -> None:
    for pod in load(text(name)).pods:
        assert read_pod(msgspec.json.decode(msgspec.json.encode(pod))) == pod


def test_names_as_docker_has_them() -> None:
    assert read_pod({"name": "My_pod.1", "containers": [{"name": "Web_1", "image": "x"}]}).containers[0].name == "Web_1"


def one(**members: Any) -> dict[str, Any]:
    return {"name": "p", "containers": [{"name": "c", "image": "i", **members}]}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "the document: missing field name"),
        ([], "the document: expected mapping, got array"),
        ({"name": ""}, "name: '' is not a name"),
        ({"name": "p-"}, "name: 'p-' cannot be a name of DNS"),
        ({"name": "a..b"}, "name: 'a..b' cannot be a name of DNS"),
        ({"name": "p", "interfaces": [{"aliases": ["a b"]}]}, "interfaces[0].aliases[0]: 'a b' is not a name of DNS"),
        ({"name": "p", "x": 1}, "the document: unknown field x"),
        ({"name": "p", "hostname": "a" * 64}, "hostname: "),
        ({"name": "p", "vcpus": 256}, "vcpus: 256 is not a number from 0 to 255"),
        ({"name": "p", "termination_grace_s": -1.0}, "termination_grace_s: -1.0 is not a number of seconds"),
        ({"name": "p", "volumes": [{"name": "v", "source": {"kind": "zip"}}]}, "volumes[0].source.kind: invalid value"),
        ({"name": "p", "volumes": [{"name": "v", "source": {"kind": "files", "files": [{"path": "/x"}]}}]}, "volumes[0].source.files[0].path: '/x' is not a relative path"),
        ({"name": "p", "volumes": [{"name": "v", "source": {"kind": "named", "name": "../x"}}]}, "volumes[0].source.name: '../x' is not a name"),
        ({"name": "p", "volumes": [{"name": "v", "source": {"kind": "image", "path": "/x.img", "cache": "none"}}]}, "volumes[0].source.cache: 'none' is not supported yet"),
        ({"name": "p", "volumes": [{"name": "v", "source": {"kind": "image", "path": "/x.img", "fstype": "a b"}}]}, "volumes[0].source.fstype: 'a b' is not"),
        ({"name": "p", "interfaces": [{"mtu": 20}]}, "interfaces[0].mtu: 20 is not a number from 68 to 65535"),
        ({"name": "p", "interfaces": [{"name": "a/b"}]}, "interfaces[0].name: 'a/b' is not the name of an interface"),
        ({"name": "p", "dns": {"servers": ["x"]}}, "dns.servers[0]: 'x' is not an IP address"),
        ({"name": "p", "dns": {"options": ["a\nb"]}}, "dns.options[0]: 'a\\nb' does not fit"),
        ({"name": "p", "host_aliases": [{"ip": "1.2.3.4", "names": ["a b"]}]}, "host_aliases[0].names: 'a b' is not"),
        ({"name": "p", "sysctls": {"a b": "1"}}, "sysctls: 'a b' is not a sysctl"),
        (one(command=[""]), "containers[0].command[0]: must not be empty"),
        (one(args=["\0"]), "containers[0].args[0]: contains a NUL"),
        (one(environment=[["A=B", "c"]]), "containers[0].environment[0]: 'A=B' is not the name of a variable"),
        (one(environment=[["A"]]), "containers[0].environment[0]: expected array of length 2, got 1"),
        (one(mounts=[{"volume": "v", "path": "/x"}]), "containers[0].mounts[0].volume: there is no volume 'v'"),
        (one(files=[{"path": "/x", "content": "a", "source": "/y"}]), "containers[0].files[0]: only one of content and source"),
        (one(files=[{"path": "/x", "mode": 99999}]), "containers[0].files[0].mode: 99999 is not"),
        (one(resources={"cpus": 5000.0}), "containers[0].resources.cpus: 5000.0 is not a number of CPUs"),
        (one(resources={"swap": 1 << 30}), "containers[0].resources.swap: needs a limit of memory"),
        (one(resources={"cpu_shares": 1}), "containers[0].resources.cpu_shares: 1 is not"),
        (one(root_size=5), "containers[0].root_size: 5 is not a size"),
        (one(security={"user": "a:b:c"}), "containers[0].security.user: 'a:b:c' is not a name or id"),
        (one(security={"user": "4294967295"}), "containers[0].security.user: 4294967295 is not an id"),
        (one(security={"add_capabilities": ["x"]}), "containers[0].security.add_capabilities[0]: 'x' is not a capability"),
        (one(stop_signal="x"), "containers[0].stop_signal: 'x' is not a signal"),
        (one(labels={"": "x"}), "containers[0].labels: '' is not the key of a label"),
        (one(liveness_probe={}), "containers[0].liveness_probe: needs exactly one of"),
        (one(liveness_probe={"tcp_port": 1, "period_s": 0}), "containers[0].liveness_probe: period_s and timeout_s must be positive"),
        (one(post_start={"command": ["x"], "sleep_s": 1.0}), "containers[0].post_start: only one of"),
    ],
)  # fmt: skip
def test_refused(value: Any, message: str) -> None:
    with pytest.raises(InvalidError) as caught:
        read_pod(value)
    assert str(caught.value).startswith(message)


def test_a_container_for_a_running_pod() -> None:
    found = read_container({"name": "c", "image": "i", "mounts": [{"volume": "v", "path": "/x"}]}, ["v"])
    assert found.mounts[0].volume == "v"
    with pytest.raises(InvalidError, match=r"container.mounts\[0\].volume: there is no volume"):
        read_container({"name": "c", "image": "i", "mounts": [{"volume": "v", "path": "/x"}]}, [])
