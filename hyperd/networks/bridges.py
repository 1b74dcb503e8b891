"""Networks on the host: made, kept, removed, each with its DNS server."""

import asyncio
import logging

from hyperd.errors import ConflictError, HyperError

from . import addresses, kernel, links, planning
from .filtering import Filtering
from .naming.forward import Forwarder, HostResolvers, usable
from .naming.server import Server
from .records import Network, NetworkSpec, Settings
from .state import State

_log = logging.getLogger(__name__)


class Bridges:
    def __init__(self, state: State, filtering: Filtering, settings: Settings) -> None:
        self._state, self._filtering, self._settings = state, filtering, settings
        self._resolvers = HostResolvers(settings.resolvers)
        self._forwarder = Forwarder(self._resolvers)
        self._servers: dict[str, Server] = {}

    async def create(self, spec: NetworkSpec, *, movable: bool = False) -> Network:
        """:param movable: a subnet that is in use may be replaced by a free one"""
        if spec.name in self._state.networks:
            raise ConflictError(f"network {spec.name}: there is one of this name")
        network = await asyncio.to_thread(self._plan, spec, movable)
        if any(network.bridge == net.bridge for net in self._state.networks.values()):
            raise ConflictError(f"bridge {network.bridge}: another network has it")
        self._state.save_network(network)
        try:
            await self.ensure(network)
        except BaseException:
            await self.remove(network)
            raise
        return network

    def _plan(self, spec: NetworkSpec, movable: bool) -> Network:
        settings = self._settings
        ipv6 = settings.ipv6 and kernel.has_ipv6()
        prefix6 = self._state.prefix6(settings.prefix6 or planning.random_prefix6()) if ipv6 else ""
        bridges = {net.bridge for net in self._state.networks.values()}
        own = {spec.bridge} if movable else set()  # what is left of an earlier installation is taken over
        host = planning.in_use(links.used_subnets(bridges | own), self._state.networks.values())
        name = links.Names(settings.instance).bridge(spec.name)
        mtu = links.default_mtu()
        return planning.settle(spec, settings, host, bridge=name, mtu=mtu, prefix6=prefix6, movable=movable)

    async def ensure(self, network: Network) -> None:
        """Makes of it what is missing, and serves it."""
        await asyncio.to_thread(links.ensure_bridge, network, self._settings.instance)
        ipv6 = any(":" in text for text in network.subnets)
        kernel.settle_bridge(network.bridge, ipv6=ipv6, local=not network.internal)
        if not network.internal:
            kernel.forward(ipv6=ipv6)
        await self._filtering.apply()
        await self._filtering.look()
        await self._serve(network)

    async def ensure_all(self) -> list[str]:
        """All of them, and the default one, which is made if there is none. Says what went wrong: one network must not stop the others."""
        failures = []
        for network in list(self._state.networks.values()):
            try:
                await self.ensure(network)
            except HyperError as error:
                failures.append(f"network {network.name}: {error}")
        if self._settings.default.name not in self._state.networks:
            try:
                await self.create(self._settings.default, movable=True)
            except HyperError as error:
                failures.append(f"network {self._settings.default.name}: {error}")
        return failures

    async def _serve(self, network: Network) -> None:
        """A network can do without a DNS server of its own: another program may have the port."""
        self._resolvers.own = frozenset(text for net in self._state.networks.values() for text in net.gateways)
        if network.name in self._servers:
            return
        try:
            look = lambda: self._state.directory  # noqa: E731 - not the directory of now
            self._servers[network.name] = await Server.start(network.name, network.gateways, look, self._forwarder)
        except HyperError as error:
            _log.warning("%s", error)

    def dns(self, network: Network) -> tuple[str, ...]:
        """The servers that its pods ask: ours, or those of the host that they can reach."""
        return network.gateways if network.name in self._servers else usable(self._resolvers())

    async def conflicts(self) -> list[str]:
        """Routes and addresses that came to the host later, and are in a network's way."""
        networks = list(self._state.networks.values())
        used = await asyncio.to_thread(links.used_subnets, {net.bridge for net in networks})
        return [
            f"network {net.name}: its subnet {text} overlaps with the {item.what}"
            for net in networks
            for text in net.subnets
            for item in used
            if addresses.overlap(addresses.subnet(text), item.subnet)
        ]

    def unserved(self) -> tuple[str, ...]:
        return tuple(name for name in sorted(self._state.networks) if name not in self._servers)

    async def remove(self, network: Network) -> None:
        self._close(network.name)
        self._state.drop_network(network.name)
        await self.take_down(network)
        await self._filtering.apply()

    async def take_down(self, network: Network) -> None:
        """The bridge alone; the record stays."""
        self._close(network.name)
        await asyncio.to_thread(links.remove_bridge, network.bridge, network.name, self._settings.instance)

    def _close(self, name: str) -> None:
        if (server := self._servers.pop(name, None)) is not None:
            server.close()

    def close(self) -> None:
        for name in list(self._servers):
            self._close(name)
