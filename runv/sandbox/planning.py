"""Settling all of a container that can be settled before anything is made: most bad input ends here.

Light: until its stand-in is started nobody works but us, so what only a machine needs is imported later (``runv.sandbox.create``).
"""

import os

from runv import cgroups, limits
from runv.errors import ConfigError
from runv.idmaps import with_root
from runv.log import Log
from runv.quick import NamedTuple
from runv.sandbox import join, making, notified, wishes
from runv.sandbox.layout import SandboxFolder
from runv.sandbox.machine import wanted as machines
from runv.sandbox.machine.size import Size, machine_size, most
from runv.sandbox.machine.wanted import Wanted
from runv.sandbox.process import Options
from runv.sandbox.storage.opened import Opened, used
from runv.settings import AUTO, Settings
from runv.spec.config import Config, Document
from runv.spec.infra import settle_infra
from runv.state import Container, make_root
from runv.storage import plan as storage
from runv.storage.devices import DevicePlan, plan_devices
from runv.storage.images import merge

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from runv.network.plan import Loan
    from runv.vm.qemu import Bind


class Plan(NamedTuple):
    """Everything decided before anything is made. ``close`` it."""

    document: Document
    storage: storage.StoragePlan
    devices: DevicePlan
    opened: Opened
    wanted: Wanted
    groups: list[str]
    host: Container | None
    network: str
    loans: "list[Loan]"
    options: Options
    pool: str  # the folder of machines of which one might do; empty for none
    rehearses: bool  # where no machine's translations can be taken, some are to be made

    @property
    def extra(self) -> limits.Extra:
        """What the host's cgroups need room for beside the container's own."""
        if self.host is not None:
            return limits.of_standin()
        wanted = self.wanted
        cloned_mib = wanted.memory_mib if wanted.templates else 0
        return limits.of_machine(wanted.memory_mib, wanted.vcpus, cloned_mib=cloned_mib, records=wanted.keeps)

    @property
    def binds(self) -> "list[Bind]":
        """What the sandbox's share is to show."""
        from runv.vm.qemu import Bind

        binds = [Bind(*shared) for shared in self.storage.shared]
        if self.wanted.share != "9p":
            return binds
        return [bind._replace(idmap=with_root(bind.idmap)) if bind.idmap is not None else bind for bind in binds]

    def close(self) -> None:
        """Lets go of what it holds open."""
        self.opened.close()
        for fd in self.storage.held:
            os.close(fd)


def settle(container: Container, options: Options, settings: Settings, log: Log) -> Plan:
    """Reads the bundle and decides.

    :raise RunvError: something is wrong with it, or missing
    """
    document = settle_infra(making.read_bundle(options.bundle))
    config = document.config
    if config.process is None:
        raise ConfigError("config.json: $.process is needed to create a container")
    making.check_terminal(config, options)
    make_root(container.root)
    host = join.find_host(container.root, config)
    network = join.checked_network(config)
    relative = cgroups.relative_path(config.linux.cgroups_path, container.id, systemd=options.systemd_cgroup)
    planned = storage.plan(container.id, options.bundle, config, document.raw)
    devices = plan_devices(config, document.raw, planned.disks)
    if devices.pci and host is not None:
        raise ConfigError(f"cannot pass {', '.join(devices.pci)} through: the sandbox runs already")
    settings = wishes.with_annotations(wishes.with_vm(settings, config), config)
    size = machine_size(config, Size(settings.number("vcpus"), settings.number("memory_mib")))
    largest = most(config, size, Size(settings.number("vcpus_max"), settings.number("memory_max_mib")))
    wanted = machines.settle(settings, size, largest, passes_through=bool(devices.pci))
    if host is None and settings.text("tcg_keep") == "record":
        wanted = _recording(wanted)
    log.debug(f"accelerator {wanted.accelerator}, transport {wanted.transport}, share {wanted.share}, {wanted.kind}")
    return Plan(
        document=document,
        storage=notified.with_socket(planned, container) if notified.wanted() else planned,
        devices=devices,
        wanted=wanted,
        groups=cgroups.plan(relative),
        host=host,
        network=network,
        loans=making.loans_of(config),
        options=options,
        pool=settings.text("pool_folder") if host is None and not network and planned.shared and not wanted.keeps and _is_usual(config, devices) else "",
        rehearses=host is None and settings.text("tcg_keep") == AUTO and bool(wanted.translations),
        # Last: from here on there is something to close.
        opened=Opened(merge([*planned.disks, *devices.disks]), _disks_of(host)),
    )


def _is_usual(config: Config, devices: DevicePlan) -> bool:
    """Whether what is decided when QEMU starts is as it is for most."""
    return not devices.pci and wishes.memory_policy(config) is None


def _recording(wanted: Wanted) -> Wanted:
    """The same as one that leaves its translations to others, unless there are some of that name."""
    from runv.sandbox.machine.shape import records

    return machines.recording(wanted) if records(wanted) else wanted


def _disks_of(host: Container | None) -> dict[str, bool]:
    return used(SandboxFolder(host.root, host.load().sandbox)) if host is not None else {}
