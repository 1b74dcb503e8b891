"""Connections that begin inside and end on the host: the host's side of docs/agent-protocol.md, "Relays".

A relay carries either the sockets that a container was given, and ends with the container, or the resolver that Docker runs in the sandbox's network
namespace, and ends with the sandbox.
"""

import os
import socket
import sys
from typing import Any, NamedTuple

from runv import cgroups, linux
from runv.agent.client import Agent
from runv.errors import HostError
from runv.files import read_text
from runv.processes import spawn
from runv.storage import Carried

_RESOLVER = "127.0.0.11"
_RESOLVER_PORT = 53


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


def carry_resolver(agent: Agent, place: Place) -> bool:
    """Starts the relay for a resolver of Docker's, if there is one in the namespace.

    :raise RunvError: it could not be started
    """
    kinds = [kind for kind in ("udp", "tcp") if _listens(read_text(f"/proc/{place.netns_pid}/net/{kind}"))]
    if not kinds:
        return False
    # It listens on other ports than 53; rules that Docker has put into the namespace lead there from 53.
    listeners = [{"type": kind, "address": _RESOLVER, "port": _RESOLVER_PORT} for kind in kinds]
    _start(agent, listeners, [f"{kind}:{_RESOLVER}:{_RESOLVER_PORT}" for kind in kinds], place)
    return True


def _listens(table: str) -> bool:
    """Whether a table of procfs has a socket bound to the resolver's address. Pure."""
    address = f"{int.from_bytes(socket.inet_aton(_RESOLVER), sys.byteorder):08X}:"
    return any(fields[1].startswith(address) for line in table.splitlines()[1:] if len(fields := line.split()) > 1)


def _start(agent: Agent, listeners: list[dict[str, Any]], targets: list[str], place: Place) -> list[str]:
    def prepare() -> None:
        cgroups.enter(place.groups)
        linux.join(f"/proc/{place.netns_pid}/ns/net", linux.CLONE_NEWNET)

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
                prepare=prepare,
            )
        finally:
            os.close(null)
    return paths
