"""Subnets and addresses: which are valid, which are free. Pure."""

import ipaddress
import re
from collections.abc import Collection, Iterable, Iterator

from hyperd.errors import ConflictError, InvalidError, UnavailableError

Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Span = tuple[int, int]

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_LONGEST = {4: 30, 6: 126}
# An address is looked for one by one; beyond that many the subnet is called full.
_TRIES = 1 << 20


def subnet(text: str) -> Subnet:
    """A subnet that pods can live in. :raise InvalidError: it is none, or is too small"""
    try:
        parsed = ipaddress.ip_network(text)
    except ValueError as error:
        raise InvalidError(f"subnet {text}: {error}") from None
    if parsed.prefixlen > _LONGEST[parsed.version]:
        raise InvalidError(f"subnet {text}: smaller than a /{_LONGEST[parsed.version]}")
    if (
        parsed.is_multicast
        or parsed.is_loopback
        or parsed.prefixlen == 0
        or (parsed.version == 6 and parsed.is_link_local)
    ):
        raise InvalidError(f"subnet {text}: not one that hosts can live in")
    return parsed


def address(text: str) -> Address:
    """One address without a prefix length. :raise InvalidError: it is none"""
    try:
        return ipaddress.ip_address(text)
    except ValueError as error:
        raise InvalidError(f"address {text}: {error}") from None


def mac(text: str) -> str:
    """A link address in lower case. :raise InvalidError: it is none, or one that a card cannot have"""
    lower = text.lower().replace("-", ":")
    if not _MAC.fullmatch(lower):
        raise InvalidError(f"MAC address {text}: not six bytes in hexadecimal")
    if int(lower[:2], 16) & 1 or lower == "00:00:00:00:00:00":
        raise InvalidError(f"MAC address {text}: a group's, not a card's")
    return lower


def gateway_of(net: Subnet, text: str = "") -> Address:
    """The gateway: ``text``, or the first address. :raise InvalidError: it is not one of the subnet's hosts"""
    found = address(text) if text else net.network_address + 1
    if found not in net or int(found) in reserved(net):
        raise InvalidError(f"gateway {text}: not an address of a host in {net}")
    return found


def reserved(net: Subnet) -> tuple[int, ...]:
    """Addresses that no host can have."""
    first = int(net.network_address)
    return (first, int(net.broadcast_address)) if net.version == 4 else (first,)


def span(text: str) -> tuple[int, Span]:
    """The family and the first and last address of ``a``, ``a-b`` or ``a/n``. :raise InvalidError: it is none of them"""
    try:
        if "-" in text:
            low, high = (ipaddress.ip_address(part.strip()) for part in text.split("-", 1))
            if low.version != high.version or int(low) > int(high):
                raise ValueError("its end lies before its start")
            return low.version, (int(low), int(high))
        net = ipaddress.ip_network(text)
    except ValueError as error:
        raise InvalidError(f"range {text}: {error}") from None
    return net.version, (int(net.network_address), int(net.broadcast_address))


def excluded_spans(net: Subnet, excluded: Iterable[str]) -> list[Span]:
    return [found for version, found in map(span, excluded) if version == net.version]


def allocate(
    net: Subnet, gateway: Address, excluded: Iterable[str], taken: Collection[int], *, preferred: int = 0
) -> Address:
    """The lowest free address, or ``preferred`` if that is free.

    :param taken: numbers of addresses that somebody has
    :raise UnavailableError: there is none
    """
    spans = excluded_spans(net, excluded)
    barred = {*reserved(net), int(gateway)}
    for number in _candidates(net, spans, preferred):
        if number not in barred and number not in taken:
            return type(gateway)(number)
    raise UnavailableError(
        f"network {net}: no address is free", hint="remove pods from it, or make a network with a larger subnet"
    )


def _candidates(net: Subnet, spans: list[Span], preferred: int) -> Iterator[int]:
    low, high = int(net.network_address), int(net.broadcast_address)
    if low <= preferred <= high and not any(first <= preferred <= last for first, last in spans):
        yield preferred
    number, tries = low, 0
    while number <= high and tries < _TRIES:
        inside = [last for first, last in spans if first <= number <= last]
        if inside:
            number = max(inside) + 1
            continue
        yield number
        number, tries = number + 1, tries + 1


def claim(net: Subnet, gateway: Address, wanted: Address, taken: Collection[int]) -> Address:
    """An address that was asked for; an excluded one may be. :raise ConflictError: somebody has it"""
    if wanted not in net or int(wanted) in reserved(net):
        raise InvalidError(f"address {wanted}: not one of a host in {net}")
    if wanted == gateway:
        raise ConflictError(f"address {wanted}: it is the gateway's")
    if int(wanted) in taken:
        raise ConflictError(f"address {wanted}: in use by another pod")
    return wanted


def derived_mac(addresses: Iterable[Address], taken: Collection[str]) -> str:
    """A locally administered MAC address that follows from the first address, so that a neighbour's memory of it never gets stale."""
    tail = int(next(iter(addresses))) & 0xFFFFFFFF
    for lead in range(0x68, 0x168):
        raw = bytes([0x02, lead & 0xFF]) + tail.to_bytes(4, "big")
        found = raw.hex(":")
        if found not in taken:
            return found
    raise UnavailableError("no MAC address is free")


def free_subnet(pool: Subnet, prefix: int, used: Collection[Subnet]) -> Subnet:
    """The first subnet of ``pool`` with ``prefix`` bits that overlaps with none of ``used``. :raise UnavailableError: there is none"""
    blocked = [other for other in used if other.version == pool.version]
    step = 1 << (pool.max_prefixlen - prefix)
    number, end = int(pool.network_address), int(pool.broadcast_address)
    while number <= end:
        candidate: Subnet = type(pool)((number, prefix))
        hit = next((other for other in blocked if overlap(candidate, other)), None)
        if hit is None:
            return candidate
        after = int(hit.broadcast_address) + 1
        number = max(number + step, -(-after // step) * step)
    raise UnavailableError(f"no subnet is free in {pool}", hint="name one, or remove networks that nobody uses")


def overlap(one: Subnet, other: Subnet) -> bool:
    """Also of different families, which never do."""
    return one.version == other.version and one.overlaps(other)
