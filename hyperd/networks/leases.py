"""Who has which address and which MAC: an index over the records of pods, which are the only truth."""

from collections.abc import Iterable

from hyperd.errors import ConflictError, InvalidError

from . import addresses
from .addresses import Address
from .records import Network, Pod


class Leases:
    """Numbers of addresses and MACs in use, for each network. Built anew from the records at a start, so that nothing can leak."""

    def __init__(self, pods: Iterable[Pod] = ()) -> None:
        self._numbers: dict[tuple[str, int], set[int]] = {}
        self._macs: dict[str, set[str]] = {}
        for pod in pods:
            self.add(pod)

    def add(self, pod: Pod) -> None:
        for item in pod.attachments:
            for text in item.addresses:
                found = addresses.address(text.split("/")[0])
                self._numbers.setdefault((item.network, found.version), set()).add(int(found))
            self._macs.setdefault(item.network, set()).add(item.mac)

    def drop(self, pod: Pod) -> None:
        for item in pod.attachments:
            for text in item.addresses:
                found = addresses.address(text.split("/")[0])
                self._numbers[item.network, found.version].discard(int(found))
            self._macs[item.network].discard(item.mac)

    def addresses(self, network: Network, wanted: Iterable[str]) -> tuple[Address, ...]:
        """One of each of the network's families: those asked for, else free ones.

        :raise ConflictError: one that is asked for is in use
        :raise InvalidError: one is not of the network
        :raise UnavailableError: the network is full
        """
        asked = [addresses.address(text.split("/")[0]) for text in wanted]
        if len({item.version for item in asked}) != len(asked):
            raise InvalidError(f"network {network.name}: more than one address of a family")
        found: list[Address] = []
        for text, gateway_text in zip(network.subnets, network.gateways, strict=True):
            net, gateway = addresses.subnet(text), addresses.address(gateway_text)
            taken = self._numbers.get((network.name, net.version), set())
            static = next((item for item in asked if item.version == net.version), None)
            if static is not None:
                found.append(addresses.claim(net, gateway, static, taken))
                continue
            # The families share the host's number where they can.
            offset = int(found[0]) - int(addresses.subnet(network.subnets[0]).network_address) if found else 0
            preferred = int(net.network_address) + offset if offset else 0
            found.append(addresses.allocate(net, gateway, network.excluded, taken, preferred=preferred))
        if stray := {item.version for item in asked} - {item.version for item in found}:
            raise InvalidError(f"network {network.name}: it has no subnet of IPv{stray.pop()}")
        return tuple(found)

    def mac(self, network: Network, wanted: str, found: Iterable[Address]) -> str:
        """The one asked for, or one that follows from the address. :raise ConflictError: it is in use in the network"""
        taken = self._macs.get(network.name, set())
        if not wanted:
            return addresses.derived_mac(found, taken)
        wanted = addresses.mac(wanted)
        if wanted in taken:
            raise ConflictError(f"MAC address {wanted}: in use in network {network.name}")
        return wanted
