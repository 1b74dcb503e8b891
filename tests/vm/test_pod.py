"""Several containers in one machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from .harness import Bundle, Created, Runtime, cgroup_folders, new_id, qemu_of

pytestmark = pytest.mark.vm

CRI = {"type": "io.kubernetes.cri.container-type", "sandbox": "io.kubernetes.cri.sandbox-id"}
CRIO = {"type": "io.kubernetes.cri-o.ContainerType", "sandbox": "io.kubernetes.cri-o.SandboxID"}
BOOT_ID = "/proc/sys/kernel/random/boot_id"
MakeBundle = Callable[[], Bundle]


def _sleeper(make_bundle: MakeBundle, word: str, seconds: int) -> Bundle:
    bundle = make_bundle()
    (bundle.rootfs / "etc/word").write_text(word)
    bundle.config["hostname"] = "the-pod"
    return bundle.args("sleep", str(seconds))


def _share(bundle: Bundle, owner: Created, *kinds: str) -> Bundle:
    files = {"network": "net"}
    for namespace in bundle.linux["namespaces"]:
        if namespace["type"] in kinds:
            namespace["path"] = f"/proc/{owner.pid}/ns/{files.get(namespace['type'], namespace['type'])}"
    return bundle.save()


def _boot_id(container: Created) -> str:
    return container.exec("cat", BOOT_ID).ok().out


def _machines(root: Path) -> int:
    return len(list((root / "@sandboxes").iterdir()))


@pytest.mark.parametrize("names", [CRI, CRIO], ids=["cri", "cri-o"])
def test_annotations_name_the_pod(runv: Runtime, make_bundle: MakeBundle, names: dict[str, str]) -> None:
    first = _sleeper(make_bundle, "one", 1000)
    first.config["annotations"] = {names["type"]: "sandbox"}
    pod = runv.start(first.save())
    second = _sleeper(make_bundle, "two", 2000)
    second.config["annotations"] = {names["type"]: "container", names["sandbox"]: pod.id}
    container = runv.start(second.save())

    assert _machines(runv.root) == 1
    assert _boot_id(pod) == _boot_id(container)
    assert [each.exec("cat", "/etc/word").ok().out for each in (pod, container)] == ["one", "two"]
    assert container.exec("hostname").ok().out == "the-pod\n"
    assert "sleep 1000" not in container.exec("ps").ok().out
    assert sorted(runv.run("list", "-q").ok().lines) == sorted([pod.id, container.id])

    container.kill("KILL").ok()
    assert container.wait() in (137, -9)
    runv.run("delete", container.id).ok()
    assert pod.exec("cat", "/etc/word").ok().out == "one"
    pod.delete()
    assert _machines(runv.root) == 0


def test_namespace_paths_name_the_pod(runv: Runtime, make_bundle: MakeBundle) -> None:
    pod = runv.start(_sleeper(make_bundle, "one", 1000))
    bundle = _share(_sleeper(make_bundle, "two", 2000), pod, "uts", "ipc", "pid", "network")
    container = runv.start(bundle)
    assert _machines(runv.root) == 1
    for kind in ("uts", "ipc", "pid", "net"):
        links = {each.exec("readlink", f"/proc/self/ns/{kind}").ok().out for each in (pod, container)}
        assert len(links) == 1, kind
    assert pod.exec("readlink", "/proc/self/ns/mnt").out != container.exec("readlink", "/proc/self/ns/mnt").out
    for each in (pod, container):
        processes = each.exec("ps").ok().out
        assert "sleep 1000" in processes and "sleep 2000" in processes
    pod.exec("hostname", "renamed")
    assert container.exec("hostname").out == pod.exec("hostname").out
    host_network = {os.readlink(f"/proc/{pid}/ns/net") for pid in (pod.pid, container.pid, qemu_of(runv.root))}
    assert len(host_network) == 1
    container.delete()
    assert pod.status() == "running"
    pod.delete()


def test_namespaces_of_its_own_where_none_is_named(runv: Runtime, make_bundle: MakeBundle) -> None:
    pod = runv.start(_sleeper(make_bundle, "one", 1000))
    container = runv.start(_share(_sleeper(make_bundle, "two", 2000), pod, "network"))
    assert _boot_id(pod) == _boot_id(container)
    for kind in ("uts", "ipc", "pid", "mnt"):
        links = {each.exec("readlink", f"/proc/self/ns/{kind}").ok().out for each in (pod, container)}
        assert len(links) == 2, kind
    container.delete()
    pod.delete()


def test_a_machine_outlives_the_container_that_brought_it(runv: Runtime, make_bundle: MakeBundle) -> None:
    pod = runv.start(_sleeper(make_bundle, "one", 1000))
    container = runv.start(_share(_sleeper(make_bundle, "two", 2000), pod, "network", "ipc"))
    pod.delete()
    assert container.exec("cat", "/etc/word").ok().out == "two"
    assert container.status() == "running"
    container.delete()
    assert _machines(runv.root) == 0


def test_a_container_that_fails_leaves_the_pod_alone(runv: Runtime, make_bundle: MakeBundle) -> None:
    pod = runv.start(_sleeper(make_bundle, "one", 1000))
    bundle = _share(_sleeper(make_bundle, "two", 2000).args("no-such-program"), pod, "network")
    failed = runv.run_bundle(bundle)
    assert failed.code == 1 and "executable file not found" in failed.err
    assert runv.run("list", "-q").ok().lines == [pod.id]
    assert pod.exec("cat", "/etc/word").ok().out == "one"
    pod.delete()


def test_a_pod_that_is_not_there(runv: Runtime, bundle: Bundle) -> None:
    bundle.config["annotations"] = {CRI["type"]: "container", CRI["sandbox"]: "rvt-nobody"}
    failed = runv.run_bundle(bundle.save())
    assert failed.code == 1 and "does not exist" in failed.err


def test_a_cgroup_that_is_used_again_before_it_was_left(runv: Runtime, make_bundle: MakeBundle) -> None:
    """The first container of a pod is made anew while its old machine, which sits in its cgroup, still serves another (`podman pod restart`)."""
    parent = new_id()
    first, second = _sleeper(make_bundle, "one", 1000), _sleeper(make_bundle, "two", 2000)
    for bundle, name in ((first, "first"), (second, "second")):
        bundle.linux["cgroupsPath"] = f"/{parent}/{name}"
        bundle.save()
    old = runv.start(first)
    member = runv.start(_share(second, old, "network"))
    old.delete()
    new = runv.start(first)
    member.delete()
    assert any(Path("/sys/fs/cgroup").glob(f"*/{parent}/first")) or Path(f"/sys/fs/cgroup/{parent}/first").exists()
    new.delete()
    assert [path for path in cgroup_folders() if parent in path] == []
