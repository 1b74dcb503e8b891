"""Pod files of both formats, from hyperctl to the guest: what only shows where several containers of a pod share something."""

from __future__ import annotations

from pathlib import Path

import pytest

from .harness import Daemon, until

pytestmark = pytest.mark.vm

KUBERNETES = """
apiVersion: v1
kind: Service
metadata: {name: front}
spec: {selector: {app: x}}
---
apiVersion: v1
kind: Pod
metadata: {name: shared, labels: {app: x}}
spec:
  restartPolicy: Never
  nodeSelector: {disk: ssd}
  securityContext: {fsGroup: 2000, runAsUser: 1000}
  initContainers:
  - name: side
    image: busybox
    imagePullPolicy: Never
    restartPolicy: Always
    args: [sleep, "1000"]
    startupProbe: {exec: {command: [test, -e, /config/word]}, periodSeconds: 1, failureThreshold: 60}
    volumeMounts: [{name: config, mountPath: /config}, {name: memory, mountPath: /memory}, {name: claim, mountPath: /claim}]
  containers:
  - name: main
    image: busybox
    imagePullPolicy: Never
    command: [sh, -c]
    args: ["cat /word; echo \\"$URL\\"; echo to-side | tee /memory/file >/claim/file; stat -c '%a %g' /claim; nslookup front | grep -c \\"$IP\\"; echo end; sleep 1000"]
    env:
    - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: URL, value: "http://$(IP):80/$$(IP)"}
    volumeMounts:
    - {name: config, mountPath: /word, subPath: word}
    - {name: memory, mountPath: /memory}
    - {name: claim, mountPath: /claim}
  volumes:
  - {name: config, configMap: {name: words}}
  - {name: memory, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
  - {name: claim, persistentVolumeClaim: {claimName: claimed}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: claimed}
spec: {resources: {requests: {storage: 16Mi}}}
"""
CONFIG = """
apiVersion: v1
kind: ConfigMap
metadata: {name: words}
data: {word: "of the map\\n"}
"""
ORIGINAL = """
{
  "id": "original",
  "containers": [{
    "image": "busybox", "entrypoint": ["/bin/sh", "-c"],
    "command": ["stat -c '%a %U %G' /etc/put /deep/new/file; cat /etc/put /deep/new/file; echo mine >>/etc/put && mv /etc/put /etc/moved && cat /etc/moved; echo end; sleep 1000"],
    "files": [
      {"path": "/etc/", "filename": "put", "perm": "0640", "user": "nobody", "group": "wheel"},
      {"path": "/deep/new/file", "detail": {"name": "n", "encoding": "base64", "content": "AGI="}}
    ]
  }],
  "files": [{"name": "put", "uri": "file://FOLDER/source"}]
}
"""


def logged(daemon: Daemon, container: str) -> list[str]:
    def lines() -> list[str]:
        return [line["text"].rstrip("\n") for line in daemon.ask("GET", f"/containers/{container.replace('/', '%2F')}/logs").lines]

    until(lambda: "end" in lines(), "it has said all")
    return lines()


def test_what_containers_of_a_pod_share(daemon: Daemon, tmp_path: Path) -> None:
    """Also: files of a ConfigMap that one container reads are still there when another is started; names of services; a volume that is a group's."""
    (tmp_path / "pod.yaml").write_text(KUBERNETES)
    (tmp_path / "config.yaml").write_text(CONFIG)
    done = daemon.ctl("run", "-d", "-p", str(tmp_path / "pod.yaml"), "-p", str(tmp_path / "config.yaml"))
    assert done.returncode == 0 and b"spec.nodeSelector is ignored" in done.stderr, done
    address = daemon.expect(200, "GET", "/pods/shared")["addresses"][0].partition("/")[0]
    assert logged(daemon, "shared/main") == ["of the map", f"http://{address}:80/$(IP)", "2775 2000", "1", "end"]
    side = daemon.ctl("exec", "shared/side", "sh", "-c", "cat /config/word /memory/file /claim/file; id -u")
    assert side.stdout == b"of the map\nto-side\nto-side\n1000\n", side


def test_files_that_are_put_in_are_files(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "source").write_text("of the host\n")
    (tmp_path / "pod.json").write_text(ORIGINAL.replace("FOLDER", str(tmp_path)))
    assert daemon.ctl("run", "-d", "-p", str(tmp_path / "pod.json")).returncode == 0
    assert logged(daemon, "original/busybox") == [
        "640 nobody wheel", "755 root root", "of the host", "\0bof the host", "mine", "end",
    ]  # fmt: skip
