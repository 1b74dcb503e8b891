"""Networks and what is attached to them: the one door to this package."""

import asyncio
import logging
from collections.abc import Collection, Coroutine, Iterable
from pathlib import Path
from typing import Any, TypeVar

from hyperd.errors import ConflictError

from .attaching import Attaching
from .bridges import Bridges
from .filtering import Filtering
from .publishing import Publishing
from .records import Attachment, Network, NetworkSpec, PortMap, Restored, Settings
from .state import State
from .store import check_pod

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Networks:
    """The networks of one hyperd, in the network namespace that it runs in.

    What changes something is written down first, undone if it fails, and finished once it was begun, even if its caller is cancelled.
    After a SIGKILL anywhere ``restore`` makes true what is written down. Networks, links and rules stay when the process ends; only the DNS
    servers and the carrying of connections to ``::1`` need it.
    """

    def __init__(self, root: Path, *, run: Path = Path("/run/hyperd/netns"), settings: Settings | None = None) -> None:
        """:param root: a folder for the records. :param run: where namespaces are mounted; lost at a reboot"""
        self.settings = settings or Settings()
        self._state = State(root)
        self._filtering = Filtering(self._state, self.settings)
        self._bridges = Bridges(self._state, self._filtering, self.settings)
        self._publishing = Publishing(self._state, self._filtering)
        self._attaching = Attaching(self._state, self._bridges, self._filtering, self._publishing, run, self.settings)
        self._lock = asyncio.Lock()

    # Looks

    def list(self) -> "list[Network]":
        """By name."""
        return sorted(self._state.networks.values(), key=lambda net: net.name)

    def find(self, name: str) -> Network:
        """:raise MissingError: there is none of this name"""
        return self._state.find(name)

    def pods_of(self, network: str) -> tuple[str, ...]:
        return self._state.pods_of(network)

    def attachments(self, pod: str) -> tuple[Attachment, ...]:
        """Those of a pod, in the order in which they were made; of one that there is not: none."""
        return self._state.pods[pod].attachments if pod in self._state.pods else ()

    def ports(self, pod: str) -> tuple[PortMap, ...]:
        """What is published of a pod's."""
        return self._state.pods[pod].ports if pod in self._state.pods else ()

    async def check(self) -> tuple[str, ...]:
        """What stands in the way on this host, as sentences."""
        return await self._exclusive(self._check())

    async def _check(self) -> tuple[str, ...]:
        found = [*await self._filtering.look(), *await self._bridges.conflicts()]
        return (*found, *(f"network {name} has no DNS server of its own" for name in self._bridges.unserved()))

    # Networks

    async def create(self, spec: NetworkSpec) -> Network:
        """Makes a network.

        :raise ConflictError: its name, bridge or a subnet is in use
        :raise InvalidError: it cannot be
        :raise UnavailableError: no subnet is free
        """
        return await self._exclusive(self._bridges.create(spec))

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
        await self._bridges.remove(network)

    # Pods

    async def make_netns(self, pod: str) -> str:
        """The path of the pod's network namespace, made if there is none."""
        return await self._exclusive(self._attaching.make_netns(check_pod(pod)))

    async def remove_netns(self, pod: str) -> None:
        """Detaches the pod and removes its namespace. Nothing there is fine."""
        await self._exclusive(self._attaching.drop(check_pod(pod)))

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
            network=network, name=name, link="", addresses=tuple(addresses), mac=mac, mtu=mtu, names=tuple(names),
            ingress_bandwidth=ingress_bandwidth, egress_bandwidth=egress_bandwidth,
        )  # fmt: skip
        return await self._exclusive(self._attaching.attach(check_pod(pod), path, wanted))

    async def detach(self, pod: str, network: str = "") -> None:
        """Takes the pod out of a network, or of all; its published ports there go too. Nothing there is fine."""
        await self._exclusive(self._attaching.detach(pod, network))

    async def publish(self, pod: str, maps: Iterable[PortMap]) -> tuple[PortMap, ...]:
        """Has ports of the host lead to the pod: all of them or, if one cannot, none.

        :raise ConflictError: a port is published already, or another program has it
        :raise InvalidError: the pod has no network for it
        :raise MissingError: the pod is not attached
        """
        return await self._exclusive(self._publishing.publish(pod, tuple(maps)))

    async def unpublish(self, pod: str, maps: Iterable[PortMap] | None = None) -> None:
        """Takes back published ports, or all of the pod's. :raise MissingError: one is not published"""
        await self._exclusive(self._publishing.unpublish(pod, None if maps is None else tuple(maps)))

    # From one process to the next

    async def restore(self, owned: Collection[str] | None = None) -> Restored:
        """Makes true what is written down, removes what nobody owns, and starts to serve. May be repeated.

        :param owned: the pods that there are; others are forgotten. None: all that have a namespace
        """
        return await self._exclusive(self._restore(None if owned is None else set(owned)))

    async def _restore(self, owned: set[str] | None) -> Restored:
        removed = await self._attaching.forget(owned)
        warnings = await self._bridges.ensure_all()
        remade, failures = await self._attaching.ensure_all()
        warnings += [*failures, *await self._publishing.hold_all()]
        for text in warnings:
            _log.warning("%s", text)
        return Restored(removed, tuple(remade), (*warnings, *await self._check()))

    async def close(self) -> None:
        """Ends what needs this process. Pods keep their network."""
        async with self._lock:
            self._bridges.close()
            self._publishing.close()

    async def clear(self) -> None:
        """Takes everything off the host, pods' links too; the networks' records stay, so that ``restore`` brings them back."""
        await self._exclusive(self._clear())

    async def _clear(self) -> None:
        await self._attaching.forget(set())
        for network in self.list():
            await self._bridges.take_down(network)
        await self._filtering.remove()

    async def _exclusive(self, work: Coroutine[Any, Any, _T]) -> _T:
        """One change at a time, each to its end."""

        async def locked() -> _T:
            async with self._lock:
                return await work

        return await asyncio.shield(asyncio.get_running_loop().create_task(locked()))
