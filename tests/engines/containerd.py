"""A containerd of one's own, with runv as the runtime of its CRI plugin; `ctr` and a CRI client that talk to it."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import signal
import subprocess
import tarfile
import threading
from pathlib import Path
from typing import Any

from tests.vm.harness import DEADLINE_S, Done, Json, runv_program, wait_until

from .cli import Cli
from .harness import IMAGE, Daemon, Netns, environ, image_tar, program, start_containerd

PAUSE = "localhost/pause:1"
# What containerd calls an image without a tag.
CRI_IMAGE = f"{IMAGE}:latest"
_PYTHON = "/usr/bin/python3"
_HERE = Path(__file__).parent
_CRI = """
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "{folder}/cni"
[plugins."io.containerd.grpc.v1.cri".containerd]
  default_runtime_name = "runv"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runv]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runv.options]
  BinaryName = "{runv}"
  Root = "{folder}/runtime/cri"
"""
_CNI: Json = {
    "cniVersion": "1.0.0",
    "name": "pods",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "cni-pods",
            "isGateway": True,
            "ipMasq": True,
            "ipam": {"type": "host-local", "subnet": "10.97.0.0/24", "routes": [{"dst": "0.0.0.0/0"}]},
        },
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ],
}


class CriError(Exception):
    """A call that was answered with an error. ``code`` is gRPC's."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class Containerd(Cli):
    """The daemon, ``ctr``, and the CRI. Containers of ``ctr`` are in the namespace ``default``, pods in ``k8s.io``."""

    def __init__(self, folder: Path, namespace: Netns) -> None:
        self.folder = folder
        self.namespace = namespace
        self.cgroup_parent = f"rvt-containerd-{os.getpid()}"
        self._daemon: Daemon | None = None
        self._client: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """Starts containerd and the CRI client, and imports the images for both."""
        (self.folder / "cni").mkdir()
        ipam = _CNI["plugins"][0]["ipam"] | {"dataDir": str(self.folder / "leases")}
        bridge = _CNI["plugins"][0] | {"ipam": ipam}
        (self.folder / "cni/pods.conflist").write_text(json.dumps(_CNI | {"plugins": [bridge, _CNI["plugins"][1]]}))
        self._start_daemon()
        tar = self.folder / "image.tar"
        tar.write_bytes(docker_archive(CRI_IMAGE, ["sh"]))
        pause = self.folder / "pause.tar"
        pause.write_bytes(docker_archive(PAUSE, ["sleep", "2147483647"]))
        for namespace, path in (("default", tar), ("k8s.io", tar), ("k8s.io", pause)):
            self("--namespace", namespace, "image", "import", str(path))
        arguments = [
            _PYTHON,
            str(_HERE / "cri_client.py"),
            str(self.folder / "containerd.sock"),
            str(_HERE / "cri.proto"),
        ]
        self._client = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ())

    def _start_daemon(self) -> None:
        more = _CRI.format(folder=self.folder, pause=PAUSE, runv=runv_program())
        self._daemon = start_containerd(self.folder, self.namespace, cri=True, more=more)

    def restart_daemon(self) -> None:
        """Kills containerd, and starts it once more."""
        assert self._daemon is not None
        self._daemon.stop(signal.SIGKILL)
        self._start_daemon()
        wait_until(self._cri_answers, "the CRI to answer")

    def _cri_answers(self) -> bool:
        try:
            self.call("Version")
        except CriError:
            return False
        return True

    def stop(self) -> None:
        if self._client is not None:
            assert self._client.stdin is not None and self._client.stdout is not None
            self._client.stdin.close()
            self._client.wait(DEADLINE_S)
            self._client.stdout.close()
        if self._daemon is not None:
            self._daemon.stop()
        self.namespace.run("ip", "link", "delete", "cni-pods", check=False)

    def daemons(self) -> set[int]:
        found = set() if self._daemon is None else {self._daemon.process.pid}
        return found if self._client is None else {*found, self._client.pid}

    def logs_of_daemons(self) -> list[tuple[str, str]]:
        return [] if self._daemon is None else [(self._daemon.log.name, self._daemon.tail())]

    def command(self, *args: str) -> list[str]:
        return [program("ctr"), "--address", str(self.folder / "containerd.sock"), *args]

    def flags(self, name: str, runtime: str = "") -> list[str]:
        """What `ctr run` needs for a container with runv, or another runtime, in a cgroup of ours."""
        runtime = runtime or runv_program()
        root = self.folder / "runtime" / Path(runtime).name
        return ["--runc-root", str(root), "--runc-binary", runtime, "--cgroup", f"/{self.cgroup_parent}/{name}"]

    def ctr_run(self, name: str, *args: str, flags: tuple[str, ...] = (), runtime: str = "", **more: Any) -> Done:
        """``ctr run --rm`` in the foreground, however it ends."""
        mine = self.flags(name, runtime)
        return self.try_("run", "--rm", *mine, *flags, CRI_IMAGE, name, *args, **more)

    def ctr_sleeping(self, name: str, *flags: str) -> str:
        """A detached container that ends at SIGTERM."""
        script = "trap 'exit 5' TERM; while :; do sleep 1000 & wait $!; done"
        self("run", "--detach", *self.flags(name), *flags, CRI_IMAGE, name, "sh", "-c", script)
        return name

    def ctr_exec(self, name: str, exec_id: str, *args: str, flags: tuple[str, ...] = (), **more: Any) -> Done:
        return self.try_("task", "exec", "--exec-id", exec_id, *flags, name, *args, **more)

    def call(self, method: str, **request: Any) -> Json:
        """A call of the CRI.

        :raise CriError: it was refused
        """
        assert self._client is not None and self._client.stdin is not None and self._client.stdout is not None
        with self._lock:
            self._client.stdin.write(json.dumps({"method": method, "request": request}).encode() + b"\n")
            self._client.stdin.flush()
            answer: Json = json.loads(self._client.stdout.readline())
        if "error" in answer:
            raise CriError(answer["error"], answer["message"])
        response: Json = answer["response"]
        return response

    def exec_sync(self, container: str, *cmd: str) -> Done:
        """A command in a container of a pod."""
        answer = self.call("ExecSync", container_id=container, cmd=list(cmd), timeout=int(DEADLINE_S))
        streams = [base64.b64decode(answer.get(name, "")) for name in ("stdout", "stderr")]
        return Done(answer.get("exit_code", 0), *streams)

    def runtime_state(self) -> list[str]:
        """What the runtimes keep of containers."""
        found = (self.folder / "runtime").rglob("*")
        return [
            str(path) for path in found if path.name not in ("@sandboxes", "cri", "runv", "runc", "default", "k8s.io")
        ]

    def remove_everything(self) -> None:
        """Pods and containers of a test that failed, or was content to leave them to us."""
        for pod in self.call("ListPodSandbox").get("items", []):
            for method in ("StopPodSandbox", "RemovePodSandbox"):
                self.call(method, pod_sandbox_id=pod["id"])
        for name in self("task", "ls", "--quiet").lines:
            self.try_("task", "delete", "--force", name)
        for name in self("container", "ls", "--quiet").lines:
            self.try_("container", "delete", name)


def docker_archive(name: str, command: list[str]) -> bytes:
    """An image as `docker save` writes it."""
    layer = image_tar()
    digest = hashlib.sha256(layer).hexdigest()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": command, "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        members = {
            "config.json": json.dumps(config).encode(),
            "layer.tar": layer,
            "manifest.json": json.dumps(manifest).encode(),
        }
        for member, data in members.items():
            entry = tarfile.TarInfo(member)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return packed.getvalue()
