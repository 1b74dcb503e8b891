"""A machine that was saved comes back: QEMU reads it, and what no two machines may have alike is made anew before anything in it moves."""

import os
import socket
import time
from typing import Any, NamedTuple

from runv.agent.client import Agent
from runv.agent.link import resynchronise
from runv.errors import AgentLostError, ConfigError, VmError, reason
from runv.files import read_text
from runv.sandbox.connection import carrier_of
from runv.sandbox.layout import SandboxFolder
from runv.sandbox.links import network
from runv.sandbox.machine import boot
from runv.sandbox.machine.boot import Come
from runv.sandbox.machine.fresh import own_setup
from runv.sandbox.machine.origin import Origin
from runv.sandbox.machine.wanted import Wanted
from runv.sandbox.saved import image
from runv.sandbox.saved.image import Saved
from runv.vm import template
from runv.vm.machine import Machine, Memory, Plugged, Restore

# QEMU reads the memory back; then the guest answers at once, or never.
_LOAD_TIMEOUT_S = 120.0
_CONSOLE_CHARS = 400


class Source(NamedTuple):
    """A checkpoint, and the machine that it is to be here."""

    folder: str
    saved: Saved
    wanted: Wanted


def come_back(sandbox: SandboxFolder, source: Source, host: boot.Host, container: str, plugged: tuple[Plugged, ...]) -> Agent:
    """Starts the machine where it was saved, and connects to its agent.

    :raise VmError: it does not come back
    """
    deadline = time.monotonic() + _LOAD_TIMEOUT_S
    come = Come(source.saved.secret, lambda machine: _origin(machine, source, plugged), lambda link: resynchronise(link, deadline, sandbox.alive))
    try:
        launched = boot.launch(sandbox, source.wanted, host, container, [], come)
        with launched.origin:
            return greeted(Agent(carrier_of(sandbox, launched.record), source.saved.secret, deadline, sandbox.alive))
    except AgentLostError as error:
        said = _console(sandbox)
        raise VmError(f"cannot restore from {source.folder}: {error}{f'; QEMU said: {said}' if said else ''}") from error


def greeted(agent: Agent) -> Agent:
    """A connection that the guest has answered: the stand-in that gets it expects answers to its own requests alone.

    :raise AgentLostError, AgentError: it does not answer, or refuses
    """
    try:
        agent.greet()
    except BaseException:
        agent.close()
        raise
    return agent


def _console(sandbox: SandboxFolder) -> str:
    try:
        lines = read_text(sandbox.path("console.log")).splitlines()
    except OSError as error:
        return reason(error)
    return " | ".join(line.strip() for line in lines if line.strip())[-_CONSOLE_CHARS:]


def _origin(machine: Machine, source: Source, plugged: tuple[Plugged, ...]) -> Origin:
    """The machine as it was, which reads its state from the checkpoint."""
    try:
        state_fd = os.open(image.state_of(source.folder), os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(f"cannot restore from {source.folder}: {reason(error)}") from error
    ours, theirs = socket.socketpair()
    ours.sendall(template.orders(state_fd, whole=True))
    restored = machine._replace(
        memory=Memory(named=source.saved.named_memory),
        restore=Restore(theirs.detach(), state_fd),
        controller=source.saved.controller,
        plugged=plugged,
    )
    return Origin(restored, monitor=ours)


def begin_anew(sandbox: SandboxFolder, agent: Agent, network_setup: dict[str, Any]) -> None:
    """While its containers still stand: another time, other random numbers, another network, another secret. Then they go on.

    :raise RunvError: the guest refused
    """
    agent.call("setup", {**own_setup(), **_without_old_addresses(agent, network_setup)})
    network.bring_new(sandbox, agent)
    record = sandbox.load()
    record.secret = os.urandom(32).hex()
    sandbox.save(record)
    agent.call("unpark", {"secret": record.secret})
    agent.secret = record.secret


def _without_old_addresses(agent: Agent, setup: dict[str, Any]) -> dict[str, Any]:
    """A card keeps the addresses that its link has here, and loses those that it had where it was saved."""
    if not setup.get("interfaces"):
        return setup
    had = {link.get("card"): link["addresses"] for link in agent.call("interfaces", {})["interfaces"]}
    interfaces = []
    for interface in setup["interfaces"]:
        old = [address for address in had.get(interface["card"], []) if not address.startswith("fe80:")]
        interfaces.append({**interface, "removed_addresses": [address for address in old if address not in interface["addresses"]]})
    return {**setup, "interfaces": interfaces}
