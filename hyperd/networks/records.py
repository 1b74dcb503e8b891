"""What networks are to be, what they are, and who is attached to them: the records that are handed around and stored.

Addresses are texts, as in ``ipaddress``; bandwidths are bits per second; 0 or empty means: not set.
"""

from typing import Literal, NamedTuple

import msgspec

from hyperd.spec import Spec

Protocol = Literal["tcp", "udp", "sctp"]


class NetworkSpec(Spec, frozen=True):
    """A network as it is asked for.

    ``subnets``: at most one of each family; none: free ones are taken. ``gateways``: the first address of each subnet unless given.
    ``excluded``: addresses, ``first-last`` ranges or subnets that are never handed out. ``bridge``: its name on the host. ``mtu`` 0: that of
    the host's default route. ``internal``: no traffic but between its pods. ``isolated`` false: pods of other such networks reach it.
    ``domain``: what its pods' names end with, besides being known without.
    """

    name: str
    subnets: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    bridge: str = ""
    mtu: int = 0
    ipv6: bool = True
    internal: bool = False
    isolated: bool = True
    masquerade: bool = True
    domain: str = ""
    labels: dict[str, str] = msgspec.field(default_factory=dict)


class Network(Spec, frozen=True):
    """A network that exists. ``gateways`` has one for each of ``subnets``. ``created`` is RFC 3339 in UTC."""

    name: str
    created: str
    subnets: tuple[str, ...]
    gateways: tuple[str, ...]
    bridge: str
    mtu: int
    domain: str
    excluded: tuple[str, ...] = ()
    internal: bool = False
    isolated: bool = True
    masquerade: bool = True
    labels: dict[str, str] = msgspec.field(default_factory=dict)


class PortMap(Spec, frozen=True, kw_only=False):
    """A port of the host that leads to one of a pod; ``count`` of them in a row.

    ``host_ip`` empty: every address of the host; ``0.0.0.0`` and ``::``: every one of a family. ``host_port`` 0: a free one is chosen.
    ``network`` empty: the pod's first that is not internal.
    """

    host_port: int
    container_port: int
    host_ip: str = ""
    protocol: Protocol = "tcp"
    network: str = ""
    count: int = 1


class Attachment(Spec, frozen=True):
    """A pod's link in a network. ``name`` is the link's in the pod, ``link`` its other end on the host.

    ``addresses`` have their prefix length. ``gateways`` are those of its default routes: empty where another link has them.
    ``dns`` are the servers to ask, ``searches`` what to append to short names.
    """

    network: str
    name: str
    link: str
    addresses: tuple[str, ...]
    mac: str
    mtu: int
    gateways: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    ingress_bandwidth: int = 0
    egress_bandwidth: int = 0

    @property
    def gateway(self) -> str:
        """The first default gateway, or empty."""
        return self.gateways[0] if self.gateways else ""


class Pod(Spec, frozen=True):
    """What a pod has of the network. ``netns`` is the path of its namespace."""

    id: str
    netns: str
    attachments: tuple[Attachment, ...] = ()
    ports: tuple[PortMap, ...] = ()

    def attachment(self, network: str) -> Attachment | None:
        return next((item for item in self.attachments if item.network == network), None)


class Settings(Spec, frozen=True):
    """How hyperd makes networks.

    ``instance`` names the table of nftables, and keeps several hyperd on one host apart. ``default``: the network that is always there;
    if its subnet is in use elsewhere it gets another one. ``pool4``: where the subnets of other networks come from, each of ``pool4_prefix``
    bits. ``prefix6``: a /48 or shorter; empty: a random one of our own (RFC 4193). ``resolvers``: whom names are asked that are no pod's;
    empty: those of /etc/resolv.conf. ``mark``: the one bit by which other firewalls recognise packets that we let through.
    ``packet_filter`` false: no rules at all; pods have no way out, networks are not isolated, and published ports are carried by hand.
    ``allow_in_docker``: put a rule for that bit into Docker's chain for rules of the administrator's, where its firewall would stop us.
    """

    instance: str = "hyperd"
    default: NetworkSpec = NetworkSpec(name="default", bridge="hyper0", subnets=("192.168.123.0/24",))
    pool4: str = "10.210.0.0/16"
    pool4_prefix: int = 24
    prefix6: str = ""
    ipv6: bool = True
    domain: str = "hyper.internal"
    resolvers: tuple[str, ...] = ()
    mark: int = 0x00100000
    packet_filter: bool = True
    allow_in_docker: bool = True


class Restored(NamedTuple):
    """What ``restore`` had to do: pods that it forgot, links (pod, name) that it made anew, which reach
    machines that run by themselves (docs/architecture.md, "The network"), and what the user should know."""

    removed: tuple[str, ...]
    remade: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]
