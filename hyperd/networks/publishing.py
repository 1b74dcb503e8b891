"""Ports of the host that lead to pods."""

import contextlib
from collections.abc import Collection, Iterable

import msgspec

from hyperd.errors import ConflictError, HyperError, InvalidError, MissingError

from . import ports, rules
from .filtering import Filtering
from .records import Attachment, Pod, PortMap
from .state import State


class Publishing:
    def __init__(self, state: State, filtering: Filtering) -> None:
        self._state, self._filtering = state, filtering
        self._held: dict[tuple[str, PortMap], ports.Held] = {}

    async def publish(self, pod: str, maps: Iterable[PortMap]) -> tuple[PortMap, ...]:
        """All or none."""
        record = self._record(pod)
        wanted = [self._with_network(record, ports.check(port)) for port in maps]
        for index, port in enumerate(wanted):
            self._check_free(pod, port, wanted[:index])
        held: list[ports.Held] = []
        try:
            for port in wanted:
                held.append(await ports.Held.hold(port, _where(record, port)))
            found = tuple(item.port for item in held)
            self._state.save_pod(msgspec.structs.replace(record, ports=(*record.ports, *found)))
            await self._filtering.apply()
        except BaseException:
            for item in held:
                item.close()
            self._state.save_pod(record)
            with contextlib.suppress(HyperError):  # the table is replaced as a whole: it is as it was
                await self._filtering.apply()
            raise
        self._held.update({(pod, item.port): item for item in held})
        return found

    def _record(self, pod: str) -> Pod:
        record = self._state.pods.get(pod)
        if record is None:
            raise MissingError(f"pod {pod} is in no network")
        return record

    def _with_network(self, record: Pod, port: PortMap) -> PortMap:
        """The port with the network that it is reached in. :raise InvalidError: there is none that could be"""
        known = self._state.networks
        outward = (item.network for item in record.attachments if not known[item.network].internal)
        name = port.network or next(outward, "")
        if not name:
            raise InvalidError(f"pod {record.id} has no network that ports could be published from", hint="`hyperctl network connect default POD` gives it one")
        if record.attachment(name) is None:
            raise InvalidError(f"pod {record.id} is not in network {name}")
        if known[name].internal:
            raise InvalidError(f"network {name} is internal: no ports are published from it")
        found = msgspec.structs.replace(port, network=name)
        if not rules.targets(record, found):
            raise InvalidError(f"pod {record.id} has no address of the family of {port.host_ip}")
        return found

    def _check_free(self, pod: str, port: PortMap, before: Collection[PortMap]) -> None:
        taken = [(other.id, each) for other in self._state.pods.values() for each in other.ports]
        taken += [(pod, each) for each in before if each.host_port]
        for owner, other in taken:
            if port.host_port and ports.clash(port, other):
                raise ConflictError(f"{ports.describe(port, port.host_port)}: published by pod {owner} already", hint="choose another port of the host, or remove that pod")

    async def unpublish(self, pod: str, maps: Iterable[PortMap] | None) -> None:
        """None: all of the pod's."""
        record = self._record(pod)
        gone = record.ports if maps is None else tuple(_published(record, port) for port in maps)
        kept = tuple(port for port in record.ports if port not in gone)
        self._state.save_pod(msgspec.structs.replace(record, ports=kept))
        await self.release(pod, gone, addresses_of(record.attachments))

    async def release(self, pod: str, gone: Collection[PortMap], addresses: Collection[str]) -> None:
        """Ports that are in no record any more. :param addresses: of the pod's, where they led to"""
        for port in gone:
            if (held := self._held.pop((pod, port), None)) is not None:
                held.close()
        if gone:
            await self._filtering.apply()
            if any(port.protocol == "udp" for port in gone):
                await self._filtering.forget_flows(addresses)

    async def hold_all(self) -> tuple[str, ...]:
        """What is in the way. The kernel sends packets on even where another program took the port meanwhile: that is no more than a warning."""
        warnings = []
        for pod in list(self._state.pods.values()):
            for port in pod.ports:
                if (pod.id, port) in self._held:
                    continue
                try:
                    self._held[pod.id, port] = await ports.Held.hold(port, _where(pod, port))
                except HyperError as error:
                    warnings.append(f"pod {pod.id}: {error}")
        return tuple(warnings)

    def close(self) -> None:
        for held in self._held.values():
            held.close()
        self._held.clear()


def addresses_of(items: Iterable[Attachment]) -> list[str]:
    """Without their prefix lengths."""
    return [text.split("/")[0] for item in items for text in item.addresses]


def _where(record: Pod, port: PortMap) -> ports.Where:
    item = record.attachment(port.network)
    return tuple(addresses_of([item] if item is not None else []))


def _published(record: Pod, wanted: PortMap) -> PortMap:
    for port in record.ports:
        same = (port.host_port, port.protocol, port.host_ip) == (wanted.host_port, wanted.protocol, wanted.host_ip)
        if same and wanted.container_port in (0, port.container_port):
            return port
    raise MissingError(f"{ports.describe(wanted, wanted.host_port)}: pod {record.id} does not publish it")
