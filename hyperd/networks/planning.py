"""From a network as it is asked for to one that can exist on this host. Pure, but for the arguments that say what the host has."""

import datetime
import re
import secrets
from collections.abc import Collection, Iterable

from hyperd.errors import ConflictError, InvalidError

from . import addresses
from .links import Used
from .records import Network, NetworkSpec, Settings
from .store import check_name

_BRIDGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}")
_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_DOMAIN = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_MTU = (68, 65535)
_MTU_IPV6 = 1280
_PREFIX6 = 64


def in_use(used: Iterable[Used], networks: Iterable[Network]) -> list[Used]:
    """What of the address space is taken: by routes and links of the host, and by our other networks."""
    ours = (Used(addresses.subnet(text), f"subnet of network {net.name}") for net in networks for text in net.subnets)
    return [*used, *ours]


def settle(
    spec: NetworkSpec,
    settings: Settings,
    host: Collection[Used],
    *,
    bridge: str,
    mtu: int,
    prefix6: str,
    movable: bool = False,
) -> Network:
    """Everything that the spec leaves open, filled in.

    :param bridge: its name unless the spec has one
    :param mtu: that of the host's way out
    :param prefix6: the /48 of which subnets of IPv6 are made; empty: none are
    :param movable: a subnet that is in use may be replaced by a free one
    :raise InvalidError: the spec contradicts itself
    :raise ConflictError: a subnet is in use
    """
    subnets = _subnets(spec, settings, host, prefix6=prefix6, movable=movable)
    if len(spec.gateways) > len(subnets):
        raise InvalidError(f"network {spec.name}: more gateways than subnets")
    return Network(
        name=check_name(spec.name),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        subnets=tuple(map(str, subnets)),
        gateways=_gateways(spec, subnets),
        bridge=_bridge(spec.bridge or bridge),
        mtu=_mtu(spec.mtu or mtu, {net.version for net in subnets}),
        domain=_domain(spec.domain or settings.domain),
        excluded=_excluded(spec, subnets),
        internal=spec.internal,
        isolated=spec.isolated,
        masquerade=spec.masquerade,
        labels=dict(spec.labels),
    )


def _subnets(
    spec: NetworkSpec, settings: Settings, host: Collection[Used], *, prefix6: str, movable: bool
) -> list[addresses.Subnet]:
    found = [addresses.subnet(text) for text in spec.subnets]
    if len({net.version for net in found}) != len(found):
        raise InvalidError(f"network {spec.name}: more than one subnet of a family")
    for net in list(found):
        clash = next((used for used in host if addresses.overlap(net, used.subnet)), None)
        if clash is None:
            continue
        if not movable:
            raise ConflictError(f"subnet {net}: overlaps with the {clash.what}", hint="name another subnet, or none")
        found.remove(net)
    used = [item.subnet for item in host]
    if not any(net.version == 4 for net in found) and (movable or not spec.subnets):
        found.insert(0, addresses.free_subnet(addresses.subnet(settings.pool4), settings.pool4_prefix, used))
    if prefix6 and spec.ipv6 and not any(net.version == 6 for net in found):
        found.append(addresses.free_subnet(addresses.subnet(prefix6), _PREFIX6, used))
    return sorted(found, key=lambda net: net.version)


def _gateways(spec: NetworkSpec, subnets: Iterable[addresses.Subnet]) -> tuple[str, ...]:
    """A gateway belongs to the subnet that it lies in. The one of a subnet that was replaced is dropped with it."""
    asked = [addresses.address(text) for text in spec.gateways]
    nets = list(subnets)
    for item in asked:
        if not any(item in net for net in nets) and spec.subnets:
            raise InvalidError(f"gateway {item}: not in a subnet of network {spec.name}")
    return tuple(str(addresses.gateway_of(net, next((str(item) for item in asked if item in net), ""))) for net in nets)


def _excluded(spec: NetworkSpec, subnets: Iterable[addresses.Subnet]) -> tuple[str, ...]:
    nets = list(subnets)
    for text in spec.excluded:
        version, (first, last) = addresses.span(text)
        if not any(
            net.version == version and int(net.network_address) <= first and last <= int(net.broadcast_address)
            for net in nets
        ):
            raise InvalidError(f"range {text}: not in a subnet of network {spec.name}")
    return spec.excluded


def _bridge(name: str) -> str:
    if not _BRIDGE.fullmatch(name) or name in ("all", "default"):
        raise InvalidError(f"bridge name {name!r}: at most 15 letters, digits, '-', '_' and '.'")
    return name


def _mtu(mtu: int, versions: Collection[int]) -> int:
    low = _MTU_IPV6 if 6 in versions else _MTU[0]
    if not low <= mtu <= _MTU[1]:
        raise InvalidError(f"MTU {mtu}: not between {low} and {_MTU[1]}")
    return mtu


def _domain(text: str) -> str:
    lower = text.rstrip(".").lower()
    if len(lower) > 200 or not _DOMAIN.fullmatch(lower):
        raise InvalidError(f"domain {text!r}: not a name of DNS")
    return lower


def check_names(names: Iterable[str]) -> tuple[str, ...]:
    """Names for DNS, in lower case, each once. :raise InvalidError: one is none"""
    found = dict.fromkeys(name.rstrip(".").lower() for name in names)
    for name in found:
        if len(name) > 200 or not _DOMAIN.fullmatch(name):
            raise InvalidError(f"name {name!r}: not a name of DNS")
    return tuple(found)


def check_mtu(mtu: int, network: Network) -> int:
    """A pod's own MTU: not more than the network's. 0: the network's."""
    if mtu > network.mtu:
        raise InvalidError(f"MTU {mtu}: more than the {network.mtu} of network {network.name}")
    return _mtu(mtu or network.mtu, {addresses.subnet(text).version for text in network.subnets})


def random_prefix6() -> str:
    """A /48 of unique local addresses with 40 random bits (RFC 4193)."""
    raw = b"\xfd" + secrets.token_bytes(5)
    return f"{raw[0:2].hex()}:{raw[2:4].hex()}:{raw[4:6].hex()}::/48"
