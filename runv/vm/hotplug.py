"""Network cards that come to a running machine, and go. QMP's library is imported only when one does."""


from runv.errors import VmError
from runv.quick import Any
from runv.vm.cmdline import PORT_PREFIX, card_name, queue_options
from runv.vm.machine import Nic

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from qemu.qmp import QMPClient


def vcpus(path: str) -> int:
    """How many CPUs the machine has whose monitor is at ``path``.

    :raise VmError: QEMU does not answer
    """
    from runv.vm import qmp

    return len(qmp.command(path, "query-cpus-fast"))


def plug_nic(path: str, nic: Nic) -> str:
    """Plugs a card in; returns the port it sits in. QEMU gets copies of its descriptors.

    :raise VmError: no port is free, or QEMU refused; nothing of it is left then
    """
    from runv.vm import qmp

    return qmp.session(path, "plug in a network card", lambda client: _plug(client, nic))


async def _plug(client: "QMPClient", nic: Nic) -> str:
    from qemu.qmp import ExecuteError

    buses: Any = await client.execute("query-pci")
    ports = free_ports(buses)
    if not ports:
        raise VmError("cannot plug in a network card: every port is taken", hint="the setting hotplug_ports says how many a sandbox has")
    fds = await _send(client, "tap", nic.fds)
    netdev: dict[str, object] = {"type": "tap", "id": nic.name, "fds": fds}
    if nic.vhost_fds:
        netdev |= {"vhost": True, "vhostfds": await _send(client, "vhost", nic.vhost_fds)}
    await client.execute("netdev_add", netdev)
    device: dict[str, object] = {"driver": "virtio-net-pci", "id": _plugged_name(nic.name, ports[0]), "netdev": nic.name, "mac": nic.mac, "romfile": "", "guest_announce": "off", "bus": ports[0]}
    try:
        await client.execute("device_add", device | queue_options(nic))
    except ExecuteError:
        await client.execute("netdev_del", {"id": nic.name})
        raise
    return ports[0]


def _plugged_name(netdev: str, port: str) -> str:
    """No card that was there at boot is called so: of those that are removed, the names stay taken."""
    return f"{card_name(netdev)}-{port}"


async def _send(client: "QMPClient", prefix: str, fds: tuple[int, ...]) -> str:
    """Gives QEMU descriptors; returns what it calls them, as netdev_add wants it."""
    names = [f"{prefix}{number}" for number in range(len(fds))]
    for name, fd in zip(names, fds, strict=True):
        client.send_fd_scm(fd)
        await client.execute("getfd", {"fdname": name})
    return ":".join(names)


def free_ports(buses: list[dict[str, Any]]) -> list[str]:
    """The ports that nothing is plugged into, from what query-pci says. Pure."""
    devices = [device for bus in buses for device in bus["devices"]]
    return sorted(
        device["qdev_id"]
        for device in devices
        if device["qdev_id"].startswith(PORT_PREFIX) and not device.get("pci_bridge", {}).get("devices")
    )


def unplug_nic(path: str, name: str, port: str) -> None:
    """Takes a card out, and with it its tap. A guest that still uses it loses its link at once and the card when it lets go. One that was
    there at boot (``port`` is empty) stays, without a tap.

    :raise VmError: QEMU refused
    """
    from runv.vm import qmp

    async def work(client: "QMPClient") -> None:
        from qemu.qmp import ExecuteError

        try:
            if port:
                await client.execute("device_del", {"id": _plugged_name(name, port)})
        except ExecuteError as error:
            if error.error_class != "DeviceNotFound":  # gone already, as the guest has let go of it
                raise
        await client.execute("netdev_del", {"id": name})

    qmp.session(path, "unplug a network card", work)
