"""Networks and what is attached to them: the one door to this package."""

import asyncio
import contextlib
import logging
from collections.abc import Collection, Coroutine, Iterable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from hyperd.errors import ConflictError, HyperError, InvalidError, MissingError

from . import firewall, kernel, links, netns, planning, ports, rules
from .leases import Leases
from .naming.directory import Directory
from .naming.forward import Forwarder, HostResolvers, usable
from .naming.server import Server
from .records import Attachment, Network, NetworkSpec, Pod, PortMap, Restored, Settings
from .store import Store, check_pod

_NAME_MAX = 15
_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Networks:
    """The networks of one hyperd, in the network namespace that it runs in.

    What changes something is written down first, undone if it fails, and finished once it was begun, even if its caller is cancelled. After a
    SIGKILL anywhere ``restore`` makes true what is written down. Networks, links and rules stay when the process ends; only the DNS servers
    and the carrying of connections to ``::1`` need it.
    """

    def __init__(self, root: Path, *, run: Path = Path("/run/hyperd/netns"), settings: Settings | None = None) -> None:
        """:param root: a folder for the records. :param run: where namespaces are mounted; lost at a reboot"""
        self.settings = settings or Settings()
        self._store = Store(root)
        self._run = run
        self._names = links.Names(self.settings.instance)
        self._networks = {net.name: net for net in self._store.networks()}
        self._pods = {pod.id: pod for pod in self._store.pods()}
        self._leases = Leases(self._pods.values())
        self._directory = Directory(self._networks.values(), self._pods.values())
        self._resolvers = HostResolvers(self.settings.resolvers)
        self._forwarder = Forwarder(self._resolvers)
        self._servers: dict[str, Server] = {}
        self._held: dict[tuple[str, PortMap], ports.Held] = {}
        self._lock = asyncio.Lock()
        self._warnings: tuple[str, ...] = ()

    # Looks

    def list(self) -> "list[Network]":
        return sorted(self._networks.values(), key=lambda net: net.name)

    def find(self, name: str) -> Network:
        """:raise MissingError: there is none of this name"""
        try:
            return self._networks[name]
        except KeyError:
            raise MissingError(f"no such network: {name}") from None

    def attachments(self, pod: str) -> tuple[Attachment, ...]:
        return self._pods[pod].attachments if pod in self._pods else ()

    def ports(self, pod: str) -> tuple[PortMap, ...]:
        return self._pods[pod].ports if pod in self._pods else ()

    def pods_of(self, network: str) -> tuple[str, ...]:
        return tuple(pod.id for pod in self._pods.values() if pod.attachment(network) is not None)

    async def check(self) -> tuple[str, ...]:
        """What stands in the way on this host, as sentences."""
        return await self._exclusive(self._check())

    async def _check(self) -> tuple[str, ...]:
        found = await self._settle_firewall()
        return (
            *found,
            *(f"network {net.name} has no DNS server" for net in self.list() if net.name not in self._servers),
        )

    # Networks

    async def create(self, spec: NetworkSpec) -> Network:
        """Makes a network. :raise ConflictError: its name, bridge or a subnet is in use. :raise InvalidError: it cannot be"""
        return await self._exclusive(self._create(spec, movable=False))

    async def _create(self, spec: NetworkSpec, *, movable: bool) -> Network:
        if spec.name in self._networks:
            raise ConflictError(f"network {spec.name}: there is one of this name")
        network = await asyncio.to_thread(self._plan, spec, movable)
        if any(network.bridge == net.bridge for net in self._networks.values()):
            raise ConflictError(f"bridge {network.bridge}: another network has it")
        self._store.save_network(network)
        self._networks[network.name] = network
        try:
            await asyncio.to_thread(links.ensure_bridge, network, self.settings.instance)
            await self._settle_network(network)
        except BaseException:
            await self._forget(network)
            raise
        return network

    def _plan(self, spec: NetworkSpec, movable: bool) -> Network:
        ipv6 = self.settings.ipv6 and kernel.has_ipv6()
        prefix6 = self._store.prefix6(self.settings.prefix6 or planning.random_prefix6()) if ipv6 else ""
        bridges = {net.bridge for net in self._networks.values()}
        own = {spec.bridge} if movable else set()  # what is left of an earlier installation is taken over
        host = planning.in_use(links.used_subnets(bridges | own), self._networks.values())
        name = self._names.bridge(spec.name)
        return planning.settle(
            spec, self.settings, host, bridge=name, mtu=links.default_mtu(), prefix6=prefix6, movable=movable
        )

    async def _settle_network(self, network: Network) -> None:
        """Everything of a network but its bridge."""
        ipv6 = any(":" in text for text in network.subnets)
        kernel.settle_bridge(network.bridge, ipv6=ipv6, local=not network.internal)
        if not network.internal:
            kernel.forward(ipv6=ipv6)
        await self._apply_rules()
        await self._settle_firewall()
        self._resolvers.own = frozenset(text for net in self._networks.values() for text in net.gateways)
        await self._serve(network)

    async def _serve(self, network: Network) -> None:
        """A network can do without a DNS server of its own: another program may have the port."""
        self._reindex()
        if network.name in self._servers:
            return
        try:
            server = await Server.start(network.name, network.gateways, lambda: self._directory, self._forwarder)
        except HyperError as error:
            _log.warning("%s", error)
            return
        self._servers[network.name] = server

    async def remove(self, name: str) -> None:
        """:raise ConflictError: pods are attached to it, or it is the default one"""
        await self._exclusive(self._remove(name))

    async def _remove(self, name: str) -> None:
        network = self.find(name)
        if name == self.settings.default.name:
            raise ConflictError(f"network {name}: it is the default one")
        if users := self.pods_of(name):
            raise ConflictError(
                f"network {name}: {len(users)} pods are attached to it, {users[0]} among them",
                hint="disconnect or remove them",
            )
        await self._forget(network)

    async def _forget(self, network: Network) -> None:
        if (server := self._servers.pop(network.name, None)) is not None:
            server.close()
        del self._networks[network.name]
        self._store.drop_network(network.name)
        self._reindex()
        await asyncio.to_thread(links.remove_bridge, network.bridge, network.name, self.settings.instance)
        await self._apply_rules()

    # Namespaces

    async def make_netns(self, pod: str) -> str:
        """The path of the pod's network namespace, made if there is none."""
        return await self._exclusive(self._make_netns(check_pod(pod)))

    async def _make_netns(self, pod: str) -> str:
        path = self._run / pod
        if pod not in self._pods:
            self._save(Pod(id=pod, netns=str(path)))
        await asyncio.to_thread(netns.make, path)
        return str(path)

    async def remove_netns(self, pod: str) -> None:
        """Detaches the pod and removes its namespace. Nothing there is fine."""
        await self._exclusive(self._drop(check_pod(pod)))

    async def _drop(self, pod: str) -> None:
        if pod in self._pods:
            await self._detach(pod, "")
            self._pods.pop(pod)
            self._store.drop_pod(pod)
        await asyncio.to_thread(netns.remove, self._run / pod)

    # Attachments

    async def attach(
        self,
        pod: str,
        path: str,
        network: str = "default",
        *,
        name: str = "",
        addresses: Iterable[str] = (),
        mac: str = "",
        mtu: int = 0,
        ingress_bandwidth: int = 0,
        egress_bandwidth: int = 0,
        names: Iterable[str] = (),
    ) -> Attachment:
        """Connects the namespace at ``path`` to a network. What the pod has there already is made whole and returned.

        :param name: the link's in the pod; empty: the first free of eth0, eth1, ...
        :param addresses: those that it must have, at most one of each family, without prefix length; others are allocated
        :param mtu: 0: the network's
        :param ingress_bandwidth: to the pod, bits per second; 0: unlimited
        :param names: the pod's in DNS; the first is what its addresses are called
        :raise ConflictError: an address, MAC or name is in use
        :raise InvalidError: one of them cannot be
        :raise MissingError: there is no such network or namespace
        :raise UnavailableError: the network is full
        """
        wanted = Attachment(
            network=network, name=name, link=self._names.pair(check_pod(pod), network), addresses=tuple(addresses), mac=mac, mtu=mtu,
            names=planning.check_names(names), ingress_bandwidth=ingress_bandwidth, egress_bandwidth=egress_bandwidth,
        )  # fmt: skip
        return await self._exclusive(self._attach(pod, path, wanted))

    async def _attach(self, pod: str, path: str, wanted: Attachment) -> Attachment:
        network = self.find(wanted.network)
        await asyncio.to_thread(_check_namespace, path)
        record = self._pods.get(pod) or Pod(id=pod, netns=path)
        item = record.attachment(wanted.network)
        if item is not None:
            _check_same(pod, item, wanted)
            await asyncio.to_thread(links.ensure_pair, pod, path, network, item)
            return item
        item = self._settle(record, network, wanted)
        self._save(msgspec.structs.replace(record, netns=path, attachments=(*record.attachments, item)))
        try:
            await asyncio.to_thread(links.ensure_pair, pod, path, network, item)
        except BaseException:
            self._save(record)
            await asyncio.to_thread(links.remove, (item.link, links.shaper(item.link)))
            raise
        return item

    def _settle(self, record: Pod, network: Network, wanted: Attachment) -> Attachment:
        """What was left open, filled in. Changes nothing."""
        if min(wanted.ingress_bandwidth, wanted.egress_bandwidth) < 0:
            raise InvalidError("bandwidth: less than nothing")
        found = self._leases.addresses(network, wanted.addresses)
        lengths = [text.split("/")[1] for text in network.subnets]
        has_default = any(item.gateways for item in record.attachments)
        return msgspec.structs.replace(
            wanted,
            name=_link_name(record, wanted.name),
            addresses=tuple(f"{item}/{length}" for item, length in zip(found, lengths, strict=True)),
            mac=self._leases.mac(network, wanted.mac, found),
            mtu=planning.check_mtu(wanted.mtu, network),
            gateways=() if network.internal or has_default else network.gateways,
            dns=network.gateways if network.name in self._servers else usable(self._resolvers()),
            searches=(network.domain,),
        )

    async def detach(self, pod: str, network: str = "") -> None:
        """Takes the pod out of a network, or of all; its published ports there go too. Nothing there is fine."""
        await self._exclusive(self._detach(pod, network))

    async def _detach(self, pod: str, network: str) -> None:
        record = self._pods.get(pod)
        if record is None:
            return
        gone = [item for item in record.attachments if network in ("", item.network)]
        lost = tuple(port for port in record.ports if network in ("", port.network))
        kept = tuple(item for item in record.attachments if item not in gone)
        self._save(
            msgspec.structs.replace(
                record, attachments=kept, ports=tuple(port for port in record.ports if port not in lost)
            )
        )
        self._release(pod, lost)
        if lost:
            await self._apply_rules()
        if gone:
            await asyncio.to_thread(
                links.remove, [name for item in gone for name in (item.link, links.shaper(item.link))]
            )

    # Published ports

    async def publish(self, pod: str, maps: Iterable[PortMap]) -> tuple[PortMap, ...]:
        """Has ports of the host lead to the pod: all of them or, if one cannot, none.

        :raise ConflictError: a port is published already, or another program has it
        :raise InvalidError: the pod has no network for it
        :raise MissingError: the pod is not attached
        """
        return await self._exclusive(self._publish(pod, tuple(maps)))

    async def _publish(self, pod: str, maps: tuple[PortMap, ...]) -> tuple[PortMap, ...]:
        record = self._pods.get(pod)
        if record is None:
            raise MissingError(f"pod {pod} is in no network")
        wanted = [_with_network(self._networks, record, ports.check(port)) for port in maps]
        for index, port in enumerate(wanted):
            self._check_free(pod, port, wanted[:index])
        held: list[ports.Held] = []
        try:
            for port in wanted:
                held.append(await ports.Held.hold(port, _where(record, port)))
            found = tuple(item.port for item in held)
            self._save(msgspec.structs.replace(record, ports=(*record.ports, *found)))
            await self._apply_rules()
        except BaseException:
            ports.close_all(held)
            self._save(record)
            with contextlib.suppress(HyperError):  # the table is as it was, or restore will find it so
                await self._apply_rules()
            raise
        self._held.update({(pod, item.port): item for item in held})
        return found

    def _check_free(self, pod: str, port: PortMap, before: Collection[PortMap]) -> None:
        taken = [(other.id, each) for other in self._pods.values() for each in other.ports]
        taken += [(pod, each) for each in before if each.host_port]
        for owner, other in taken:
            if port.host_port and ports.clash(port, other):
                raise ConflictError(f"{ports.describe(port, port.host_port)}: published by pod {owner} already")

    async def unpublish(self, pod: str, maps: Iterable[PortMap] | None = None) -> None:
        """Takes back published ports, or all of the pod's. :raise MissingError: one is not published"""
        await self._exclusive(self._unpublish(pod, None if maps is None else tuple(maps)))

    async def _unpublish(self, pod: str, maps: tuple[PortMap, ...] | None) -> None:
        record = self._pods.get(pod)
        if record is None:
            raise MissingError(f"pod {pod} is in no network")
        gone = record.ports if maps is None else tuple(_published(record, port) for port in maps)
        self._save(msgspec.structs.replace(record, ports=tuple(port for port in record.ports if port not in gone)))
        self._release(pod, gone)
        await self._apply_rules()

    def _release(self, pod: str, gone: Iterable[PortMap]) -> None:
        for port in gone:
            if (held := self._held.pop((pod, port), None)) is not None:
                held.close()

    # From one process to the next

    async def restore(self, owned: Collection[str] | None = None) -> Restored:
        """Makes true what is written down, removes what nobody owns, and starts to serve. May be repeated.

        :param owned: the pods that there are; others are forgotten. None: all that have a namespace
        """
        return await self._exclusive(self._restore(owned))

    async def _restore(self, owned: Collection[str] | None) -> Restored:
        self._warnings = ()
        removed = await self._forget_pods(owned)
        for network in self.list():
            await asyncio.to_thread(links.ensure_bridge, network, self.settings.instance)
        if self.settings.default.name not in self._networks:
            await self._create(self.settings.default, movable=True)
        for network in self.list():
            await self._settle_network(network)
        remade = await self._restore_links()
        warnings = await self._restore_ports()
        await self._apply_rules()
        return Restored(removed, remade, (*warnings, *await self._check()))

    async def _forget_pods(self, owned: Collection[str] | None) -> tuple[str, ...]:
        """A pod whose namespace is gone, as after a reboot, has nothing that could be restored."""
        gone = [pod for pod in self._pods.values() if owned is not None and pod.id not in owned]
        gone += [
            pod
            for pod in self._pods.values()
            if pod not in gone and not await asyncio.to_thread(netns.alive, pod.netns)
        ]
        for pod in gone:
            await self._drop(pod.id)
        if self._run.exists():
            for path in self._run.iterdir():
                if path.name not in self._pods:
                    await asyncio.to_thread(netns.remove, path)
        return tuple(pod.id for pod in gone)

    async def _restore_links(self) -> tuple[tuple[str, str], ...]:
        wanted = {
            name
            for pod in self._pods.values()
            for item in pod.attachments
            for name in (item.link, links.shaper(item.link))
        }
        await asyncio.to_thread(lambda: links.remove(links.existing(self._names) - wanted))
        return tuple(
            [
                (pod.id, item.name)
                for pod in self._pods.values()
                for item in pod.attachments
                if await asyncio.to_thread(links.ensure_pair, pod.id, pod.netns, self.find(item.network), item)
            ]
        )

    async def _restore_ports(self) -> tuple[str, ...]:
        """The kernel sends packets on even where another program took the port meanwhile: that is worth a warning, no more."""
        warnings = []
        for pod in self._pods.values():
            for port in pod.ports:
                if (pod.id, port) not in self._held:
                    try:
                        self._held[pod.id, port] = await ports.Held.hold(port, _where(pod, port))
                    except HyperError as error:
                        warnings.append(f"pod {pod.id}: {error}")
        return tuple(warnings)

    async def close(self) -> None:
        """Ends what needs this process. Pods keep their network."""
        async with self._lock:
            for server in self._servers.values():
                server.close()
            ports.close_all(self._held.values())
            self._servers.clear()
            self._held.clear()

    async def clear(self) -> None:
        """Takes everything off the host, of networks as well; their records stay, so that ``restore`` brings them back."""
        await self._exclusive(self._clear())

    async def _clear(self) -> None:
        for pod in list(self._pods):
            await self._drop(pod)
        for server in self._servers.values():
            server.close()
        self._servers.clear()
        for network in self.list():
            await asyncio.to_thread(links.remove_bridge, network.bridge, network.name, self.settings.instance)
        await asyncio.to_thread(rules.remove, self.settings.instance)
        await asyncio.to_thread(firewall.forget, self.settings.mark)

    # Shared

    async def _exclusive(self, work: Coroutine[Any, Any, _T]) -> _T:
        """One change at a time, each to its end."""

        async def locked() -> _T:
            async with self._lock:
                return await work

        return await asyncio.shield(asyncio.get_running_loop().create_task(locked()))

    def _save(self, pod: Pod) -> None:
        """The record and everything that follows from it in memory."""
        if pod.attachments or pod.ports or pod.id in self._pods or pod.netns == str(self._run / pod.id):
            self._store.save_pod(pod)
        old = self._pods.get(pod.id)
        if old is not None:
            self._leases.drop(old)
        self._leases.add(pod)
        self._pods[pod.id] = pod
        self._reindex()

    def _reindex(self) -> None:
        self._directory = Directory(self._networks.values(), self._pods.values())

    async def _apply_rules(self) -> None:
        pods = sorted(self._pods.values(), key=lambda pod: pod.id)
        text = rules.render(self.settings.instance, self.list(), pods, self.settings.mark)
        await asyncio.to_thread(rules.apply, text)

    async def _settle_firewall(self) -> tuple[str, ...]:
        found = await asyncio.to_thread(
            firewall.settle, self.settings.mark, allow_in_docker=self.settings.allow_in_docker
        )
        for text in set(found) - set(self._warnings):
            _log.warning("%s", text)
        self._warnings = found
        return found


def _check_namespace(path: str) -> None:
    if not netns.alive(path):
        raise MissingError(f"no network namespace at {path}")
    if netns.is_ours(path):
        raise InvalidError(f"{path}: it is the host's network namespace")


def _check_same(pod: str, item: Attachment, wanted: Attachment) -> None:
    """:raise ConflictError: what the pod has in the network is not what is asked for"""
    has = {text.split("/")[0] for text in item.addresses}
    if (
        wanted.name not in ("", item.name)
        or not {text.split("/")[0] for text in wanted.addresses} <= has
        or wanted.mac.lower() not in ("", item.mac)
    ):
        raise ConflictError(
            f"pod {pod} is in network {item.network} already, as {item.name} with {', '.join(item.addresses)}"
        )


def _link_name(record: Pod, wanted: str) -> str:
    used = {item.name for item in record.attachments}
    if not wanted:
        return next(name for name in (f"eth{number}" for number in range(len(used) + 1)) if name not in used)
    if (
        len(wanted.encode()) > _NAME_MAX
        or "/" in wanted
        or wanted in (".", "..", "lo", "all", "default")
        or any(c.isspace() or c == ":" for c in wanted)
    ):
        raise InvalidError(f"interface name {wanted!r}: not a link's")
    if wanted in used:
        raise ConflictError(f"interface {wanted}: pod {record.id} has it already")
    return wanted


def _with_network(networks: dict[str, Network], record: Pod, port: PortMap) -> PortMap:
    """The port with the network that it is reached in. :raise InvalidError: there is none that could be"""
    name = port.network or next(
        (item.network for item in record.attachments if not networks[item.network].internal), ""
    )
    if not name:
        raise InvalidError(f"pod {record.id} has no network that ports could be published from")
    if record.attachment(name) is None:
        raise InvalidError(f"pod {record.id} is not in network {name}")
    if networks[name].internal:
        raise InvalidError(f"network {name} is internal: no ports are published from it")
    found = msgspec.structs.replace(port, network=name)
    if not rules.targets(record, found):
        raise InvalidError(f"pod {record.id} has no address of the family of {port.host_ip}")
    return found


def _where(record: Pod, port: PortMap) -> ports.Where:
    item = record.attachment(port.network)
    return tuple(text.split("/")[0] for text in item.addresses) if item is not None else ()


def _published(record: Pod, wanted: PortMap) -> PortMap:
    for port in record.ports:
        same = (port.host_port, port.protocol, port.host_ip) == (wanted.host_port, wanted.protocol, wanted.host_ip)
        if same and wanted.container_port in (0, port.container_port):
            return port
    raise MissingError(f"{ports.describe(wanted, wanted.host_port)}: pod {record.id} does not publish it")
