"""Links that a namespace is lent by the host, and gives back as they were: ``linux.netDevices`` and ``interface add --host-device``."""

import os

from runv.errors import HostError, RunvError
from runv.network import devices, netns
from runv.network.netlink import Netlink
from runv.network.plan import Loan


def plan(device: str, name: str) -> Loan:
    """:raise HostError: there is no such device, or the kernel takes no link of that name"""
    try:
        devices.index_of(device)
        return Loan(device, name, devices.is_up(device))
    except OSError as error:
        raise HostError(f"find network device {device}", error) from error


def lend(namespace: str, loan: Loan) -> None:
    """Moves a device into a namespace, with its addresses, and takes it up.

    :raise HostError: it cannot be moved; it is where it was then
    """
    action = f"move network device {loan.device} into the container"
    try:
        with Netlink() as netlink:
            index = devices.index_of(loan.device)
            addresses = devices.addresses(netlink, index)
            target = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
            try:
                devices.move(netlink, index, target, loan.name)
            except OSError:
                devices.change(netlink, index, up=loan.up)
                raise
            finally:
                os.close(target)
    except OSError as error:
        raise HostError(action, error) from error
    try:
        netns.inside(namespace, action, lambda: _settle(loan.name, addresses, up=True))
    except RunvError:
        give_back(namespace, loan)
        raise


def give_back(namespace: str, loan: Loan) -> None:
    """Moves a device back to the host, under the name it had there.

    :raise HostError: it is not there any more, or the name is taken
    """
    here = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def work() -> netns.Result:
        with Netlink() as netlink:
            index = devices.index_of(loan.name)
            addresses = devices.addresses(netlink, index)
            devices.move(netlink, index, here, loan.device)
        return addresses, []

    try:
        addresses, _ = netns.inside(namespace, f"give network device {loan.device} back", work)
    finally:
        os.close(here)
    try:
        _settle(loan.device, addresses, up=loan.up)
    except OSError as error:
        raise HostError(f"give network device {loan.device} back", error) from error


def _settle(name: str, addresses: list[str], *, up: bool) -> netns.Result:
    with Netlink() as netlink:
        index = devices.index_of(name)
        for address in addresses:
            devices.add_address(netlink, index, address)
        if up:
            devices.change(netlink, index, up=True)
    return None, []
