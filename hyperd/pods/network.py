"""A pod's part of the networks: its namespace, its cards, its published ports."""

from collections.abc import Sequence

from hyperd import spec
from hyperd.errors import ConflictError, HyperError
from hyperd.networks import Attachment, Networks, PortMap
from hyperd.store import PodRecord

Addresses = dict[str, tuple[str, ...]]


def port_map(port: spec.Port, network: str = "") -> PortMap:
    """A published port as networks have it."""
    return PortMap(
        host_port=port.host_port, container_port=port.container_port, host_ip=port.host_ip, protocol=port.protocol, network=network
    )


class PodNetworks:
    """Makes what pods' specifications say of the network."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks

    def attachments(self, pod: str) -> tuple[Attachment, ...]:
        """What a pod has."""
        return self._networks.attachments(pod)

    async def set_up(self, pod: PodRecord) -> tuple[str, Addresses]:
        """The namespace's path, and addresses by network.

        :raise HyperError: a network is missing or full, an address or port is taken; nothing is left then
        """
        try:
            path = await self._networks.make_netns(pod.id)
            for interface in pod.spec.interfaces:
                await self.attach(pod, path, interface)
            published = self._networks.ports(pod.id)
            ports = [port_map(port) for port in ports_of(pod.spec)]
            if ports and not published:
                await self._networks.publish(pod.id, ports)
        except HyperError:
            await self._networks.remove_netns(pod.id)
            raise
        return path, self.addresses(pod.id)

    async def attach(self, pod: PodRecord, path: str, interface: spec.Interface) -> Attachment:
        """One card."""
        host = pod.spec.hostname or pod.name
        return await self._networks.attach(
            pod.id,
            path,
            interface.network,
            name=interface.name,
            addresses=[address.partition("/")[0] for address in interface.addresses],
            mac=interface.mac,
            mtu=interface.mtu,
            ingress_bandwidth=interface.ingress_bandwidth,
            egress_bandwidth=interface.egress_bandwidth,
            names=tuple(dict.fromkeys(name.lower() for name in (pod.name, host, *interface.aliases))),
        )

    async def detach(self, pod: str, network: str) -> None:
        """Takes a pod out of a network."""
        await self._networks.detach(pod, network)

    def addresses(self, pod: str) -> Addresses:
        """What a pod is reached at."""
        return {item.network: item.addresses for item in self._networks.attachments(pod)}

    async def tear_down(self, pod: PodRecord) -> None:
        """Fine when there is nothing."""
        await self._networks.remove_netns(pod.id)

    async def restore(self, pods: Sequence[PodRecord]) -> None:
        """Makes real what these pods have, and removes what others had."""
        await self._networks.restore({pod.id for pod in pods})


class NoNetworks:
    """For a daemon that is told to leave the host's network alone: runv makes an empty namespace for each pod."""

    def attachments(self, pod: str) -> tuple[Attachment, ...]:
        """None."""
        return ()

    async def set_up(self, pod: PodRecord) -> tuple[str, Addresses]:
        """:raise ConflictError: it wants to publish ports"""
        if ports_of(pod.spec):
            raise ConflictError("cannot publish ports: this daemon has no networks", hint="network.enabled in its settings")
        return "", {}

    async def attach(self, pod: PodRecord, path: str, interface: spec.Interface) -> Attachment:
        """:raise ConflictError: always"""
        raise ConflictError("this daemon has no networks", hint="network.enabled in its settings")

    async def detach(self, pod: str, network: str) -> None:
        """There is nothing."""

    def addresses(self, pod: str) -> Addresses:
        """None."""
        return {}

    async def tear_down(self, pod: PodRecord) -> None:
        """There is nothing."""

    async def restore(self, pods: Sequence[PodRecord]) -> None:
        """There is nothing."""


def ports_of(wanted: spec.Pod) -> list[spec.Port]:
    """What a pod publishes, for itself and for its containers."""
    return [port for port in (*wanted.ports, *(one for container in wanted.containers for one in container.ports)) if port.host_port]
