"""What is found in a network namespace, as records. Pure; nothing but these is handed from the process that looks to the one that asked."""

from typing import Any, NamedTuple

# The kernel makes these in every new namespace when their drivers are there. They are nobody's network.
_FALLBACKS = frozenset(
    {
        "lo", "tunl0", "gre0", "gretap0", "erspan0", "ip_vti0", "sit0", "ip6tnl0", "ip6gre0", "ip6gretap0", "ip6erspan0", "ip6_vti0",
    }
)  # fmt: skip

TAP_PREFIX = "runv-tap"


class Link(NamedTuple):
    """One network interface. ``addresses`` have their prefix lengths."""

    ifindex: int
    name: str
    mac: str
    mtu: int
    up: bool
    addresses: tuple[str, ...] = ()


class Route(NamedTuple):
    """One unicast route of the main table, with the names of docs/agent-protocol.md."""

    destination: str
    interface: str
    gateway: str = ""
    source: str = ""
    scope: int = 0
    metric: int = 0
    onlink: bool = False


class Neighbour(NamedTuple):
    """One permanent neighbour."""

    interface: str
    address: str
    mac: str


class Found(NamedTuple):
    """All that a namespace's network is."""

    links: tuple[Link, ...] = ()
    routes: tuple[Route, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()


def to_json(found: Found) -> dict[str, Any]:
    """``found`` as JSON can carry it."""
    return {name: [entry._asdict() for entry in entries] for name, entries in found._asdict().items()}


def from_json(data: dict[str, Any]) -> Found:
    """What ``to_json`` made."""
    return Found(
        links=tuple(Link(**{**entry, "addresses": tuple(entry["addresses"])}) for entry in data["links"]),
        routes=tuple(Route(**entry) for entry in data["routes"]),
        neighbours=tuple(Neighbour(**entry) for entry in data["neighbours"]),
    )


def wanted(name: str) -> bool:
    """Whether a link of this name can be an engine's."""
    return name not in _FALLBACKS and not name.startswith(TAP_PREFIX)


def names_in(net_dev: str) -> list[str]:
    """The links that may be carried, from the text of /proc/PID/net/dev."""
    names = [line.rpartition(":")[0].strip() for line in net_dev.splitlines() if ":" in line]
    return [name for name in names if wanted(name)]
