"""Networks and pods as they are written down, and what follows from that in memory."""

from pathlib import Path

from hyperd.errors import MissingError

from .leases import Leases
from .naming.directory import Directory
from .records import Network, Pod
from .store import Store


class State:
    """Every change goes to disk first. Nothing here knows whether it is true on the host."""

    def __init__(self, root: Path) -> None:
        self._store = Store(root)
        self.networks = {net.name: net for net in self._store.networks()}
        self.pods = {pod.id: pod for pod in self._store.pods()}
        self.leases = Leases(self.pods.values())
        self._directory: Directory | None = None

    @property
    def directory(self) -> Directory:
        """Who has which name. Made when it is asked for: pods come and go more often than names are looked up."""
        if self._directory is None:
            self._directory = Directory(self.networks.values(), self.pods.values())
        return self._directory

    def find(self, name: str) -> Network:
        """:raise MissingError: there is no network of this name"""
        try:
            return self.networks[name]
        except KeyError:
            raise MissingError(f"no such network: {name}", hint=f"`hyperctl network list` shows those that there are, `hyperctl network create {name}` makes it") from None

    def pods_of(self, network: str) -> tuple[str, ...]:
        return tuple(pod.id for pod in self.pods.values() if pod.attachment(network) is not None)

    def prefix6(self, make: str) -> str:
        """The /48 of this installation: what is stored, else ``make``, which is stored."""
        return self._store.prefix6(make)

    def save_network(self, network: Network) -> None:
        self._store.save_network(network)
        self.networks[network.name] = network
        self._directory = None

    def drop_network(self, name: str) -> None:
        self._store.drop_network(name)
        del self.networks[name]
        self._directory = None

    def save_pod(self, pod: Pod) -> None:
        self._store.save_pod(pod)
        self._take_out(pod.id)
        self.leases.add(pod)
        self.pods[pod.id] = pod

    def drop_pod(self, pod: str) -> None:
        """One that there is not is fine."""
        self._store.drop_pod(pod)
        self._take_out(pod)

    def _take_out(self, pod: str) -> None:
        old = self.pods.pop(pod, None)
        if old is not None:
            self.leases.drop(old)
        self._directory = None
