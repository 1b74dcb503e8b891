"""Pods' namespaces and their links into networks."""

import asyncio
from pathlib import Path

import msgspec

from hyperd.errors import ConflictError, HyperError, InvalidError, MissingError

from . import addresses, links, netns, planning
from .bridges import Bridges
from .filtering import Filtering
from .publishing import Publishing, addresses_of
from .records import Attachment, Network, Pod, Settings
from .state import State

_NAME_MAX = 15


class Attaching:
    def __init__(
        self,
        state: State,
        bridges: Bridges,
        filtering: Filtering,
        publishing: Publishing,
        run: Path,
        settings: Settings,
    ) -> None:
        self._state, self._bridges, self._filtering, self._publishing = state, bridges, filtering, publishing
        self._run = run
        self._names = links.Names(settings.instance)

    async def make_netns(self, pod: str) -> str:
        path = self._run / pod
        if pod not in self._state.pods:
            self._state.save_pod(Pod(id=pod, netns=str(path)))
        await asyncio.to_thread(netns.make, path)
        return str(path)

    async def drop(self, pod: str) -> None:
        """Everything of the pod's; nothing there is fine."""
        await self.detach(pod, "")
        self._state.drop_pod(pod)
        await asyncio.to_thread(netns.remove, self._run / pod)

    async def attach(self, pod: str, path: str, wanted: Attachment) -> Attachment:
        """:param wanted: with what is left open empty"""
        network = self._state.find(wanted.network)
        await asyncio.to_thread(_check_namespace, path)
        await self._filtering.look()
        record = self._state.pods.get(pod)
        item = record.attachment(wanted.network) if record is not None else None
        if item is not None:
            _check_same(pod, item, wanted)
            await asyncio.to_thread(links.ensure_pair, pod, path, network, item)
            return item
        return await self._make(record, Pod(id=pod, netns=path) if record is None else record, network, wanted)

    async def _make(self, before: Pod | None, record: Pod, network: Network, wanted: Attachment) -> Attachment:
        item = self._settle(record, network, wanted)
        self._state.save_pod(msgspec.structs.replace(record, attachments=(*record.attachments, item)))
        try:
            await asyncio.to_thread(links.ensure_pair, record.id, record.netns, network, item)
        except BaseException:
            if before is None:
                self._state.drop_pod(record.id)
            else:
                self._state.save_pod(before)
            await asyncio.to_thread(links.remove, (item.link, links.shaper(item.link)))
            raise
        return item

    def _settle(self, record: Pod, network: Network, wanted: Attachment) -> Attachment:
        """What was left open, filled in. Changes nothing."""
        if min(wanted.ingress_bandwidth, wanted.egress_bandwidth) < 0:
            raise InvalidError("bandwidth: less than nothing")
        found = self._state.leases.addresses(network, wanted.addresses)
        lengths = [text.split("/")[1] for text in network.subnets]
        has_default = any(item.gateways for item in record.attachments)
        return msgspec.structs.replace(
            wanted,
            name=_link_name(record, wanted.name),
            link=self._names.pair(record.id, network.name),
            addresses=tuple(f"{item}/{length}" for item, length in zip(found, lengths, strict=True)),
            mac=self._state.leases.mac(network, wanted.mac, found),
            mtu=planning.check_mtu(wanted.mtu, network),
            gateways=() if network.internal or has_default else network.gateways,
            dns=self._bridges.dns(network),
            searches=(network.domain,),
            names=planning.check_names(wanted.names),
        )

    async def detach(self, pod: str, network: str) -> None:
        """:param network: empty: all of the pod's"""
        record = self._state.pods.get(pod)
        if record is None:
            return
        gone = [item for item in record.attachments if network in ("", item.network)]
        lost = tuple(port for port in record.ports if network in ("", port.network))
        kept = tuple(item for item in record.attachments if item not in gone)
        ports = tuple(port for port in record.ports if port not in lost)
        self._state.save_pod(msgspec.structs.replace(record, attachments=kept, ports=ports))
        await self._publishing.release(pod, lost, addresses_of(gone))
        await asyncio.to_thread(links.remove, _links_of(gone))

    async def forget(self, owned: "set[str] | None") -> tuple[str, ...]:
        """Drops the pods that are not ``owned``, those whose namespace is gone, and namespaces that are nobody's.

        One whose namespace is gone, as after a reboot, has nothing that could be restored.
        """
        gone = []
        for pod in list(self._state.pods.values()):
            strange = owned is not None and pod.id not in owned
            if strange or not await asyncio.to_thread(netns.alive, pod.netns):
                await self.drop(pod.id)
                gone.append(pod.id)
        for path in list(self._run.iterdir()) if self._run.exists() else []:
            if path.name not in self._state.pods:
                await asyncio.to_thread(netns.remove, path)
        return tuple(gone)

    async def ensure_all(self) -> tuple[list[tuple[str, str]], list[str]]:
        """Makes the links that are missing, and says which, and what went wrong; removes those of ours that are nobody's."""
        pods = list(self._state.pods.values())
        wanted = {name for pod in pods for name in _links_of(pod.attachments)}
        strays = await asyncio.to_thread(lambda: links.existing(self._names) - wanted)
        await asyncio.to_thread(links.remove, strays)
        made, failures = [], []
        for pod, item in [(each, item) for each in pods for item in each.attachments]:
            try:
                network = self._state.find(item.network)
                if await asyncio.to_thread(links.ensure_pair, pod.id, pod.netns, network, item):
                    made.append((pod.id, item.name))
            except HyperError as error:
                failures.append(str(error))
        return made, failures


def _links_of(items: "list[Attachment] | tuple[Attachment, ...]") -> list[str]:
    return [name for item in items for name in (item.link, links.shaper(item.link))]


def _check_namespace(path: str) -> None:
    if not netns.alive(path):
        raise MissingError(f"no network namespace at {path}")
    if netns.is_ours(path):
        raise InvalidError(f"{path}: it is the host's network namespace")


def _check_same(pod: str, item: Attachment, wanted: Attachment) -> None:
    """:raise ConflictError: what the pod has in the network is not what is asked for"""
    has = {addresses.address(text) for text in addresses_of([item])}
    asked = {addresses.address(text) for text in addresses_of([wanted])}
    mac = addresses.mac(wanted.mac) if wanted.mac else item.mac
    if wanted.name not in ("", item.name) or not asked <= has or mac != item.mac:
        shown = ", ".join(item.addresses)
        raise ConflictError(f"pod {pod} is in network {item.network} already, as {item.name} with {shown}")


def _link_name(record: Pod, wanted: str) -> str:
    used = {item.name for item in record.attachments}
    if not wanted:
        return next(name for name in (f"eth{number}" for number in range(len(used) + 1)) if name not in used)
    barred = wanted in (".", "..", "lo", "all", "default") or any(c.isspace() or c in "/:\0" for c in wanted)
    if barred or len(wanted.encode()) > _NAME_MAX:
        raise InvalidError(f"interface name {wanted!r}: not a link's")
    if wanted in used:
        raise ConflictError(f"interface {wanted}: pod {record.id} has it already")
    return wanted
