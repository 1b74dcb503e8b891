"""Giving a namespace's links to a guest, and back. netlink is spoken in a child that has joined the namespace."""

import os

from runv.network import netns, plan
from runv.network.links import Found, from_json, to_json
from runv.quick import Any, NamedTuple, socket, suppress


class Card(NamedTuple):
    """A network card of a machine. ``number`` says what its tap is called (``names.tap_name``) and what address it was made with
    (``plan.card_address``). ``link`` is what it is wired to: nothing yet where ``ifindex`` is 0. ``port``: the hot-plug port it sits in; empty
    for one that was there at boot. ``fds``: the tap's queues, until QEMU has them."""

    number: int
    link: str = ""
    ifindex: int = 0
    port: str = ""
    fds: tuple[int, ...] = ()


class Wiring(NamedTuple):
    """The cards that were wired, and what the guest's agent is to be told of them. Whoever has it closes it, once QEMU has the descriptors."""

    cards: tuple[Card, ...] = ()
    setup: dict[str, Any] = {}  # noqa: RUF012 - never changed

    def close(self) -> None:
        """Closes our copies of the taps' descriptors."""
        for card in self.cards:
            for fd in card.fds:
                os.close(fd)


def connect(namespace: str, queues: int, present: tuple[Card, ...] = (), only: str = "") -> Wiring:
    """Makes a tap for each link of the namespace that has no card yet, and wires the two together.

    :param queues: pairs of queues that each tap gets
    :param present: the machine's cards; one without a link is used first, and then has no descriptors
    :param only: the link to wire, where it is not all of them
    :raise HostError: the kernel refused, or the guest cannot have such links
    """
    result, fds = netns.inside(namespace, "connect the sandbox's network", lambda: _connect(queues, present, only))
    found = from_json(result["found"])
    cards = _cards(found, result["wired"], fds, queues, present)
    first = not any(card.ifindex for card in present)
    return Wiring(cards, plan.setup(found, {card.link: card.number for card in cards}, first=first))


def _cards(found: Found, wired: dict[str, int], fds: list[int], queues: int, present: tuple[Card, ...]) -> tuple[Card, ...]:
    """:param wired: the numbers of the cards that are new, or were spare, by their links' names"""
    spares = {card.number: card for card in present}
    cards = []
    for link in found.links:
        if link.name in wired:
            card = spares.get(wired[link.name])
            if card is None:
                card, fds = Card(wired[link.name], fds=tuple(fds[:queues])), fds[queues:]
            cards.append(card._replace(link=link.name, ifindex=link.ifindex))
    return tuple(cards)


def _connect(queues: int, present: tuple[Card, ...], only: str) -> netns.Result:
    from runv.network import look, taps
    from runv.network.netlink import Netlink

    fds: list[int] = []
    wired: dict[str, int] = {}
    spares = [card.number for card in present if not card.ifindex]
    with Netlink() as netlink:
        found = look.find(netlink)
        has_card = {card.ifindex for card in present}
        new = [link for link in found.links if link.ifindex not in has_card and only in ("", link.name)]
        plan.check(len(present) - len(spares) + len(new))
        # A tap may be there that QEMU still holds, of a card that has gone.
        taken = {card.number for card in present} | taps.numbers_in_use()
        free = (number for number in range(len(taken) + plan.MAX_LINKS) if number not in taken)
        for link in new:
            if spares:
                number = spares.pop()
            else:
                number = next(free)
                fds += taps.open_tap(number, queues)
            taps.connect(netlink, link, number)
            wired[link.name] = number
    return {"found": to_json(found), "wired": wired}, fds


def see(namespace: str) -> tuple[Found, set[int]]:
    """What a namespace has now, and the indexes of all its links, also of those that a guest cannot have.

    :raise HostError: it cannot be entered
    """

    def work() -> netns.Result:
        from runv.network import look
        from runv.network.netlink import Netlink

        with Netlink() as netlink:
            return {"found": to_json(look.find(netlink)), "indexes": [index for index, _ in socket.if_nameindex()]}, []

    result, _ = netns.inside(namespace, "look at the sandbox's network", work)
    return from_json(result["found"]), set(result["indexes"])


def spare(namespace: str, queues: int, number: int = plan.SPARE, *, stays: bool = False) -> Card:
    """A card for a link that may come later.

    :param stays: its tap lives as long as the namespace (``taps.open_tap``)
    :raise HostError: the kernel refused
    """
    from runv.network import taps

    _, fds = netns.inside(namespace, "prepare the sandbox's network", lambda: (None, taps.open_tap(number, queues, stays=stays)))
    return Card(number, fds=tuple(fds))


def disconnect(namespace: str, names: list[str]) -> None:
    """Takes the wiring off the links called ``names``. Those that are gone took theirs along; taps go with QEMU.

    :raise HostError: the namespace cannot be entered
    """

    def work() -> netns.Result:
        from runv.network import taps
        from runv.network.netlink import Netlink

        with Netlink() as netlink:
            for name in names:
                with suppress(OSError):
                    taps.remove_ingress(netlink, socket.if_nametoindex(name))
        return None, []

    netns.inside(namespace, "disconnect the sandbox's network", work)
