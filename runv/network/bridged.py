"""Links that are made for a sandbox: a pair whose other end is a port of a bridge of the host's."""

import os
import secrets

from runv.errors import HostError
from runv.network import devices, netns
from runv.network.netlink import Netlink


def is_bridge(device: str) -> bool:
    """Whether a device of the host's is a bridge."""
    return os.path.isdir(f"/sys/class/net/{device}/bridge")


def make(namespace: str, bridge: str, name: str) -> None:
    """Makes ``name`` in the namespace; its other end is a port of the bridge and has a name of its own.

    :raise HostError: the name is taken, or the kernel refuses
    """
    try:
        target = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with Netlink() as netlink:
                devices.make_veth(netlink, f"runv{secrets.token_hex(4)}", devices.index_of(bridge), target, name)
        finally:
            os.close(target)
    except OSError as error:
        raise HostError(f"connect network interface {name} to bridge {bridge}", error) from error


def remove(namespace: str, name: str) -> None:
    """Deletes both ends of it.

    :raise HostError: it is not there
    """

    def work() -> netns.Result:
        with Netlink() as netlink:
            devices.remove(netlink, devices.index_of(name))
        return None, []

    netns.inside(namespace, f"remove network interface {name}", work)
