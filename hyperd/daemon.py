"""The daemon put together: the one place that knows all parts."""

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from hyperd import systemd
from hyperd.api.server import Server
from hyperd.api.services import Services
from hyperd.config import Config
from hyperd.errors import ConflictError, UnavailableError
from hyperd.images import Image, Images, ImageSettings
from hyperd.networks import Networks, NetworkSpec
from hyperd.networks import Settings as NetworkSettings
from hyperd.pods.bus import Bus
from hyperd.pods.execs import Execs
from hyperd.pods.manager import Manager
from hyperd.pods.monitors import RunvMonitors, read_log
from hyperd.pods.network import NoNetworks, PodNetworks
from hyperd.pods.prepare import BundlePreparer
from hyperd.pods.runv import Runv
from hyperd.pods.tools import Tools
from hyperd.sealing import Seal
from hyperd.store import Store
from hyperd.volumes import Volumes
from runv import cgroups
from runv.errors import RunvError

_LOG = logging.getLogger(__name__)


async def serve(config: Config, *, stop_pods: bool = False) -> None:
    """Serves until SIGTERM or SIGINT.

    :param stop_pods: then stop the pods, instead of leaving them running
    :raise UnavailableError: a folder, the store or an address cannot be had
    :raise ConflictError: another daemon has the same folders
    """
    supervisor = systemd.notify_socket()
    end = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end.set)
    async with running(config, stop_pods=stop_pods) as server:
        systemd.notify(supervisor, "READY=1")
        _LOG.info("ready", extra={"addresses": server.addresses})
        await end.wait()
        systemd.notify(supervisor, "STOPPING=1")
    _LOG.info("ended")


@contextlib.asynccontextmanager
async def running(config: Config, *, stop_pods: bool = False) -> AsyncIterator[Server]:
    """A daemon that has taken over what there is, and serves."""
    _make_folders(config)
    given = systemd.sockets()
    with _only_one(Path(config.root) / "lock"), _only_one(Path(config.state) / "lock"):
        services = assemble(config)
        server = Server(services)
        await services.manager.start()
        await asyncio.to_thread(services.images.seal_credentials)
        try:
            for pod in services.manager.all():
                services.execs.adopt(pod)
            await server.start(given)
            yield server
        finally:
            if stop_pods:
                await services.manager.stop_all()
            await server.close()
            await services.execs.close()
            await services.manager.close()
            if services.networks is not None:
                await services.networks.close()
            services.images.close()


def _make_folders(config: Config) -> None:
    try:
        for folder in (Path(config.root), Path(config.state), Path(config.root) / "pods", Path(config.state) / "pods"):
            folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        for folder in (Path(config.root) / "pods", Path(config.state) / "pods"):
            folder.chmod(0o700)  # what is put into containers is no other user's business
    except OSError as error:
        raise UnavailableError(f"cannot make {error.filename}: {error.strerror}", hint="hyperd needs root, or folders of its own") from error


@contextlib.contextmanager
def _only_one(path: Path) -> Iterator[None]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise ConflictError(f"another daemon uses {path.parent}", hint="each needs its own root and state") from None
    try:
        yield
    finally:
        os.close(fd)


def assemble(config: Config) -> Services:
    """All parts, none of them at work yet."""
    root, state = Path(config.root), Path(config.state)
    seal = Seal(config.key_file)
    store = Store(config.database, config.kept_events, seal)
    runtime = Runv(config.runv, config.runv_root, command_s=config.timeouts.command_s, records=config.ready_machines > 0)
    mirrors = tuple((host, tuple(names)) for host, names in config.images.mirrors.items())
    images = Images(root / "images", ImageSettings(mirrors=mirrors, insecure=config.images.insecure), seal)
    volumes = Volumes(root / "volumes")
    networks = Networks(root / "networks", run=state / "netns", settings=_network_settings(config)) if config.network.enabled else None
    pod_networks = PodNetworks(networks) if networks is not None else NoNetworks()
    bus = Bus(store)

    async def pull(reference: str, policy: str) -> Image:
        image = await images.pull(reference, policy="always" if policy == "always" else "missing")
        await bus.publish("image", "pull", image.id, reference)
        return image

    preparer = BundlePreparer(config, runtime, images, volumes, pod_networks, pull)
    tools = Tools(config, store, runtime, RunvMonitors(config.monitor, _groups_of_monitors()), pod_networks, preparer, bus)
    return Services(config, tools, Manager(tools), Execs(tools), read_log, images, volumes, networks)


def _groups_of_monitors() -> list[str]:
    """Under systemd, cgroups that are not those of our service: who ends all processes of that is not to end pods. Elsewhere nobody would."""
    if "INVOCATION_ID" not in os.environ:
        return []
    try:
        folders = cgroups.plan("hyperd/monitors")
        cgroups.create(cgroups.own_folders(folders, ()))
    except RunvError as error:
        _LOG.warning("the programs that hold the streams of pods stay in the cgroup of the service: %s", error)
        return []
    return folders


def _network_settings(config: Config) -> NetworkSettings:
    wanted = config.network
    default = NetworkSpec(name="default", bridge=wanted.bridge, subnets=(wanted.subnet,), ipv6=wanted.ipv6)
    return NetworkSettings(
        instance=wanted.instance,
        default=default,
        pool4=wanted.pool,
        ipv6=wanted.ipv6,
        domain=wanted.domain,
        resolvers=wanted.resolvers,
        packet_filter=wanted.packet_filter,
        allow_in_docker=wanted.allow_in_docker,
        mark=wanted.mark,
    )
