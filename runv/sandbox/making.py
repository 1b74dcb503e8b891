"""What ``create`` and ``restore`` have in common: a bundle is read, a container written down and limited, and somebody stands for its process."""

import os

from runv import OCI_VERSION, cgroups, limits
from runv.errors import ConfigError, reason
from runv.files import write_atomic
from runv.quick import dumps
from runv.sandbox import claims
from runv.sandbox.layout import SandboxFolder
from runv.sandbox.process import Options
from runv.sandbox.residents import standin
from runv.settings import program
from runv.spec.config import Config, Document, parse_config
from runv.state import Container, ContainerRecord, timestamp

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from collections.abc import Callable

    from runv.agent.client import Agent
    from runv.network.plan import Loan


def read_bundle(bundle: str) -> Document:
    """config.json of a bundle, checked.

    :raise ConfigError: it is missing or wrong
    """
    path = os.path.join(bundle, "config.json")
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError as error:
        if not os.path.isdir(bundle):
            raise ConfigError(f"cannot open bundle {bundle}: no such file or directory") from error
        raise ConfigError(f"JSON specification file {path} not found", hint="`runv spec` writes one") from error
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {reason(error)}") from error
    return parse_config(data, "config.json")


def loans_of(config: Config) -> "list[Loan]":
    """The devices of the host's that a container is to have.

    :raise HostError: one is not there
    """
    wanted = config.linux.net_devices
    if not wanted:
        return []
    from runv.network import lend

    return [lend.plan(device, entry.name or device) for device, entry in wanted.items()]


def check_terminal(config: Config, options: Options) -> None:
    """:raise ConfigError: the process wants a terminal and there is none for it, or the other way round"""
    terminal = config.process is not None and config.process.terminal
    if options.foreground:
        if options.console_socket:
            raise ConfigError("cannot use console socket if runv will not detach or allocate tty")
        if terminal and not os.isatty(0):
            raise ConfigError("cannot allocate tty: standard input is not a terminal")
    elif terminal and not options.console_socket:
        raise ConfigError("cannot allocate tty if runv will detach without setting console socket")
    elif options.console_socket and not terminal:
        raise ConfigError("cannot use console socket if runv will not detach or allocate tty")


def sandbox_of(container: Container, host: Container | None) -> SandboxFolder:
    """The sandbox of ``host``, or a new one."""
    return SandboxFolder(container.root, host.load().sandbox if host is not None else os.urandom(6).hex())


def write_down(container: Container, sandbox: SandboxFolder, document: Document, options: Options, groups: list[str], *, rootfs: str) -> ContainerRecord:
    """From here on ``delete --force`` finds everything: it is written down before it is made."""
    config = document.config
    record = ContainerRecord(
        id=container.id,
        sandbox=sandbox.name,
        bundle=options.bundle,
        rootfs=rootfs,
        oci_version=config.oci_version or OCI_VERSION,
        created=timestamp(),
        annotations=config.annotations or {},
        groups=groups,
        made_groups=cgroups.own_folders(groups, claims.claimed(container.root)),
    )
    container.save(record)
    write_atomic(container.path("config.json"), dumps(document.raw))
    return record


def enter_cgroups(record: ContainerRecord, config: Config, extra: limits.Extra) -> list[limits.Setting]:
    """Makes the host's cgroups and limits them; the limits that have to wait until the machine is up."""
    cgroups.create(record.made_groups)
    settings = limits.settings(config.linux.resources, extra)
    cgroups.apply(record.groups, [setting for setting in settings if not setting.late])
    return [setting for setting in settings if setting.late]


def namespace_for(given: str, host: Container | None) -> str:
    """The network namespace the stand-in joins: the given one, the sandbox's, or (empty) a new one."""
    if given or host is None:
        return given
    other = host.standin()
    return f"/proc/{other.pid}/ns/net" if other is not None and other.alive() else ""


def stand_in(
    container: Container,
    standin_program: str,
    config: Config,
    options: Options,
    groups: list[str],
    network: str,
    meanwhile: "Callable[[], object]" = lambda: None,
) -> standin.Standin:
    """Starts the process that stands for the container's first one.

    :param meanwhile: called while it is on its way into its cgroups and namespaces
    :raise RunvError: as of ``standin.start``
    """
    return standin.start(
        standin_program,
        container.id,
        pid_file=container.path("init.pid"),
        groups=groups,
        network=network,
        foreground_terminal=options.foreground and config.process is not None and config.process.terminal,
        own_mounts=True,
        meanwhile=meanwhile,
    )


def hand_over(
    standing: standin.Standin,
    agent: "Agent",
    container: Container,
    terminal: standin.Terminal,
    memory_group: str,
    *,
    own_pids: bool,
    brings_machine: bool,
) -> None:
    """Gives a stand-in the container's first process, and its terminal. That of the container that brings the machine watches the network.

    :param own_pids: the process is the first of its pid namespace, and ends after all that were executed in the container
    :raise RunvError: as of ``standin.attach``
    """
    sync = (program(), "--root", container.root, "interface", "sync", container.id) if brings_machine else ()
    execs = container.execs_folder() if own_pids else ""
    try:
        standin.attach(standing, agent, container.id, "init", terminal, memory_group=memory_group, execs=execs, sync=sync)
    finally:
        if terminal.fd >= 0:
            os.close(terminal.fd)


def make_ready(container: Container, options: Options, standing: standin.Standin) -> None:
    """Tells whoever looks that the container is there."""
    container.mark_ready()
    if options.pid_file:
        write_atomic(options.pid_file, str(standing.identity.pid), 0o644)
