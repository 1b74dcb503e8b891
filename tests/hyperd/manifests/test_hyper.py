"""The original pod format."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hyperd import spec
from hyperd.errors import InvalidError
from hyperd.manifests import Loaded, load

from .samples import text


def read(**members: Any) -> Loaded:
    return load(json.dumps(members), suffix=lambda: "x2x2x")


def test_all_of_it() -> None:
    loaded = load(text("original.json"))
    assert loaded.warnings == ("volumes[1].cache is ignored: disks are written back through the host's page cache",)
    (made,) = loaded.pods
    assert (made.name, made.hostname, made.restart, made.vcpus, made.memory_mib) == (
        "web-pod",
        "web",
        "on-failure",
        2,
        256,
    )
    assert made.log == spec.Log(max_size=1 << 20, max_files=2)
    web, second = made.containers
    assert (web.name, second.name, web.tty, second.tty) == ("nginx", "nginx-2", True, False)
    assert (web.command, web.args) == (("nginx",), ("-g", "daemon off;"))
    assert web.environment == (("A", "1"), ("B", ""))
    assert web.mounts == (
        spec.Mount(volume="data", path="/data", read_only=True), spec.Mount(volume="scratch", path="/scratch"), spec.Mount(volume="disk", path="/disk"),
    )  # fmt: skip
    assert web.files == (
        spec.File(path="/etc/motd", source="/etc/motd", mode=0o644, user="root", group="adm"),
        spec.File(path="/etc/hello", content="aGVsbG8=", encoding="base64"),
    )
    assert web.security == spec.Security(user="www", group="www", additional_groups=("adm",), read_only_root=True)
    assert (web.stop_signal, web.ulimits) == ("SIGQUIT", (spec.Ulimit(name="nofile", soft=1024, hard=4096),))
    assert web.log == spec.Log(path="/var/log/web.log", max_size=1 << 20, max_files=2)
    assert {volume.name: volume.source for volume in made.volumes} == {
        "data": spec.HostPath(path="/srv/data"),
        "disk": spec.Image(path="/srv/disk.qcow2", format="qcow2", fstype="ext4"),
        "scratch": spec.EmptyDir(),
    }
    assert made.interfaces == (
        spec.Interface(network="back", name="eth0", addresses=("10.0.0.5/24",), mac="52:54:00:00:00:05", mtu=1400),
    )
    assert [(port.host_port, port.container_port, port.protocol) for port in made.ports] == [
        (8080, 80, "tcp"), (8081, 80, "tcp"), (8082, 80, "tcp"), (9090, 90, "udp"), (9091, 91, "udp"),
    ]  # fmt: skip
    assert made.sysctls == {"net.core.somaxconn": "1024"}
    assert made.dns == spec.Dns(policy="none", servers=("192.0.2.53",), searches=("example.com",))


def test_little_of_it() -> None:
    assert read().pods == (spec.Pod(name="pod-x2x2x"),)
    assert read(containers=[{"image": "Example.com/Some_Thing:1"}]).pods[0].name == "some-thing-x2x2x"


def test_yaml_and_any_case() -> None:
    (made,) = load(
        "ID: web\nContainers:\n- Image: busybox\n  Envs: [{Env: A, Value: b}]\n  labels: {Keep: Case}\n"
    ).pods
    assert made.containers[0].environment == (("A", "b"),)
    assert made.containers[0].labels == {"Keep": "Case"}


@pytest.mark.parametrize("text", ["onFailure", "OnFailure", "on-failure", "ONFAILURE", "on_failure"])
def test_restart_policies_as_people_spell_them(text: str) -> None:
    assert read(restartPolicy=text).pods[0].restart == "on-failure"


def test_warnings() -> None:
    loaded = read(
        type="kubernetes", containers=[{"image": "a", "cache": "x"}], interfaces=[{"gateway": "10.0.0.1", "id": "1"}]
    )
    assert loaded.warnings == (
        "type 'kubernetes' is ignored", "containers[0].cache is ignored", "interfaces[0].gateway is ignored: a network has its own",
        "interfaces[0].id is ignored",
    )  # fmt: skip


def one(**members: Any) -> dict[str, Any]:
    return {"containers": [{"image": "a", **members}]}


def volume(**members: Any) -> dict[str, Any]:
    return {"volumes": [{"name": "v", **members}]}


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"services": [{"serviceIP": "10.0.0.1"}]}, "services are not supported"),
        ({"portmappingWhiteLists": {"internalNetworks": ["10.0.0.0/8"]}}, "portmappingWhiteLists is not supported"),
        ({"id": "a", "ID": "b"}, "id: is there twice"),
        ({"id": "a", "name": "b"}, "name: 'b' is not the id"),
        ({"id": "a b"}, "name: 'a b' is not a name"),
        ({"nonsense": 1}, "the document: unknown field nonsense"),
        ({"restartPolicy": "sometimes"}, "restartPolicy: 'sometimes' is none of"),
        ({"resource": {"memory": 3}}, "memory_mib: 3 is too little"),
        ({"log": {"type": "syslog"}}, "log.type: 'syslog' is not supported"),
        ({"log": {"config": {"max-size": "huge"}}}, "log.config[max-size]: 'huge' is not a size"),
        ({"log": {"config": {"x": "1"}}}, "log.config: unknown option 'x'"),
        (one(files=[{"path": "/x", "filename": "no"}]), "containers[0].files[0].filename: there is no file 'no'"),
        (one(files=[{"path": "/x", "detail": {"name": "n", "uri": "http://x/y"}}]), "containers[0].files[0]: uri: files are not fetched"),
        (one(files=[{"path": "/x", "detail": {"name": "n", "uri": "ftp://x/y"}}]), "containers[0].files[0]: uri: 'ftp://x/y' is not a local file"),
        (one(files=[{"path": "/x", "perm": "0999", "detail": {"name": "n"}}]), "containers[0].files[0].perm: '0999' is not a mode"),
        (one(files=[{"path": "/x", "detail": {"name": "n", "encoding": "base64", "content": "*"}}]), "containers[0].files[0].content: not base64"),
        (one(volumes=[{"path": "/x", "volume": "no"}]), "containers[0].volumes[0].volume: there is no volume 'no'"),
        (one(volumes=[{"path": "/", "detail": {"name": "v"}}]), "containers[0].mounts[0].path: a volume cannot be the root"),
        (one(ulimits=[{"Name": "x", "Hard": 1, "Soft": 1}]), "containers[0].ulimits[0].name: 'x' is not a limit"),
        (one(ulimits=[{"Name": "nofile", "Hard": 1, "Soft": 2}]), "containers[0].ulimits[0].soft: 2 is more than the hard limit, 1"),
        (one(StopSignal="nope"), "containers[0].StopSignal: 'nope' is not a signal"),
        (one(ports=[{"containerPort": 0}]), "containers[0].ports[0].containerPort: 0 is not a port"),
        (volume(format="vdi", source="/x"), "volumes[0].format: vdi (VirtualBox's images) is not supported yet"),
        (volume(format="rbd", source="x"), "volumes[0].format: rbd (Ceph) is not supported yet"),
        (volume(format="nas", source="x"), "volumes[0].format: nas (NFS) is not supported yet"),
        (volume(format="zip", source="/x"), "volumes[0].format: 'zip' is none of raw, qcow2, vfs"),
        (volume(format="raw", source="/x", cache="fast"), "volumes[0].cache: 'fast' is none of"),
        (volume(format="qcow2", source="/x"), "volumes[0].source.format: qcow2 does not fit '/x'"),
        (volume(format="vfs", source="x"), "volumes[0].source: 'x' is not an absolute path"),
        ({"portmappings": [{"containerPort": "80-82", "hostPort": "1-2"}]}, "portmappings[0].hostPort: 1-2 has 2 ports, and 80-82 has 3"),
        ({"portmappings": [{"containerPort": 80, "hostPort": 8080}] * 2}, "ports[1]: the port of the host"),
        ({"interfaces": [{"gateway": "10.0.0.1"}] * 2}, "interfaces: only one can have a gateway"),
        ({"interfaces": [{"ip": "10.0.0.300"}]}, "interfaces[0].addresses[0]: '10.0.0.300' is not an IP address"),
        ({"interfaces": [{"mac": "53:00:00:00:00:00"}]}, "interfaces[0].mac: '53:00:00:00:00:00' is not"),
        ({"containers": [{"image": "a", "sysctl": {"x.y": "1"}}, {"image": "b", "sysctl": {"x.y": "2"}}]}, "containers[1].sysctl[x.y]: another container sets it to '1'"),
    ],
)  # fmt: skip
def test_refused(members: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidError) as caught:
        read(**members)
    assert str(caught.value).startswith(message)


def test_configs_are_not_for_it() -> None:
    with pytest.raises(InvalidError, match="are for Kubernetes' manifests"):
        load("{}", configs=[text("configs.yaml")])
    for empty in ("", "---\n"):
        with pytest.raises(InvalidError, match="there is no pod in the file"):
            load(empty)
    with pytest.raises(InvalidError, match="a pod file is a mapping"):
        load("just text")
