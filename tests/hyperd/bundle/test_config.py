"""The whole of config.json, as runv's own validator reads it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hyperd import bundle, spec
from hyperd.bundle import Folder, ImageView
from hyperd.bundle.seccomp import default_profile
from hyperd.manifests import load
from runv.sandbox.machine.size import Size, machine_size
from runv.spec.annotations import is_infra, sandbox_of

from .samples import IMAGE, PLACE, Json, checked, made, nothing, pod

DATA = Path(__file__).parent.parent / "manifests" / "data"
MIB = 1 << 20


def test_a_container_joins_its_pod() -> None:
    found = made(pod(labels={"a": "b"}), upper="/upper.img").config
    assert sandbox_of(found["annotations"]) == PLACE.pod_id
    assert json.loads(found["annotations"]["run.runv.rootfs.layers"]) == list(IMAGE.layers)
    assert found["annotations"]["run.runv.rootfs.upper"] == "/upper.img"
    assert found["annotations"]["hyperd.label.a"] == "b"
    assert found["linux"]["namespaces"] == [
        {"type": "network", "path": "/proc/4711/ns/net"}, {"type": "ipc", "path": "/proc/4711/ns/ipc"},
        {"type": "mount"}, {"type": "cgroup"}, {"type": "uts"}, {"type": "pid"},
    ]  # fmt: skip
    assert {"type": "pid", "path": "/proc/4711/ns/pid"} in made(pod(share_pids=True)).config["linux"]["namespaces"]
    assert found["linux"]["cgroupsPath"] == "/hyperd/0123456789abcdef/fedcba9876543210"


def test_labels_mean_nothing_to_runv() -> None:
    labels = {"run.runv.rootfs.upper": "/etc/shadow", "run.runv.infra": "true", "io.kubernetes.cri.sandbox-id": "x"}
    own = spec.Container(name="c", image="i", labels=labels)
    found = made(pod(own, labels=labels, annotations=labels)).config["annotations"]
    assert found["io.kubernetes.cri.sandbox-id"] == PLACE.pod_id
    assert "run.runv.rootfs.upper" not in found and not is_infra(found)


def test_the_infra_container() -> None:
    config = bundle.infra(pod(share_pids=True, sysctls={"net.core.somaxconn": "5"}, hostname="h"), PLACE, "/run/netns/p")
    found = checked(config)
    assert is_infra(found.annotations or {}) and not sandbox_of(found.annotations or {})
    assert (found.hostname, found.linux.sysctl) == ("h", {"net.core.somaxconn": "5"})
    assert config["linux"]["namespaces"][0] == {"type": "network", "path": "/run/netns/p"}
    assert {"type": "pid"} in config["linux"]["namespaces"]


def container(name: str, **limits: float) -> spec.Container:
    return spec.Container(name=name, image="i", resources=spec.Resources(**limits))  # type: ignore[arg-type]


def test_the_machine_is_large_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runv.sandbox.machine.size._host_cpus", lambda: 64)
    monkeypatch.setattr("runv.sandbox.machine.size.host_memory_mib", lambda: 65536)
    least = Size(1, 256)

    def size(whole: spec.Pod) -> Size:
        return machine_size(checked(bundle.infra(whole, PLACE, "/n")), least)

    assert size(pod()) == least
    assert size(pod(vcpus=3, memory_mib=100)) == (3, 100)
    limited = (container("a", cpus=1.5, memory=512 * MIB), container("b", cpus=0.7, request_memory=512 * MIB))
    assert size(pod(*limited)) == (3, 1280)  # 1024, 64 and 32, rounded up
    first = spec.Container(name="s", image="i", restart="always", resources=spec.Resources(memory=1024 * MIB))
    steps = (first, container("i", memory=1024 * MIB, cpus=5))
    assert size(pod(*limited, init_containers=steps)) == (5, 2560)
    tmpfs = spec.Volume(name="m", source=spec.EmptyDir(medium="memory", size=1024 * MIB))
    assert size(pod(*limited, volumes=(tmpfs,))) == (3, 2560)


def resources(**members: float) -> Json:
    found: Json = made(pod(container("c", **members))).config["linux"]["resources"]
    return found


def test_limits() -> None:
    assert resources(cpus=0.5, cpu_shares=512, memory=64 * MIB, swap=MIB, pids=9) == {
        "devices": [{"allow": False, "access": "rwm"}],
        "cpu": {"shares": 512, "quota": 50_000, "period": 100_000},
        "memory": {"limit": 64 * MIB, "swap": 65 * MIB},
        "pids": {"limit": 9},
    }
    assert resources(cpus=0.001)["cpu"]["quota"] == 1000
    assert "memory" not in resources() and "cpu" not in resources() and "pids" not in resources()


def test_confinement() -> None:
    linux = made(pod()).config["linux"]
    assert "/proc/kcore" in linux["maskedPaths"] and "/proc/sys" in linux["readonlyPaths"]
    assert linux["seccomp"]["defaultAction"] == "SCMP_ACT_ERRNO"
    assert "seccomp" not in made(pod(spec.Container(name="c", image="i", security=spec.Security(seccomp="unconfined")))).config["linux"]
    whole = made(pod(spec.Container(name="c", image="i", security=spec.Security(privileged=True, read_only_root=True)))).config
    assert not {"seccomp", "maskedPaths", "readonlyPaths"} & set(whole["linux"])
    assert whole["linux"]["resources"]["devices"] == [{"allow": True, "access": "rwm"}]
    assert whole["root"] == {"path": "rootfs", "readonly": True}
    assert all("ro" not in mount["options"] for mount in whole["mounts"] if mount["type"] in ("sysfs", "cgroup"))


def allowed(profile: Json, name: str) -> bool:
    return any(name in rule["names"] and rule["action"] == "SCMP_ACT_ALLOW" and not rule.get("args") for rule in profile["syscalls"])


def test_system_calls() -> None:
    usual = default_profile(frozenset(), "x86_64")
    for name in ("read", "execve", "stat64", "clock_nanosleep_time64", "epoll_wait", "arch_prctl", "landlock_restrict_self", "utimensat"):
        assert allowed(usual, name), name
    for name in ("mount", "bpf", "init_module", "kexec_load", "keyctl", "add_key", "userfaultfd", "io_uring_setup", "clone3", "socket", "open_by_handle_at"):
        assert not allowed(usual, name), name
    assert allowed(default_profile({"CAP_SYS_ADMIN"}, "x86_64"), "mount")
    assert allowed(default_profile({"CAP_SYSLOG"}, "x86_64"), "syslog")
    assert not allowed(default_profile(frozenset(), "aarch64"), "arch_prctl")
    assert default_profile(frozenset(), "sparc")["architectures"] == []
    assert not [name for rule in usual["syscalls"] for name in rule["names"] if not name.replace("_", "a").isalnum()]


@pytest.mark.parametrize("name", ["deployment.yaml", "sidecar.yaml", "jobs.yaml", "original.json"])
def test_every_manifest_becomes_bundles(name: str) -> None:
    configs = [(DATA / "configs.yaml").read_text()] if name == "sidecar.yaml" else []
    image = ImageView(cmd=("x",), passwd=b"www:x:33:33::/:\n", group=b"www:x:33:\nadm:x:4:\nroot:x:0:\n")
    for whole in load((DATA / name).read_text(), configs=configs).pods:
        checked(bundle.infra(whole, PLACE, "/run/netns/p"))
        sources = {volume.name: Folder(f"/v/{volume.name}") for volume in whole.volumes}
        if name == "original.json":
            image = image._replace(passwd=b"root:x:0:0::/root:\n" + image.passwd)
        for own in [*whole.init_containers, *whole.containers]:
            read = (lambda path: b"") if own.files else nothing
            checked(bundle.container(whole, own, image, PLACE, sources, read=read).config)


def test_the_groups_of_a_pods_volumes() -> None:
    own = spec.Container(name="c", image="i", security=spec.Security(user="web"))
    assert made(pod(own, fs_group=2000)).config["process"]["user"]["additionalGids"] == [34, 4, 50, 2000]


@pytest.mark.parametrize(("name", "expected"), [("web", "web"), ("My_Pod.1", "My-Pod-1"), ("a" * 100, "a" * 63), ("a.", "a")])
def test_hostnames(name: str, expected: str) -> None:
    assert bundle.hostname_of(spec.Pod(name=name)) == expected


def test_the_root_of_a_volume() -> None:
    assert bundle.root_of(pod(), spec.EmptyDir()) == (0o777, 0)
    assert bundle.root_of(pod(fs_group=7), spec.EmptyDir()) == (0o2777, 7)
    assert bundle.root_of(pod(), spec.Named(name="n")) == (0o755, 0)
    assert bundle.root_of(pod(fs_group=7), spec.Named(name="n")) == (0o2775, 7)
