"""What is found in a network namespace, as records. Pure; nothing but these is handed from the process that looks to the one that asked."""

from runv.quick import Any, NamedTuple


class Link(NamedTuple):
    """One network interface. ``addresses`` have their prefix lengths; ``kind`` is the kernel's word (``veth``), empty for a card."""

    ifindex: int
    name: str
    mac: str
    mtu: int
    up: bool
    addresses: tuple[str, ...] = ()
    arp: bool = True
    kind: str = ""


class Hop(NamedTuple):
    """One way out of several that a route has. ``weight``: 1 to 256."""

    interface: str
    gateway: str = ""
    onlink: bool = False
    weight: int = 1


class Route(NamedTuple):
    """One route, with the names of docs/agent-protocol.md. ``type`` is not ``unicast`` where nothing is to get through (then there is no
    interface); ``hops`` are there instead of an interface and a gateway where there are several."""

    destination: str
    interface: str = ""
    gateway: str = ""
    source: str = ""
    scope: int = 0
    metric: int = 0
    onlink: bool = False
    type: str = "unicast"
    table: int = 254
    mtu: int = 0
    advmss: int = 0
    hops: tuple[Hop, ...] = ()


class Rule(NamedTuple):
    """One rule that says which table a packet's route is looked up in. Empty texts and zeros match everything."""

    family: int
    priority: int
    type: str = "lookup"
    table: int = 0
    source: str = ""
    destination: str = ""
    input: str = ""
    output: str = ""
    mark: int = 0
    mask: int = 0
    inverted: bool = False


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
    rules: tuple[Rule, ...] = ()


def to_json(found: Found) -> dict[str, Any]:
    """``found`` as JSON can carry it."""
    data = {name: [entry._asdict() for entry in entries] for name, entries in found._asdict().items()}
    for route in data["routes"]:
        route["hops"] = [hop._asdict() for hop in route["hops"]]
    return data


def from_json(data: dict[str, Any]) -> Found:
    """What ``to_json`` made."""
    return Found(
        links=tuple(Link(**{**entry, "addresses": tuple(entry["addresses"])}) for entry in data["links"]),
        routes=tuple(Route(**{**entry, "hops": tuple(Hop(**hop) for hop in entry["hops"])}) for entry in data["routes"]),
        neighbours=tuple(Neighbour(**entry) for entry in data["neighbours"]),
        rules=tuple(Rule(**entry) for entry in data["rules"]),
    )
