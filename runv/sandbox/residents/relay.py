"""Connections that begin inside and end on the host: the host's side of docs/agent-protocol.md, "Relays".

A relay carries either the sockets that a container was given, and ends with the container, or the resolver that Docker runs in the sandbox's network
namespace, and ends with the sandbox.
"""

import os

from runv import cgroups, linux
from runv.agent.client import Agent
from runv.errors import HostError
from runv.files import locked_folder
from runv.network import resolver
from runv.processes import spawn
from runv.quick import Any, NamedTuple
from runv.sandbox.layout import SandboxFolder
from runv.settings import Settings
from runv.storage.plan import Carried


class Place(NamedTuple):
    """Where a relay is to run: its program, the cgroups, the process whose network namespace it joins, and the file its pid goes into."""

    program: str
    groups: list[str]
    netns_pid: int
    pid_file: str
    label: str


def carry(agent: Agent, carried: tuple[Carried, ...], place: Place) -> dict[int, str]:
    """Starts the relay for sockets of the host; gives for each of the mounts where in the guest its source is.

    :raise RunvError: it could not be started
    """
    listeners = [{"type": to.kind, "mode": to.mode, "uid": to.uid, "gid": to.gid} for _, to in carried]
    paths = _start(agent, listeners, [f"{to.kind}:{to.path}" for _, to in carried], place)
    return {entry.mount: path for entry, path in zip(carried, paths, strict=True)}


def carry_resolver(agent: Agent, place: Place) -> None:
    """Starts the relay for Docker's resolver, if there is one in the namespace.

    :raise RunvError: it could not be started
    """
    kinds = resolver.kinds_at(place.netns_pid)
    if kinds:
        listeners = [{"type": kind, "address": resolver.ADDRESS, "port": resolver.PORT} for kind in kinds]
        _start(agent, listeners, [f"{kind}:{resolver.ADDRESS}:{resolver.PORT}" for kind in kinds], place)


def carry_late_resolver(agent: Agent, sandbox: SandboxFolder, groups: list[str], settings: Settings) -> None:
    """The same for a sandbox that runs, unless it has that relay.

    :raise RunvError: it could not be started
    """
    with locked_folder(sandbox.folder):
        running, qemu = sandbox.process("relay.pid"), sandbox.process("qemu.pid")
        if qemu is not None and (running is None or not running.alive()):
            program = settings.artefact("relay")
            carry_resolver(agent, Place(program, groups, qemu.pid, sandbox.path("relay.pid"), sandbox.name))


def _start(agent: Agent, listeners: list[dict[str, Any]], targets: list[str], place: Place) -> list[str]:
    link, paths = agent.relay(listeners)
    with link:
        try:
            null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise HostError("open /dev/null", error) from error
        try:
            spawn(
                [place.program, "--link-fd", str(link.fileno()), "--label", place.label, *targets],
                env={},
                stdio=(null, null, null),
                keep=[link.fileno()],
                pid_file=place.pid_file,
                entry=cgroups.Entry(place.groups),
                prepare=lambda: linux.join(f"/proc/{place.netns_pid}/ns/net", linux.CLONE_NEWNET),
            )
        finally:
            os.close(null)
    return paths
