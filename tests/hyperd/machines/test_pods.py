"""Pods as users have them: from the command to the kernel of the guest."""

from __future__ import annotations

import os
import signal

import pytest

from .harness import Daemon, until

pytestmark = pytest.mark.vm

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: demo}
spec:
  replicas: 1
  selector: {matchLabels: {app: demo}}
  template:
    metadata: {labels: {app: demo}}
    spec:
      initContainers:
      - name: first
        image: busybox
        imagePullPolicy: IfNotPresent
        command: [sh, -c, "echo $GREETING > /data/file"]
        env: [{name: GREETING, valueFrom: {configMapKeyRef: {name: cm, key: greeting}}}]
        volumeMounts: [{name: data, mountPath: /data}]
      containers:
      - name: main
        image: busybox
        imagePullPolicy: IfNotPresent
        command: [sh, -c, "cat /data/file; echo $(cat /secret/password); exec httpd -f -p 8000 -h /data"]
        resources: {limits: {memory: 64Mi, cpu: 500m}}
        readinessProbe: {httpGet: {path: /file, port: 8000}, periodSeconds: 1, failureThreshold: 60}
        volumeMounts: [{name: data, mountPath: /data}, {name: secret, mountPath: /secret, readOnly: true}]
      volumes:
      - {name: data, emptyDir: {sizeLimit: 64Mi}}
      - {name: secret, secret: {secretName: s}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: cm}
data: {greeting: hello}
---
apiVersion: v1
kind: Secret
metadata: {name: s}
stringData: {password: geheim}
"""


def test_the_first_thing_that_a_new_user_types(daemon: Daemon) -> None:
    done = daemon.ctl("run", "--name", "first", "busybox", "echo", "helloworld")
    assert (done.returncode, done.stdout) == (0, b"helloworld\n"), done
    until(lambda: daemon.state("first") == "stopped", "it has stopped")
    assert daemon.ctl("logs", "first").stdout == b"helloworld\n"
    assert daemon.ctl("run", "--rm", "busybox", "sh", "-c", "exit 3").returncode == 3
    assert daemon.ctl("run", "--rm", "busybox", "nonesuch").returncode == 127


def test_processes_in_a_container(daemon: Daemon) -> None:
    daemon.run("p", ["sleep", "1000"])
    kernel = daemon.ctl("exec", "p", "uname", "-r")
    assert kernel.returncode == 0 and kernel.stdout.strip().decode() not in ("", os.uname().release)
    echoed = daemon.ctl("exec", "-i", "p", "sh", "-c", "cat; echo no >&2; exit 7", stdin=b"x" * 300000)
    assert (echoed.returncode, len(echoed.stdout), echoed.stderr) == (7, 300000, b"no\n")
    assert daemon.ctl("exec", "-u", "nobody", "p", "id", "-un").stdout == b"nobody\n"
    assert daemon.ctl("exec", "-u", "nonesuch", "p", "true").returncode != 0
    inside = daemon.ctl("exec", "--vm", "p", "sh", "-c", "hostname; ps | grep -c '[s]leep 1000'; exit 4")
    assert (inside.returncode, inside.stdout) == (4, b"p\n1\n"), inside
    daemon.expect(200, "POST", "/pods/p/pause")
    assert daemon.state("p") == "paused"
    daemon.expect(200, "POST", "/pods/p/unpause")
    assert daemon.ctl("exec", "p", "touch", "/kept").returncode == 0
    assert daemon.expect(200, "POST", "/pods/p/restart?timeout=0")["state"] == "running"
    assert daemon.ctl("exec", "p", "ls", "/kept").returncode == 0


def test_a_deployment_with_all_that_belongs_to_it(daemon: Daemon) -> None:
    made = daemon.expect(201, "POST", "/pods?start=1", {"documents": [DEPLOYMENT]})
    name = made["pods"][0]["name"]
    until(lambda: all(one["ready"] for one in daemon.expect(200, "GET", f"/pods/{name}")["containers"][:1]), "it is ready")
    until(lambda: len(daemon.ask("GET", f"/containers/{name}%2Fmain/logs").lines) == 2, "it has written")
    assert [line["text"] for line in daemon.ask("GET", f"/containers/{name}%2Fmain/logs").lines] == ["hello\n", "geheim\n"]
    assert b"geheim" not in daemon.ask("GET", f"/pods/{name}").body, "a secret is not shown"
    stats = daemon.expect(200, "GET", f"/pods/{name}/stats")
    assert stats["memory"]["usage"] > 0 and stats["containers"][0]["memory"]["limit"] == 64 << 20


def test_a_machine_that_is_killed_comes_back_by_the_policy(daemon: Daemon) -> None:
    kept = daemon.run("kept", ["sleep", "1000"], restart="always")
    lost = daemon.run("lost", ["sleep", "1000"])
    for pod in (kept, lost):
        os.kill(daemon.qemu(pod), signal.SIGKILL)
    until(lambda: daemon.state("lost") == "failed", "the one is lost")
    until(lambda: daemon.expect(200, "GET", "/pods/kept")["restarts"] == 1 and daemon.state("kept") == "running", "the other is back")
    assert daemon.ctl("exec", "kept", "true").returncode == 0


def test_stop_pods(daemon: Daemon) -> None:
    """SIGTERM leaves pods running; with the option it ends them."""
    daemon.run("p", ["sleep", "1000"], termination_grace_s=1.0)
    assert daemon.kill(signal.SIGTERM) == 0
    assert daemon.processes(), "the pod runs without a daemon"
    daemon.start("--stop-pods")
    assert daemon.state("p") == "running"
    assert daemon.kill(signal.SIGTERM) == 0
    until(lambda: not daemon.processes(), "nothing runs any more")
    daemon.start()
    assert daemon.state("p") == "stopped"
