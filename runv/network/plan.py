"""From the records of a namespace to what the guest's agent is told (``setup`` of docs/agent-protocol.md). Pure."""

from typing import Any

from runv.errors import RunvError
from runv.network.links import Found, Link

# A machine's only bus has 32 places, some of which its other devices need.
MAX_LINKS = 16


def card_address(number: int) -> str:
    """The MAC address that a machine's card number ``number`` is made with. In the guest it then gets its link's: cards are told apart by
    ours because links may share theirs (IPvlan), and a template's cards must have been there before its clones' links."""
    return f"0a:72:75:6e:76:{number:02x}"


def check(found: Found) -> None:
    """:raise RunvError: the guest cannot have these links"""
    if len(found.links) > MAX_LINKS:
        raise RunvError(f"there are {len(found.links)} network interfaces, and a guest has at most {MAX_LINKS}")


def setup(found: Found) -> dict[str, Any]:
    """The members of ``setup`` that make the guest's network; none where there are no links."""
    if not found.links:
        return {}
    return {
        "interfaces": [_interface(number, link) for number, link in enumerate(found.links)],
        "routes": [route._asdict() for route in found.routes],
        "neighbours": [neighbour._asdict() for neighbour in found.neighbours],
    }


def _interface(number: int, link: Link) -> dict[str, Any]:
    return {
        "mac": card_address(number),
        "new_mac": link.mac,
        "name": link.name,
        "mtu": link.mtu,
        "up": link.up,
        "addresses": list(link.addresses),
    }
