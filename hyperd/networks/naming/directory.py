"""Who has which name in which network. Pure; built anew from the records when they change."""

from collections.abc import Iterable
from typing import NamedTuple

from hyperd.networks import addresses
from hyperd.networks.records import Network, Pod


class Entry(NamedTuple):
    network: str
    address: addresses.Address


class View(NamedTuple):
    """What one asker may see: his networks, the one whose server he asks first. ``outward``: he may ask for names of the outside."""

    networks: tuple[Network, ...]
    outward: bool


class Directory:
    def __init__(self, networks: Iterable[Network] = (), pods: Iterable[Pod] = ()) -> None:
        self._networks = {net.name: net for net in networks}
        self._names: dict[str, list[Entry]] = {}
        self._reverse: dict[Entry, str] = {}
        self._askers: dict[Entry, tuple[str, ...]] = {}
        for pod in pods:
            self._add(pod)

    def _add(self, pod: Pod) -> None:
        members = tuple(item.network for item in pod.attachments)
        for item in pod.attachments:
            for text in item.addresses:
                entry = Entry(item.network, addresses.address(text.split("/")[0]))
                self._askers[entry] = members
                if item.names:
                    self._reverse[entry] = item.names[0]
                for name in dict.fromkeys(name.lower() for name in item.names):
                    self._names.setdefault(name, []).append(entry)

    def view(self, network: str, asker: addresses.Address) -> View | None:
        """What ``asker`` sees at the server of ``network``; None: he is not one of those it serves, which are its pods and the host."""
        own = self._networks.get(network)
        if own is None or not any(asker in addresses.subnet(text) for text in own.subnets):
            return None
        others = self._askers.get(Entry(network, asker), ())
        found = (own, *(self._networks[name] for name in others if name != network and name in self._networks))
        return View(found, any(not net.internal for net in found))

    def find(self, view: View, name: str) -> list[addresses.Address] | None:
        """The addresses of a name, lower case and without a dot at its end, in the first of the networks that knows it.

        Empty: a name of ours that nobody has. None: none of ours.
        """
        ours = False
        for net in view.networks:
            short, inside = _within(name, net.domain)
            ours = ours or inside
            found = [entry.address for entry in self._names.get(short, ()) if entry.network == net.name]
            if found:
                return found
        return [] if ours else None

    def reverse(self, view: View, address: addresses.Address) -> str | None:
        """The full name of an address; empty: one of ours that nobody has, None: none of ours."""
        for net in view.networks:
            if any(address in addresses.subnet(text) for text in net.subnets):
                name = self._reverse.get(Entry(net.name, address), "")
                return f"{name}.{net.domain}" if name else ""
        return None


def _within(name: str, domain: str) -> tuple[str, bool]:
    """The name without the domain, and whether it was in it."""
    if name == domain:
        return "", True
    if name.endswith("." + domain):
        return name[: -len(domain) - 1], True
    return name, False
