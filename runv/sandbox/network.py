"""The sandbox's network namespace: its links go into the guest when the machine is made, when the container starts, and on request.

network.json, in the sandbox's folder::

    {"namespace": "/run/netns/x", "device": 4, "inode": 4026532500,   where it is from; empty for the sandbox's own
     "links": ["eth0"],                                               what was touched; written before it is
     "cards": [{"number": 0, "link": "eth0", "ifindex": ..., "port": ...}]}
"""

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any

from runv.errors import AgentLostError, HostError, RunvError
from runv.files import locked_folder, read_text, write_atomic
from runv.network import plan, wire
from runv.network.names import names_in, tap_name
from runv.sandbox import boot
from runv.sandbox.layout import SandboxFolder
from runv.vm import hotplug

if TYPE_CHECKING:
    from runv.agent.client import Agent

_RECORD = "network.json"


class Record:
    """network.json."""

    def __init__(self, sandbox: SandboxFolder, data: dict[str, Any]) -> None:
        self._sandbox = sandbox
        self.namespace = str(data.get("namespace", ""))
        self.device = int(data.get("device", 0))
        self.inode = int(data.get("inode", 0))
        self.links = [str(name) for name in data.get("links", [])]
        self.cards = tuple(wire.Card(**entry) for entry in data.get("cards", []))

    def save(self) -> None:
        """Writes it; the caller holds the sandbox's lock."""
        cards = [{**card._asdict(), "fds": ()} for card in self.cards]
        data = {"namespace": self.namespace, "device": self.device, "inode": self.inode, "links": self.links, "cards": cards}
        write_atomic(self._sandbox.path(_RECORD), json.dumps(data))


def load(sandbox: SandboxFolder) -> Record:
    """An empty one where the sandbox's network was empty so far."""
    try:
        return Record(sandbox, json.loads(read_text(sandbox.path(_RECORD))))
    except FileNotFoundError:
        return Record(sandbox, {})


def bring_in(sandbox: SandboxFolder, standin: int, given: str, vcpus: int, *, spare: bool) -> wire.Wiring:
    """Wires what is in the stand-in's network namespace to cards for the machine that is about to be started.

    :param given: where the namespace came from, if it is not the stand-in's own: it outlives the sandbox
    :param spare: whether an empty namespace may be filled before the container starts
    :raise HostError: it could not be done
    """
    # procfs answers at once, and most of the time there is nothing more to ask.
    path, queues = f"/proc/{standin}/ns/net", plan.queues(vcpus)
    record = Record(sandbox, {"links": names_in(read_text(f"/proc/{standin}/net/dev"))})
    if not record.links and not spare:
        return wire.Wiring()
    if given:
        status = os.stat(path)
        record.namespace, record.device, record.inode = given, status.st_dev, status.st_ino
    record.save()
    wiring = wire.connect(path, queues) if record.links else wire.Wiring((wire.spare(path, queues),))
    record.cards = wiring.cards
    record.save()
    return wiring


def bring_more(sandbox: SandboxFolder, agent: "Agent") -> None:
    """Brings the links that are new in the sandbox's namespace into its running guest. A spare card that got none goes: a guest is not to
    see what is nobody's.

    :raise RunvError: it could not be done; what was tried is undone then
    """
    with locked_folder(sandbox.folder):
        record = load(sandbox)
        new = set(_present(sandbox)) - set(record.links)
        if new:
            _wire(sandbox, record, agent, new)
        spares = [card for card in record.cards if not card.ifindex]
        for card in spares:
            # Its tap stays until QEMU ends: there is nobody to see that, and QMP's library takes longer to load than all of this.
            agent.call("unplug", {"card": plan.card_address(card.number)})
        if spares:
            record.cards = tuple(card for card in record.cards if card.ifindex)
            record.save()


def _namespace(sandbox: SandboxFolder) -> str:
    """Where the sandbox's namespace is while its machine runs."""
    process = sandbox.process("qemu.pid")
    if process is None or not process.alive():
        raise AgentLostError("the container's sandbox has ended")
    return f"/proc/{process.pid}/ns/net"


def _present(sandbox: SandboxFolder) -> list[str]:
    return names_in(read_text(_namespace(sandbox).removesuffix("ns/net") + "net/dev"))


def _wire(sandbox: SandboxFolder, record: Record, agent: "Agent", names: set[str], only: str = "") -> tuple[wire.Card, ...]:
    """Gives links of the namespace cards: spare ones, and then such as are plugged in."""
    namespace, before = _namespace(sandbox), (record.links, record.cards)
    spares = sum(not card.ifindex for card in record.cards)
    queues = plan.queues(hotplug.vcpus(sandbox.path("qmp.sock"))) if len(names) > spares else 0
    record.links = sorted({*record.links, *names})
    record.save()
    wiring = wire.connect(namespace, queues, record.cards, only)
    try:
        for card in wiring.cards:
            port = _plug(sandbox, card) if card.fds else card.port
            others = tuple(other for other in record.cards if other.number != card.number)
            record.cards = (*others, card._replace(port=port, fds=()))
            record.save()
        if wiring.setup:
            agent.call("setup", wiring.setup)
    except BaseException:
        with contextlib.suppress(RunvError):
            wire.disconnect(namespace, [card.link for card in wiring.cards])
        for card in record.cards:
            if card.port and card not in before[1]:
                _pull(sandbox, card)
        record.links, record.cards = before
        record.save()
        raise
    finally:
        wiring.close()
    return wiring.cards


def _plug(sandbox: SandboxFolder, card: wire.Card) -> str:
    nic = boot.nic_of(card)
    try:
        return hotplug.plug_nic(sandbox.path("qmp.sock"), nic)
    finally:
        for fd in nic.vhost_fds:
            os.close(fd)


def _pull(sandbox: SandboxFolder, card: wire.Card) -> None:
    with contextlib.suppress(RunvError):
        hotplug.unplug_nic(sandbox.path("qmp.sock"), tap_name(card.number))


def let_go(sandbox: SandboxFolder) -> None:
    """Takes the wiring off links that outlive the sandbox. What is gone, or is another namespace by now, is left alone."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, HostError):
        record = load(sandbox)
        if not record.namespace:
            return
        status = os.stat(record.namespace)
        if (status.st_dev, status.st_ino) == (record.device, record.inode):
            wire.disconnect(record.namespace, record.links)
