"""inotify for what the host changes in shared folders: the host's side of docs/agent-protocol.md, "Touching".

The watcher sees the folders as QEMU does, in its mount namespace, and so exactly what the guest sees of them.
"""

import os
import select
import socket
import time

from runv import cgroups, linux
from runv.agent.client import Agent
from runv.errors import AgentError, HostError, VmError
from runv.processes import Identity, spawn
from runv.storage.plan import GUEST_SHARE, Shared

TREES_MAX = 64
FOLDERS_MAX = 4096
# Until it has found every folder, and the guest has opened it
_READY_TIMEOUT_S = 30.0
_ANSWER_MAX = 256


def start(
    program: str, agent: Agent, shared: list[Shared], *, kind: str, share: str, qemu: Identity, groups: list[str], pid_file: str, label: str
) -> str:
    """Starts the watcher of ``shared`` and waits until it watches. Gives what is missing of it, for a warning; empty when it is complete.

    :param kind: of the share: ``9p`` or ``virtiofs``
    :param share: the sandbox's share folder, where ``qemu`` has the folders
    :raise HostError: it could not be started
    """
    trees = shared[:TREES_MAX]
    try:
        link = agent.touch(GUEST_SHARE, [f"{GUEST_SHARE}/{tree.name}" for tree in trees], hold=kind == "9p")
    except AgentError as error:
        if error.kind != "unsupported":
            raise
        return f"the container is not told of changes that the host makes: {error}"
    paths = [os.path.join(share, tree.name) for tree in trees]
    with link:
        answer = _spawn([program, "--label", label, "--most", str(FOLDERS_MAX)], paths, link, qemu, groups, pid_file)
    if answer == "full":
        return f"the container is told of changes in {FOLDERS_MAX} of its shared folders only, there are more"
    if answer != "all":
        return f"the container is not told of changes that the host makes: {answer or 'the watcher has ended'}"
    if len(shared) > TREES_MAX:
        return f"the container is told of changes in the first {TREES_MAX} of its {len(shared)} shares only"
    return ""


def _spawn(command: list[str], paths: list[str], link: socket.socket, qemu: Identity, groups: list[str], pid_file: str) -> str:
    """Its first word: ``all``, ``full``, or why it has ended; empty when it said nothing."""
    try:
        namespace = os.open(f"/proc/{qemu.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise VmError("cannot watch shared folders: QEMU has ended") from error
    ready_read, ready_write = os.pipe2(os.O_CLOEXEC)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    try:
        spawn(
            [*command, "--link-fd", str(link.fileno()), "--ready-fd", str(ready_write), *paths],
            env={},
            stdio=(null, null, null),
            keep=[link.fileno(), ready_write],
            pid_file=pid_file,
            entry=cgroups.Entry(groups),
            prepare=lambda: linux.setns(namespace, linux.CLONE_NEWNS),
        )
    finally:
        for fd in (namespace, null, ready_write):
            os.close(fd)
    with os.fdopen(ready_read, "rb", buffering=0) as ready:
        return _first_line(ready.fileno())


def _first_line(fd: int) -> str:
    deadline = time.monotonic() + _READY_TIMEOUT_S
    text = b""
    while not text.endswith(b"\n") and len(text) < _ANSWER_MAX:
        if not select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise HostError("watch shared folders", TimeoutError("the guest did not open them in time"))
        if not (chunk := os.read(fd, _ANSWER_MAX)):
            break
        text += chunk
    return text.decode(errors="replace").strip()
