"""``interface sync``: what has changed in the network namespace of a running sandbox is brought to its guest. Engines change links of running containers
(`docker network connect`) without telling the runtime: the stand-in that watches the namespace runs this."""

from typing import TYPE_CHECKING

from runv.errors import AgentError, StateError
from runv.files import locked_folder
from runv.network import plan, wire
from runv.sandbox import lifecycle
from runv.sandbox.connection import connect
from runv.sandbox.layout import SandboxFolder
from runv.sandbox.links import network
from runv.sandbox.links.netrecord import NetRecord
from runv.state import CREATED, RUNNING, Container

if TYPE_CHECKING:
    from runv.agent.client import Agent


def sync(container: Container) -> None:
    """Links that have gone lose their cards, new ones get some, and all have the namespace's addresses and routes. Nothing before the start.

    :raise RunvError: it is not running, or the guest cannot have what is there
    """
    record = container.load()
    status, _ = container.status(record)
    if status == CREATED:  # `start` looks for itself
        return
    if status != RUNNING:
        raise StateError("container not running")
    sandbox = SandboxFolder(container.root, record.sandbox)
    with connect(sandbox) as agent:
        with locked_folder(sandbox.folder):
            _sync_links(sandbox, NetRecord(sandbox), agent)
        lifecycle.bring_in_resolver(sandbox, agent, record)


def _sync_links(sandbox: SandboxFolder, record: NetRecord, agent: "Agent") -> None:
    found, indexes = wire.see(network.namespace_of(sandbox))
    for card in network.cards_of(record):
        if card.ifindex and card.ifindex not in indexes:
            _put_away(agent, card)
            network.free(record, card)
    known = {*record.left, *(card.ifindex for card in network.cards_of(record))}
    for link in found.links:
        if link.ifindex not in known:
            network.wire_more(sandbox, record, agent, {link.name}, only=link.name)
    present = {link.ifindex for link in found.links}
    cards = {card.link: card.number for card in network.cards_of(record) if card.ifindex in present}
    setup = plan.setup(found, cards, first=True)
    if setup:
        agent.call("setup", setup)


def _put_away(agent: "Agent", card: wire.Card) -> None:
    """The guest keeps the card, without its driver, for a link that comes later: to unplug it would take a second, and QMP's library."""
    try:
        agent.call("unplug", {"card": plan.card_address(card.number), "keep": True})
    except AgentError as error:
        if error.kind != "not-found":
            raise
