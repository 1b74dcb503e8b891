"""``interface``: the network cards of a running sandbox. What is changed is changed in its namespace first, and then brought to the guest: the two
stay alike."""

import contextlib
import errno
import ipaddress
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from runv.errors import AgentError, NotFoundError, RunvError, StateError
from runv.files import locked_folder
from runv.network import bridged, devices, lend, netns, plan, wire
from runv.network.names import tap_name
from runv.network.netlink import Netlink
from runv.sandbox.connection import connect
from runv.sandbox.layout import SandboxFolder
from runv.sandbox.links import network
from runv.sandbox.links.netrecord import NetRecord
from runv.state import CREATED, RUNNING, Container

_UNPLUG_TIMEOUT_S = 20.0


class Change(NamedTuple):
    """What is to be different about a link; what is empty stays. Addresses have their prefix lengths."""

    mtu: int = 0
    mac: str = ""
    addresses: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


class Interface(NamedTuple):
    """One card of a guest. ``name``, ``mac``, ``mtu``, ``up`` and ``addresses`` are the guest's; ``link`` is the link of the sandbox's namespace it is
    wired to, empty where that has gone; ``source`` is where that came from: ``namespace``, ``host`` or ``bridge``."""

    name: str
    link: str
    mac: str
    mtu: int
    up: bool
    addresses: tuple[str, ...]
    source: str


def check(change: Change) -> Change:
    """``change`` with its addresses as the kernel writes them.

    :raise RunvError: an address is none
    """
    if change.mac and not devices.is_mac(change.mac):
        raise RunvError(f"{change.mac!r} is not a link address of a network interface")
    return change._replace(addresses=_addresses(change.addresses), removed=_addresses(change.removed))


def _addresses(texts: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return tuple(ipaddress.ip_interface(text).with_prefixlen for text in texts)
    except ValueError as error:
        raise RunvError(f"invalid address: {error}") from error


@contextlib.contextmanager
def _running(container: Container) -> Iterator[tuple[SandboxFolder, NetRecord]]:
    record = container.load()
    if container.status(record)[0] not in (CREATED, RUNNING):
        raise StateError("container not running")
    sandbox = SandboxFolder(container.root, record.sandbox)
    with locked_folder(sandbox.folder):
        yield sandbox, NetRecord(sandbox)


def listing(container: Container) -> list[Interface]:
    """The cards of a container's sandbox, as its guest has them now, by name.

    :raise StateError: it is not running
    """
    with _running(container) as (sandbox, record):
        return _listing(sandbox, record)


def _listing(sandbox: SandboxFolder, record: NetRecord) -> list[Interface]:
    cards = {plan.card_address(card.number): card for card in network.cards_of(record)}
    with connect(sandbox) as agent:
        found = agent.call("interfaces", {})["interfaces"]
    present = network.present(sandbox)
    return sorted(_interface(entry, cards[entry["card"]], record, present) for entry in found if entry.get("card") in cards)


def _interface(entry: dict[str, Any], card: wire.Card, record: NetRecord, present: list[str]) -> Interface:
    lent = any(name == card.link for _, name, _ in record.lent)
    return Interface(
        name=str(entry["name"]),
        link=card.link if card.link in present else "",
        mac=str(entry["mac"]),
        mtu=int(entry["mtu"]),
        up=bool(entry["up"]),
        addresses=tuple(address for address in entry["addresses"] if not address.lower().startswith("fe80:")),
        source="host" if lent else "bridge" if card.link in record.made else "namespace",
    )


def add(container: Container, name: str, device: str, change: Change) -> None:
    """Gives the guest a card for the link ``name`` of the sandbox's namespace.

    :param device: a device of the host's: a bridge, to which a new link called ``name`` is connected, or one that moves into the namespace
    :raise RunvError: it cannot be done; nothing of it is left then
    """
    if not devices.is_name(name):
        raise RunvError(f"{name!r} is not a name for a network interface")
    with _running(container) as (sandbox, record):
        if device or name not in {card.link for card in network.cards_of(record)}:
            _add(sandbox, record, name, device, change)
            return
    # It came, and was noticed, before we were asked.
    update(container, name, change)


def _add(sandbox: SandboxFolder, record: NetRecord, name: str, device: str, change: Change) -> None:
    present = network.present(sandbox)
    if device and (name in record.links or name in present):
        raise StateError(f"cannot add network interface {name}: the sandbox has one of that name")
    if not device and name not in present:
        raise NotFoundError(
            f"cannot add network interface {name}: there is none in the sandbox's network namespace",
            hint="--host-device takes one of the host's, or connects a new one to a bridge",
        )
    try:
        if device:
            _fetch(record, network.namespace_of(sandbox), name, device)
        _change_link(network.namespace_of(sandbox), name, change, up=bool(device))
        with connect(sandbox) as agent:
            network.wire_more(sandbox, record, agent, {name}, only=name)
        if name not in {card.link for card in network.cards_of(record)}:
            raise StateError(f"cannot add network interface {name}: it is no Ethernet link, or the port of a bridge")
    except BaseException:
        with contextlib.suppress(RunvError):
            _return(record, network.namespace_of(sandbox), name)
        raise
    wired = {card.ifindex for card in network.cards_of(record)}
    record.left = [index for index in record.left if index not in wired]
    record.save()


def _fetch(record: NetRecord, namespace: str, name: str, device: str) -> None:
    if bridged.is_bridge(device):
        record.made = [*record.made, name]
        record.save()
        bridged.make(namespace, device, name)
    else:
        network.borrow(record, namespace, [lend.plan(device, name)])


def _return(record: NetRecord, namespace: str, name: str) -> None:
    """Gives back, or deletes, a link that came from the host. One of the namespace's stays."""
    record.links = [link for link in record.links if link != name]
    loans = [plan.Loan(*entry) for entry in record.lent if entry[1] == name]
    record.lent = [entry for entry in record.lent if entry[1] != name]
    made, record.made = name in record.made, [link for link in record.made if link != name]
    record.save()
    for loan in loans:
        lend.give_back(namespace, loan)
    if made:
        bridged.remove(namespace, name)


def remove(container: Container, name: str) -> None:
    """Takes a guest's card away. Its link stays in the namespace, unless it came from the host.

    :raise RunvError: there is none, or the guest does not let go of it
    """
    with _running(container) as (sandbox, record):
        card = _card(sandbox, record, name)
        with connect(sandbox) as agent:
            try:
                agent.call("unplug", {"card": plan.card_address(card.number)}, _UNPLUG_TIMEOUT_S)
            except AgentError as error:
                if error.kind != "not-found":
                    raise
        # Whoever brings to the guest what is new in the namespace is to leave this one alone.
        record.left = [*record.left, card.ifindex]
        network.forget(sandbox, record, card)
        _return(record, network.namespace_of(sandbox), card.link)


def _card(sandbox: SandboxFolder, record: NetRecord, name: str) -> wire.Card:
    """A card by its link's name, or by what the guest calls it.

    :raise NotFoundError: there is none
    """
    cards = network.cards_of(record)
    links = {name, *(entry.link for entry in _listing(sandbox, record) if entry.name == name)}
    found = next((card for card in cards if card.link in links), None)
    if found is None:
        raise NotFoundError(f"there is no network interface {name} in the sandbox")
    return found


def update(container: Container, name: str, change: Change) -> None:
    """Changes a guest's card and its link alike.

    :raise RunvError: there is none, or a kernel refuses
    """
    with _running(container) as (sandbox, record):
        card = _card(sandbox, record, name)
        entry = next((entry for entry in _listing(sandbox, record) if entry.link == card.link), None)
        if entry is None:
            raise StateError(f"cannot change network interface {name}: its link has gone from the sandbox's network namespace")
        _change_link(network.namespace_of(sandbox), card.link, change, tap=card.number)
        told = {
            "card": plan.card_address(card.number),
            "mac": change.mac or entry.mac,
            "mtu": change.mtu,
            "up": entry.up,
            "addresses": list(change.addresses),
            "removed_addresses": [address for address in change.removed if address in entry.addresses],
        }
        with connect(sandbox) as agent:
            agent.call("setup", {"interfaces": [told]})


def _change_link(namespace: str, name: str, change: Change, *, up: bool = False, tap: int = -1) -> None:
    def work() -> netns.Result:
        with Netlink() as netlink:
            index = devices.index_of(name)
            if change.mac:
                devices.change(netlink, index, up=False)
                devices.change(netlink, index, mac=change.mac, up=True)
            devices.change(netlink, index, mtu=change.mtu, up=True if up else None)
            if tap >= 0 and change.mtu:
                devices.change(netlink, devices.index_of(tap_name(tap)), mtu=change.mtu)
            had = devices.addresses(netlink, index)
            for address in change.removed:
                if address not in had:
                    raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL), f"{name}: {address}")
                devices.remove_address(netlink, index, address)
            for address in change.addresses:
                devices.add_address(netlink, index, address)
        return None, []

    if change != Change() or up:
        netns.inside(namespace, "change the network interface", work)
