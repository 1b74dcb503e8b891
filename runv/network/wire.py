"""Giving a namespace's links to a guest, and back. netlink's library is imported in a child, and only when there are links."""

import contextlib
import os
import socket
from typing import Any, NamedTuple

from runv.network import netns, plan
from runv.network.links import from_json, to_json


class Card(NamedTuple):
    """A network card for the machine: the open tap behind it, and the address it is made with."""

    fd: int
    mac: str


class Wiring(NamedTuple):
    """The cards of a machine and what its agent is to be told of them. Whoever has it closes it, once QEMU has the descriptors."""

    cards: tuple[Card, ...] = ()
    setup: dict[str, Any] = {}  # noqa: RUF012 - never changed

    def close(self) -> None:
        """Closes our copies of the taps' descriptors."""
        for card in self.cards:
            os.close(card.fd)


def connect(namespace: str) -> Wiring:
    """Makes a tap for each link of the namespace and wires the two together.

    :raise HostError: the kernel refused, or the guest cannot have such links
    """
    result, fds = netns.inside(namespace, "connect the sandbox's network", _connect)
    found = from_json(result)
    cards = tuple(Card(fd, plan.card_address(number)) for number, fd in enumerate(fds))
    return Wiring(cards, plan.setup(found))


def _connect() -> netns.Result:
    from pyroute2.iproute.linux import IPRoute

    from runv.network import look, taps

    fds = []
    with IPRoute() as ip:
        found = look.find(ip)
        plan.check(found)
        for number, link in enumerate(found.links):
            fd, tap = taps.open_tap(number)
            fds.append(fd)
            taps.connect(ip, link, tap)
    return to_json(found), fds


def disconnect(namespace: str, names: list[str]) -> None:
    """Takes the wiring off the links called ``names``. Those that are gone took theirs along; taps go with QEMU.

    :raise HostError: the namespace cannot be entered
    """

    def work() -> netns.Result:
        from pyroute2.iproute.linux import IPRoute

        from runv.network import taps

        with IPRoute() as ip:
            for name in names:
                with contextlib.suppress(OSError):
                    taps.remove_ingress(ip, socket.if_nametoindex(name))
        return None, []

    netns.inside(namespace, "disconnect the sandbox's network", work)
