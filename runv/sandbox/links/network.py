"""The sandbox's network namespace: its links go into the guest when the machine is made, when the container starts, and on request."""

import os

from runv.errors import AgentLostError, RunvError
from runv.files import locked_folder, read_text
from runv.network import plan, wire
from runv.network.names import names_in, tap_name
from runv.network.plan import Loan
from runv.network.wire import Card
from runv.processes import identify
from runv.quick import Any, suppress
from runv.sandbox.layout import SandboxFolder
from runv.sandbox.links.netrecord import NetRecord
from runv.vm import hotplug

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from runv.agent.client import Agent


def expect_links() -> None:
    """Imports what is needed where there are links, for those who have the time."""
    import runv.network.devices
    import runv.network.look  # noqa: F401


def begin(sandbox: SandboxFolder, standin: int, given: str, loans: list[Loan]) -> None:
    """Writes down which namespace a new sandbox has, where that matters later, and fills it with what the host lends.

    :param given: where the namespace came from, if it is not the stand-in's own: it outlives the sandbox
    :raise HostError: a device cannot be moved
    """
    if not given and not loans:
        return
    record = NetRecord(sandbox)
    record.holder = str(identify(standin))
    if given:
        status = os.stat(f"/proc/{standin}/ns/net")
        record.namespace, record.device, record.inode = given, status.st_dev, status.st_ino
    record.save()
    borrow(record, f"/proc/{standin}/ns/net", loans)


def borrow(record: NetRecord, namespace: str, loans: list[Loan]) -> None:
    """Moves devices of the host's into a sandbox's namespace. They are given back when the sandbox ends.

    :raise HostError: one cannot be moved
    """
    if not loans:
        return
    from runv.network import lend  # only where there is something to lend

    for loan in loans:
        record.lent = [*record.lent, list(loan)]
        record.save()
        lend.lend(namespace, loan)


def bring_in(sandbox: SandboxFolder, standin: int, vcpus: int, *, spare: bool) -> wire.Wiring:
    """Wires what is in the stand-in's network namespace to cards for the machine that is about to be started.

    :param spare: whether an empty namespace may be filled before the container starts
    :raise HostError: it could not be done
    """
    # procfs answers at once, and most of the time there is nothing more to ask.
    names = names_in(read_text(f"/proc/{standin}/net/dev"))
    record, queues = NetRecord(sandbox), plan.queues(vcpus)
    if not names and not spare:
        if record.cards:  # of a machine that waited, and did not wake up
            _keep_cards(record, ())
        return wire.Wiring()
    record.links = names
    record.save()
    path = f"/proc/{standin}/ns/net"
    wiring = wire.connect(path, queues) if names else wire.Wiring((wire.spare(path, queues, stays=not record.namespace),))
    _keep_cards(record, wiring.cards)
    return wiring


def prepare(sandbox: SandboxFolder, standin: int, vcpus: int) -> wire.Wiring:
    """A spare card for a machine that is about to be started, for what is put into the stand-in's network namespace meanwhile.

    :raise HostError: the kernel refused
    """
    wiring = wire.Wiring((wire.spare(f"/proc/{standin}/ns/net", plan.queues(vcpus), stays=True),))
    _keep_cards(NetRecord(sandbox), wiring.cards)
    return wiring


def bring_back(sandbox: SandboxFolder, standin: int, cards: list[tuple[int, int, str]]) -> tuple[wire.Wiring, list[str]]:
    """Makes the cards that a machine had when it was saved, and wires each to the link of the name that it had. Gives also the names of links that are
    not there any more.

    :param cards: number, pairs of queues, and link (empty for none) of each
    :raise HostError: it could not be done
    """
    names = names_in(read_text(f"/proc/{standin}/net/dev"))
    record, path = NetRecord(sandbox), f"/proc/{standin}/ns/net"
    record.links = [link for _, _, link in cards if link in names]
    record.save()
    made: dict[int, Card] = {}
    setup: dict[str, list[Any]] = {}
    try:
        for number, queues, _ in cards:
            made[number] = wire.spare(path, queues, number)
        for number, queues, link in cards:
            if link in names:
                wired = tuple(card for card in made.values() if card.ifindex)
                wiring = wire.connect(path, queues, (*wired, made[number]), link)
                made |= {card.number: card for card in wiring.cards}
                for member, entries in wiring.setup.items():
                    setup.setdefault(member, []).extend(entries)
        # A spare one is as spare as it was; one whose link is missing is not: the guest has an interface for it.
        lost = {number for number, _, link in cards if link and link not in names}
        _keep_cards(record, tuple(card for card in made.values() if card.number not in lost))
    except BaseException:
        wire.Wiring(tuple(made.values())).close()
        raise
    return wire.Wiring(tuple(made.values()), setup), [link for _, _, link in cards if link and link not in names]


def cards_of(record: NetRecord) -> tuple[Card, ...]:
    """The machine's network cards."""
    return tuple(Card(*entry) for entry in record.cards)


def _keep_cards(record: NetRecord, cards: tuple[Card, ...]) -> None:
    record.cards = [list(card[:4]) for card in cards]
    record.save()


def bring_more(sandbox: SandboxFolder, agent: "Agent") -> None:
    """Brings the links that are new in the sandbox's namespace into its running guest.

    :raise RunvError: it could not be done; what was tried is undone then
    """
    with locked_folder(sandbox.folder):
        bring_new(sandbox, agent)


def bring_new(sandbox: SandboxFolder, agent: "Agent") -> None:
    """The same for a caller who holds the sandbox's lock.

    :raise RunvError: as of ``bring_more``
    """
    record = NetRecord(sandbox)
    new = set(present(sandbox)) - set(record.links)
    if new:
        wire_more(sandbox, record, agent, new)


def namespace_of(sandbox: SandboxFolder) -> str:
    """Where the sandbox's namespace is while its machine runs.

    :raise AgentLostError: it does not
    """
    process = sandbox.process("qemu.pid")
    if process is None or not process.alive():
        raise AgentLostError("the container's sandbox has ended")
    return f"/proc/{process.pid}/ns/net"


def present(sandbox: SandboxFolder) -> list[str]:
    """The names of the links that are in the namespace of a running sandbox."""
    return names_in(read_text(namespace_of(sandbox).removesuffix("ns/net") + "net/dev"))


def wire_more(sandbox: SandboxFolder, record: NetRecord, agent: "Agent", names: set[str], only: str = "") -> None:
    """Gives links of the namespace cards: spare ones, and then such as are plugged in.

    :param only: the link to wire, where it is not all that have no card
    :raise RunvError: it could not be done; what was tried is undone then
    """
    namespace, links, before = namespace_of(sandbox), record.links, cards_of(record)
    spares = sum(not card.ifindex for card in before)
    queues = plan.queues(hotplug.vcpus(sandbox.path("qmp.sock"))) if len(names) > spares else 0
    record.links = sorted({*links, *names})
    record.save()
    wiring = wire.connect(namespace, queues, before, only)
    try:
        for card in wiring.cards:
            port = _plug(sandbox, card) if card.fds else card.port
            others = tuple(other for other in cards_of(record) if other.number != card.number)
            _keep_cards(record, (*others, card._replace(port=port)))
        if wiring.setup:
            agent.call("setup", wiring.setup)
    except BaseException:
        with suppress(RunvError):
            wire.disconnect(namespace, [card.link for card in wiring.cards])
        for card in cards_of(record):
            if card.port and card not in before:
                pull(sandbox, card)
        record.links = links
        _keep_cards(record, before)
        raise
    finally:
        wiring.close()


def _plug(sandbox: SandboxFolder, card: Card) -> str:
    from runv.sandbox.links.cards import nic_of

    nic = nic_of(card)
    try:
        return hotplug.plug_nic(sandbox.path("qmp.sock"), nic)
    finally:
        for fd in nic.vhost_fds:
            os.close(fd)


def pull(sandbox: SandboxFolder, card: Card) -> None:
    """Takes a card, and its tap, out of the machine as far as that goes."""
    with suppress(RunvError):
        hotplug.unplug_nic(sandbox.path("qmp.sock"), tap_name(card.number), card.port)


def forget(sandbox: SandboxFolder, record: NetRecord, card: Card) -> None:
    """Takes a card that the guest has given up out of the machine, and the wiring off its link.

    :raise HostError: the namespace cannot be entered
    """
    pull(sandbox, card)
    wire.disconnect(namespace_of(sandbox), [card.link])
    record.links = [name for name in record.links if name != card.link]
    _keep_cards(record, tuple(other for other in cards_of(record) if other.number != card.number))


def free(record: NetRecord, card: Card) -> None:
    """Writes down that a card's link has gone, and that the card waits for another one."""
    record.links = [name for name in record.links if name != card.link]
    _keep_cards(record, tuple(other if other.number != card.number else card._replace(link="", ifindex=0) for other in cards_of(record)))
