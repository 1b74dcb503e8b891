"""Kubernetes' way: pods by containerd's CRI plugin. The containers of a pod share a machine and its network, and nothing else."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.vm.harness import DEADLINE_S, Json, wait_until

from .containerd import CRI_IMAGE, Containerd, CriError
from .harness import ENGINE_ADDRESS, Netns

pytestmark = pytest.mark.engines

_RUNNING, _EXITED = 1, 2
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_SLEEP = "trap 'exit 5' TERM; while :; do sleep 1000 & wait $!; done"
_WHO = "while :; do echo hello | nc -l -p 8000; done"
# Namespace modes: the kubelet asks for pids of the container's own unless a pod wants to share them.
_POD, _CONTAINER, _NODE = 0, 1, 2
_APART: Json = {"namespace_options": {"pid": _CONTAINER}}


class Pod:
    """A pod that runs, with the network of the CNI's bridge."""

    def __init__(self, containerd: Containerd, folder: Path, **more: object) -> None:
        self.containerd = containerd
        name = secrets.token_hex(4)
        linux: Json = {"cgroup_parent": f"/{containerd.cgroup_parent}/{name}", "security_context": _APART}
        linux.update(more.pop("linux", {}))  # type: ignore[call-overload]
        metadata = {"name": name, "uid": name, "namespace": "default", "attempt": 0}
        self.config: Json = {
            "metadata": metadata,
            "hostname": "the-pod",
            "log_directory": str(folder),
            "linux": linux,
            **more,
        }
        self.folder = folder
        answer = containerd.call("RunPodSandbox", config=self.config, runtime_handler="runv")
        self.id = str(answer["pod_sandbox_id"])

    def start(self, name: str, script: str, **more: object) -> str:
        """Starts a container with a shell's script; returns its id."""
        config: Json = {
            "metadata": {"name": name},
            "image": {"image": CRI_IMAGE},
            "command": ["sh", "-c", script],
            "log_path": f"{name}.log",
            "linux": {"security_context": _APART},
            **more,
        }
        made = self.containerd.call(
            "CreateContainer", pod_sandbox_id=self.id, config=config, sandbox_config=self.config
        )
        container = str(made["container_id"])
        self.containerd.call("StartContainer", container_id=container)
        return container

    def ask(self, container: str, script: str) -> str:
        return self.containerd.exec_sync(container, "sh", "-c", script).ok().out

    def status(self, container: str) -> Json:
        status: Json = self.containerd.call("ContainerStatus", container_id=container)["status"]
        return status

    def wait(self, container: str) -> Json:
        """The status of a container that has ended."""
        wait_until(lambda: self.status(container).get("state") == _EXITED, "its end", DEADLINE_S)
        return self.status(container)

    def log(self, name: str) -> list[str]:
        """What it wrote, without times."""
        return [line.split(" ", 1)[1] for line in (self.folder / f"{name}.log").read_text().splitlines()]

    def remove(self) -> None:
        try:
            self.containerd.call("StopPodSandbox", pod_sandbox_id=self.id)
        except CriError:  # its shim was just ending; a kubelet asks again, too
            self.containerd.call("StopPodSandbox", pod_sandbox_id=self.id)
        self.containerd.call("RemovePodSandbox", pod_sandbox_id=self.id)


@pytest.fixture
def make_pod(containerd: Containerd, tmp_path: Path) -> Iterator[Callable[..., Pod]]:
    pods: list[Pod] = []

    def make(**more: object) -> Pod:
        pods.append(Pod(containerd, tmp_path, **more))
        return pods[-1]

    yield make
    for pod in pods:
        pod.remove()


MakePod = Callable[..., Pod]


def _machines(containerd: Containerd) -> list[Path]:
    return list((containerd.folder / "runtime/cri/k8s.io/@sandboxes").glob("*/qemu.pid"))


@pytest.mark.smoke
def test_three_containers_of_a_pod(containerd: Containerd, make_pod: MakePod) -> None:
    pod = make_pod()
    server = pod.start("server", _WHO, envs=[{"key": "SECRET", "value": "one"}])
    second, third = (pod.start(name, _SLEEP) for name in ("second", "third"))
    everybody = (server, second, third)

    assert len(_machines(containerd)) == 1
    assert len({pod.ask(each, f"cat {_BOOT_ID}") for each in everybody}) == 1
    # What they share: network, host name, IPC.
    for client in (second, third):
        assert pod.ask(client, "until nc -w 5 127.0.0.1 8000; do sleep 0.1; done") == "hello\n"
        assert pod.ask(client, "hostname") == "the-pod\n"
    for kind in ("net", "ipc", "uts"):
        assert len({pod.ask(each, f"readlink /proc/self/ns/{kind}") for each in everybody}) == 1, kind
    # What they do not: processes, files, mounts, environment.
    for kind in ("pid", "mnt"):
        assert len({pod.ask(each, f"readlink /proc/self/ns/{kind}") for each in everybody}) == 3, kind
    assert "nc -l" not in pod.ask(second, "ps")
    pod.ask(server, "touch /only-here; echo shared > /dev/shm/file")
    assert containerd.exec_sync(second, "ls", "/only-here").code == 1
    assert pod.ask(second, "cat /dev/shm/file") == "shared\n"
    assert "SECRET" not in pod.ask(third, "env")
    address = containerd.call("PodSandboxStatus", pod_sandbox_id=pod.id)["status"]["network"]["ip"]
    assert f"inet {address}/24" in pod.ask(third, "ip addr show eth0")


def test_two_pods_are_apart(containerd: Containerd, make_pod: MakePod) -> None:
    one, two = make_pod(), make_pod()
    server, client = one.start("server", _WHO), two.start("client", _SLEEP)
    assert len(_machines(containerd)) == 2
    assert one.ask(server, f"cat {_BOOT_ID}") != two.ask(client, f"cat {_BOOT_ID}")
    assert containerd.exec_sync(client, "nc", "-w", "1", "127.0.0.1", "8000").code != 0
    address = containerd.call("PodSandboxStatus", pod_sandbox_id=one.id)["status"]["network"]["ip"]
    assert two.ask(client, f"until nc -w 5 {address} 8000; do sleep 0.1; done") == "hello\n"


def test_processes_shared_when_asked(containerd: Containerd, make_pod: MakePod) -> None:
    options = {"security_context": {"namespace_options": {"pid": _POD}}}
    pod = make_pod(linux=options)
    first = pod.start("first", "exec sleep 1111", linux=options)
    second = pod.start("second", _SLEEP, linux=options)
    assert "sleep 1111" in pod.ask(second, "ps")
    pod.ask(second, "killall -9 sleep")
    assert pod.wait(first)["exit_code"] == 137


def test_a_containers_life(containerd: Containerd, make_pod: MakePod) -> None:
    pod = make_pod()
    done = pod.start("done", "echo out; echo err >&2; exit 7")
    status = pod.wait(done)
    assert (status["exit_code"], status["reason"]) == (7, "Error")
    assert sorted(pod.log("done")) == ["stderr F err", "stdout F out"]
    stays = pod.start("stays", _SLEEP)
    answer = containerd.exec_sync(stays, "sh", "-c", "echo out; echo err >&2; exit 9")
    assert (answer.code, answer.out, answer.err) == (9, "out\n", "err\n")
    containerd.call("StopContainer", container_id=stays, timeout=30)
    assert pod.status(stays)["exit_code"] == 5
    containerd.call("RemoveContainer", container_id=stays)
    # Another of its name, as after a restart by the kubelet.
    again = pod.start("stays", _SLEEP)
    assert pod.ask(again, "echo again") == "again\n"
    assert len(_machines(containerd)) == 1


def test_what_cannot_be_started(containerd: Containerd, make_pod: MakePod) -> None:
    pod = make_pod()
    with pytest.raises(CriError, match="executable file not found in"):
        pod.start("wrong", "", command=["no-such-program"])
    with pytest.raises(CriError, match="a virtual machine cannot use the host's own network"):
        Pod(containerd, pod.folder, linux={"security_context": {"namespace_options": {"network": _NODE}}})


def test_limits_and_security(containerd: Containerd, make_pod: MakePod, tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    pod = make_pod()
    security = {
        "run_as_user": {"value": "1000"},
        "supplemental_groups": ["27"],
        "readonly_rootfs": True,
        "capabilities": {"drop_capabilities": ["ALL"]},
        "no_new_privs": True,
    }
    resources = {"memory_limit_in_bytes": str(64 << 20), "cpu_period": "100000", "cpu_quota": "50000"}
    mounts = [{"container_path": "/volume", "host_path": f"{tmp_path}/volume", "readonly": False}]
    (tmp_path / "volume").chmod(0o777)
    container = pod.start("c", _SLEEP, linux={"security_context": security, "resources": resources}, mounts=mounts)
    script = """
        id -u; id -G; grep CapEff /proc/self/status; touch /x 2>&1 | grep -o 'Read-only file system'
        cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max; touch /volume/made
    """
    lines = pod.ask(container, script).splitlines()
    assert lines[:3] == ["1000", "1000 27", "CapEff:\t0000000000000000"]
    assert lines[3:] == ["Read-only file system", str(64 << 20), "50000 100000"]
    assert (tmp_path / "volume/made").stat().st_uid == 1000
    more = {"memory_limit_in_bytes": str(48 << 20)}
    containerd.call("UpdateContainerResources", container_id=container, linux=more)
    assert pod.ask(container, "cat /sys/fs/cgroup/memory.max") == f"{48 << 20}\n"
    stats = containerd.call("ContainerStats", container_id=container)["stats"]
    assert int(stats["memory"]["working_set_bytes"]["value"]) > 0


def test_out_of_memory(containerd: Containerd, make_pod: MakePod) -> None:
    pod = make_pod()
    resources = {"memory_limit_in_bytes": str(32 << 20)}
    container = pod.start("hungry", "tail /dev/zero", linux={"resources": resources})
    status = pod.wait(container)
    assert (status["exit_code"], status["reason"]) == (137, "OOMKilled")


def test_a_port_of_the_host(make_pod: MakePod, outside: Netns) -> None:
    pod = make_pod(port_mappings=[{"container_port": 8000, "host_port": 8083}])
    pod.start("server", _WHO)

    def answers() -> bool:
        try:
            return outside.fetch(ENGINE_ADDRESS, 8083) == b"hello\n"
        except OSError:
            return False

    wait_until(answers, "the port to answer", DEADLINE_S)


def test_a_machine_that_dies(containerd: Containerd, make_pod: MakePod) -> None:
    pod = make_pod()
    containers = [pod.start(name, _SLEEP) for name in ("one", "two")]
    (pid_file,) = _machines(containerd)
    os.kill(int(pid_file.read_text().split()[0]), signal.SIGKILL)
    for container in containers:
        assert pod.wait(container)["exit_code"] != 0


def test_names_of_the_pods_own(make_pod: MakePod) -> None:
    pod = make_pod(dns_config={"servers": ["192.0.2.53"], "searches": ["example"]})
    container = pod.start("c", _SLEEP)
    lines = pod.ask(container, "cat /etc/resolv.conf").splitlines()
    assert "nameserver 192.0.2.53" in lines and "search example" in lines
