"""Network cards as QEMU is to have them."""

from runv.network.names import tap_name
from runv.network.plan import card_address
from runv.network.wire import Card
from runv.vm import host_devices
from runv.vm.machine import Nic


def nic_of(card: Card) -> Nic:
    """A card with vhost-net for each of its queues; without where the host's kernel has none, and QEMU carries the packets. Those descriptors
    are the caller's to close."""
    vhosts = [host_devices.open_vhost_net() for _ in card.fds]
    return Nic(tap_name(card.number), card.fds, card_address(card.number), tuple(fd for fd in vhosts if fd >= 0))
