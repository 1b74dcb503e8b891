"""A manifest in a real machine: what is in config.json arrives in the container."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hyperd import bundle, spec
from hyperd.bundle import Disk, Folder, HostFile, ImageView, Memory, Place, Source
from hyperd.manifests import load
from tests.vm.conftest import bundle as folder_with_root  # noqa: F401
from tests.vm.conftest import empty, folder, make_bundle, nothing_left, root, runv, subreaper, templates_of_our_own  # noqa: F401
from tests.vm.harness import Bundle, Created, Runtime
from tests.vm.network.nets import Net
from tests.vm.test_disks import command, ext4

pytestmark = pytest.mark.vm

MANIFEST = """
apiVersion: v1
kind: ConfigMap
metadata: {name: words}
data: {word: "from the map", "other": x}
---
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  hostname: the-host
  hostAliases: [{ip: 192.0.2.7, hostnames: [db]}]
  dnsPolicy: None
  dnsConfig: {nameservers: [192.0.2.53]}
  securityContext: {fsGroup: 2000, sysctls: [{name: net.ipv4.ip_unprivileged_port_start, value: "77"}]}
  containers:
    - name: web
      image: busybox:1
      command: [sh, -c]
      args:
        - |
          id; echo "$URL $WORD $HOME"; hostname; tail -n 2 /etc/hosts; cat /etc/resolv.conf /config/word /one
          cat /proc/sys/net/ipv4/ip_unprivileged_port_start; grep -E '^(CapBnd|NoNewPrivs|Seccomp):' /proc/self/status; ulimit -v
          echo >/data/file && stat -c '%a %g' /data /config/word; echo >/memory/file && stat -c '%a' /memory
          touch /config/new || touch /etc/hosts || mount -t tmpfs x /data || echo refused
          cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max /sys/fs/cgroup/pids.max
          echo end; exec sleep 1000
      env:
        - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
        - {name: URL, value: "http://$(IP)/$$(IP)"}
        - {name: WORD, valueFrom: {configMapKeyRef: {name: words, key: word}}}
      resources: {limits: {memory: 64Mi, cpu: 500m}}
      securityContext: {runAsUser: 1000, runAsGroup: 1000, allowPrivilegeEscalation: false, capabilities: {drop: [ALL], add: [CHOWN]}}
      volumeMounts:
        - {name: words, mountPath: /config}
        - {name: words, mountPath: /one, subPath: word}
        - {name: data, mountPath: /data}
        - {name: memory, mountPath: /memory}
  volumes:
    - {name: words, configMap: {name: words, defaultMode: 0400}}
    - {name: data, emptyDir: {}}
    - {name: memory, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
"""
EXPECTED = """\
uid=1000(alice) gid=1000(alice) groups=1000(alice),2000
http://10.9.8.7/$(IP) from the map /home/alice
the-host
10.9.8.7\tthe-host
192.0.2.7\tdb
nameserver 192.0.2.53
from the mapfrom the map77
CapBnd:\t0000000000000001
NoNewPrivs:\t1
Seccomp:\t2
unlimited
2777 2000
440 2000
1777
refused
67108864
50000 100000
max
end
"""


def write(files: tuple[HostFile, ...]) -> None:
    for file in files:
        path = Path(file.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.content)
        path.chmod(file.mode)
        os.chown(path, file.uid, file.gid)


def save(made: Bundle, config: dict[str, object]) -> Bundle:
    made.config = config
    return made.save()


def started(runtime: Runtime, make: Callable[[], Bundle], pod: spec.Pod, image: ImageView, net: Net, folder: Path) -> tuple[Created, Created]:  # noqa: F811
    """The infra container and the pod's only one."""
    nowhere = Place(pod_id="x", container_id="x")
    infra = runtime.start(save(make(), bundle.infra(pod, nowhere, f"/run/netns/{net.pod}")))
    place = Place(pod_id=infra.id, container_id="c", infra_pid=infra.pid, files=f"{folder}/files", addresses=("10.9.8.7",), cgroup=f"/hyperd/{infra.id}")
    config_map = pod.volumes[0].source
    assert isinstance(config_map, spec.Projected)
    write(bundle.projected(config_map, f"{folder}/words", pod.fs_group))
    disk = ext4(folder / "data.img")
    command("debugfs", "-w", "-R", "set_inode_field <2> mode 042777", disk)
    command("debugfs", "-w", "-R", "set_inode_field <2> gid 2000", disk)
    sources: dict[str, Source] = {"words": Folder(f"{folder}/words"), "data": Disk(str(disk), "ext4"), "memory": Memory(size=1 << 20, shared="volume-memory")}
    made = bundle.container(pod, pod.containers[0], image, place, sources, upper=str(ext4(folder / "upper.img")), read=lambda path: b"")
    write(made.files)
    return infra, runtime.start(save(make(), made.config))


def test_a_manifest_runs(
    runv: Runtime,  # noqa: F811
    make_bundle: Callable[[], Bundle],  # noqa: F811
    folder: Path,  # noqa: F811
    empty: Net,  # noqa: F811
) -> None:
    content = make_bundle()
    layer = folder / "base.erofs"
    command("mkfs.erofs", layer, content.rootfs)
    image = ImageView(
        passwd=(content.rootfs / "etc/passwd").read_bytes(), group=(content.rootfs / "etc/group").read_bytes(), layers=(str(layer),)
    )
    (pod,) = load(MANIFEST).pods
    infra, web = started(runv, make_bundle, pod, image, empty, folder)
    web.wait_output(b"end\n")
    assert web.output().decode() == EXPECTED
    process = folder / "process.json"
    place = Place(pod_id=infra.id, container_id=web.id)
    process.write_text(json.dumps(bundle.exec_process(pod, pod.containers[0], image, place, ["sh", "-c", "id -u; echo $WORD"], user="root")))
    assert runv.run("exec", "--process", str(process), web.id).ok().lines == ["0", "from the map"]
    web.delete()
    infra.delete()
