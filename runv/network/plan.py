"""From the records of a namespace to what the guest's agent is told (``setup`` of docs/agent-protocol.md). Pure."""

from typing import Any

from runv.errors import RunvError
from runv.network.links import Found, Link

# A machine's only bus has 32 places, some of which its other devices need.
MAX_LINKS = 16


def check(found: Found) -> None:
    """:raise RunvError: the guest cannot have these links"""
    if len(found.links) > MAX_LINKS:
        raise RunvError(f"there are {len(found.links)} network interfaces, and a guest has at most {MAX_LINKS}")
    names: dict[str, str] = {}
    for link in found.links:
        # The guest knows its cards by these. IPvlan's links have their parent's.
        if link.mac in names:
            raise RunvError(f"interfaces {names[link.mac]} and {link.name} have the same address, {link.mac}")
        names[link.mac] = link.name


def setup(found: Found) -> dict[str, Any]:
    """The members of ``setup`` that make the guest's network; none where there are no links."""
    if not found.links:
        return {}
    return {
        "interfaces": [_interface(link) for link in found.links],
        "routes": [route._asdict() for route in found.routes],
        "neighbours": [neighbour._asdict() for neighbour in found.neighbours],
    }


def _interface(link: Link) -> dict[str, Any]:
    return {
        "mac": link.mac,
        "name": link.name,
        "mtu": link.mtu,
        "up": link.up,
        "addresses": list(link.addresses),
    }
