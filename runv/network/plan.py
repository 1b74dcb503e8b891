"""From the records of a namespace to the cards of a machine, and to what the guest's agent is told (``setup`` of docs/agent-protocol.md). Pure."""

from runv.errors import RunvError
from runv.network.links import Found, Link
from runv.quick import Any, NamedTuple

# A machine's only bus has 32 places, some of which its other devices need.
MAX_LINKS = 16
# Each takes buffers of half a megabyte of the guest's memory.
MAX_QUEUES = 4


# The number of a card that waits for a link: the guest keeps those from here on away from its containers until `setup` asks for one.
SPARE = 128


class Loan(NamedTuple):
    """A device of the host's that is called ``name`` while it is lent. ``up``: whether it was up before."""

    device: str
    name: str
    up: bool


def check(count: int) -> None:
    """:raise RunvError: a guest cannot have so many links"""
    if count > MAX_LINKS:
        raise RunvError(f"there are {count} network interfaces, and a guest has at most {MAX_LINKS}")


def queues(vcpus: int) -> int:
    """How many pairs of queues a card of a machine with ``vcpus`` has: one for each, so that each sends without waiting for another."""
    return max(1, min(vcpus, MAX_QUEUES))


def card_address(number: int) -> str:
    """The MAC address that a machine's card number ``number`` is made with. In the guest it then gets its link's: cards are told apart by
    ours because links may share theirs (IPvlan), and the cards of a template, and spare ones, were there before their links."""
    return f"0a:72:75:6e:76:{number:02x}"


def setup(found: Found, cards: dict[str, int], *, first: bool) -> dict[str, Any]:
    """The members of ``setup`` that make the guest's network; none where there is nothing to do.

    :param cards: the numbers of the cards that are new, by their links' names
    :param first: whether the guest has nothing of this namespace's network yet. If it has, it gets what goes through the new cards
    """
    if not cards:
        return {}
    routes = [route for route in found.routes if first or cards.keys() & {route.interface, *(hop.interface for hop in route.hops)}]
    return {
        "interfaces": [_interface(link, cards[link.name]) for link in found.links if link.name in cards],
        "routes": [_brief({**route._asdict(), "hops": [_brief(hop._asdict()) for hop in route.hops]}) for route in routes],
        "rules": [_brief(rule._asdict()) for rule in found.rules],
        "neighbours": [entry._asdict() for entry in found.neighbours if entry.interface in cards],
    }


def _brief(entry: dict[str, Any]) -> dict[str, Any]:
    """Without what says nothing. A priority of 0 is one."""
    return {name: value for name, value in entry.items() if value or name == "priority"}


def _interface(link: Link, number: int) -> dict[str, Any]:
    return {
        "card": card_address(number),
        "mac": link.mac,
        "name": link.name,
        "mtu": link.mtu,
        "up": link.up,
        "arp": link.arp,
        "addresses": list(link.addresses),
    }
