"""The daemon's settings: a TOML file, every key of it checked, every path its own setting so that two daemons can live side by side."""

import grp
import ipaddress
import re
import shutil
import ssl
import tomllib
from pathlib import Path
from typing import Annotated

import msgspec

from hyperd.errors import InvalidError

CONFIG_PATH = "/etc/hyperd/config.toml"

_Seconds = Annotated[float, msgspec.Meta(gt=0)]
_Count = Annotated[int, msgspec.Meta(ge=1)]


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file; unknown keys are errors."""


class Tls(_Section, frozen=True):
    """Who we are on TCP, and whose clients we believe. All three or none."""

    certificate: str = ""
    key: str = ""
    authority: str = ""


class Api(_Section, frozen=True):
    """``socket``: the unix socket, mode 0660, of ``group`` where that exists. ``listen``: HOST:PORT for TCP, empty for none; without TLS only a
    loopback address, and only with ``plain_loopback``."""

    socket: str = "/run/hyperd/hyperd.sock"
    group: str = "hyperd"
    listen: str = ""
    plain_loopback: bool = False
    tls: Tls = Tls()
    max_body_mib: _Count = 4
    max_streams: _Count = 1024


class Restart(_Section, frozen=True):
    """The pause before a restart: ``base_s``, doubled each time up to ``limit_s``; forgotten once a container has run for ``reset_s``."""

    base_s: _Seconds = 10.0
    limit_s: _Seconds = 300.0
    reset_s: _Seconds = 600.0


class Timeouts(_Section, frozen=True):
    """How long a call of runv may take. ``create_s`` covers the boot of a machine on a slow host."""

    create_s: _Seconds = 300.0
    command_s: _Seconds = 60.0


class Machines(_Section, frozen=True):
    """What the machine of a pod may grow to while it runs, and never more than the host has; 0: it does not. Each virtual CPU that may come takes 0.3 MB."""

    vcpus_max: Annotated[int, msgspec.Meta(ge=0, le=255)] = 8
    memory_max_mib: Annotated[int, msgspec.Meta(ge=0, le=1 << 24)] = 1 << 20


class Images(_Section, frozen=True):
    """``mirrors`` are asked before a registry, ``insecure`` ones by HTTP or without a certificate that can be checked."""

    mirrors: dict[str, tuple[str, ...]] = {}
    insecure: tuple[str, ...] = ()


class Network(_Section, frozen=True):
    """Networks of pods. ``enabled`` false: pods have a loopback alone, and the host's network is not touched.

    ``instance`` keeps several daemons on one host apart. ``subnet`` is the default network's, those of others come from ``pool``.
    ``resolvers``: whom names are asked that are no pod's; empty: those of the host. ``packet_filter`` false: no rules of nftables are made.
    ``mark``: the one bit by which other firewalls know packets that ours let through. ``allow_in_docker``: have Docker's let them pass.
    """

    enabled: bool = True
    instance: str = "hyperd"
    bridge: str = "hyper0"
    subnet: str = "192.168.123.0/24"
    pool: str = "10.210.0.0/16"
    ipv6: bool = True
    domain: str = "hyper.internal"
    resolvers: tuple[str, ...] = ()
    packet_filter: bool = True
    allow_in_docker: bool = True
    mark: Annotated[int, msgspec.Meta(ge=1, lt=1 << 32)] = 0x00100000


class Config(_Section, frozen=True):
    """Everything. ``runv``, ``monitor``: programs; empty: those installed beside hyperd. ``machine_image``: whose programs a process in a machine finds. ``ready_machines`` wait for pods of the usual size; each takes the
    memory of a machine that does nothing. ``root`` is kept across reboots (database, images, disks, logs), ``state`` is not (sockets, bundles, what runs).
    ``secrets_key``: the file of the key that secrets are sealed with; empty: ROOT/secrets.key. It is made where it is missing."""

    root: str = "/var/lib/hyperd"
    state: str = "/run/hyperd"
    runv: str = ""
    monitor: str = ""
    log_level: str = "info"
    root_size_mib: _Count = 10240
    machine_image: str = "busybox"
    create_parallel: _Count = 4
    ready_machines: Annotated[int, msgspec.Meta(ge=0, le=64)] = 1
    kept_events: _Count = 10000
    secrets_key: str = ""
    api: Api = Api()
    restart: Restart = Restart()
    timeouts: Timeouts = Timeouts()
    machines: Machines = Machines()
    images: Images = Images()
    network: Network = Network()

    @property
    def runv_root(self) -> Path:
        """The state root of runv's containers."""
        return Path(self.state) / "runv"

    @property
    def database(self) -> Path:
        """The store."""
        return Path(self.root) / "hyperd.db"

    @property
    def key_file(self) -> Path:
        """The key that secrets are sealed with."""
        return Path(self.secrets_key) if self.secrets_key else Path(self.root) / "secrets.key"

    def pod_state(self, pod: str) -> Path:
        """The folder for what of a pod ends with the host."""
        return Path(self.state) / "pods" / pod

    def pod_root(self, pod: str) -> Path:
        """The folder for what of a pod stays: its disks and logs."""
        return Path(self.root) / "pods" / pod


def load(path: str = "") -> Config:
    """Reads the file; without ``path`` the default one, which need not exist.

    :raise InvalidError: it cannot be read, is not TOML, has an unknown key or a value that cannot be
    """
    try:
        data = tomllib.loads(Path(path or CONFIG_PATH).read_text())
    except FileNotFoundError:
        if path:
            raise InvalidError(f"cannot read {path}: No such file or directory") from None
        data = {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidError(f"cannot read {path or CONFIG_PATH}: {getattr(error, 'strerror', None) or error}") from error
    return parse(data, path or CONFIG_PATH)


def parse(data: object, source: str) -> Config:
    """Checks what a file said.

    :raise InvalidError: naming the key
    """
    try:
        config = msgspec.convert(data, Config)
    except msgspec.ValidationError as error:
        raise InvalidError(f"{source}: {error}", hint="`hyperd config show` lists all settings") from None
    _check(config, source)
    return config


def _check(config: Config, source: str) -> None:
    for name, value in (("root", config.root), ("state", config.state), ("api.socket", config.api.socket), ("secrets_key", config.secrets_key or "/")):
        if not value.startswith("/"):
            raise InvalidError(f"{source}: {name} must be an absolute path, not {value!r}")
    if config.log_level not in ("debug", "info", "warning", "error"):
        raise InvalidError(f"{source}: log_level must be debug, info, warning or error, not {config.log_level!r}")
    if config.restart.limit_s < config.restart.base_s:
        raise InvalidError(f"{source}: restart.limit_s must not be less than restart.base_s")
    _check_network(config.network, source)
    _check_tcp(config.api, source)


def _check_network(network: Network, source: str) -> None:
    for name, value in (("subnet", network.subnet), ("pool", network.pool)):
        try:
            ipaddress.ip_network(value)
        except ValueError as error:
            raise InvalidError(f"{source}: network.{name}: {error}", hint="it is written 192.168.123.0/24") from None
    for address in network.resolvers:
        try:
            ipaddress.ip_address(address)
        except ValueError as error:
            raise InvalidError(f"{source}: network.resolvers: {error}") from None
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,15}", network.bridge):
        raise InvalidError(f"{source}: network.bridge: {network.bridge!r} is no name of a link", hint="at most 15 letters, digits, '-', '_' and '.'")
    if network.mark & (network.mark - 1):
        raise InvalidError(f"{source}: network.mark must be one bit, as {1 << 20:#x}, and not {network.mark:#x}")


def check_host(config: Config, source: str) -> list[str]:
    """What of the host the settings name; what is amiss and yet no error, in sentences.

    :raise InvalidError: a program or a certificate cannot be used
    """
    for name, program in (("runv", config.runv), ("monitor", config.monitor)):
        if program and shutil.which(program) is None:
            raise InvalidError(f"{source}: {name}: there is no program {program}", hint="leave it out for the one that is installed beside hyperd")
    tls = config.api.tls
    if tls.certificate:
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls.certificate, tls.key)
            context.load_verify_locations(tls.authority)
        except (OSError, ValueError) as error:
            cause = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise InvalidError(f"{source}: api.tls: its certificate, key and authority cannot be used: {cause}", hint="`hyperd cert init` makes them") from None
    try:
        grp.getgrnam(config.api.group)
    except KeyError:
        if config.api.group:
            return [f"there is no group {config.api.group}: only root may use the socket (`groupadd --system {config.api.group}`)"]
    return []


def _check_tcp(api: Api, source: str) -> None:
    tls = (api.tls.certificate, api.tls.key, api.tls.authority)
    if any(tls) and not all(tls):
        raise InvalidError(f"{source}: api.tls needs certificate, key and authority", hint="`hyperd cert init` makes them")
    if not api.listen:
        return
    host, port = split_address(api.listen, source)
    if not all(tls) and not api.plain_loopback:
        raise InvalidError(
            f"{source}: api.listen needs api.tls", hint="or api.plain_loopback = true, which lets every user of this host in"
        )
    if not all(tls) and host not in ("127.0.0.1", "::1", "localhost"):
        raise InvalidError(f"{source}: without api.tls only a loopback address can be listened on, not {host}:{port}")


def split_address(address: str, source: str) -> tuple[str, int]:
    """``HOST:PORT`` or ``[HOST]:PORT``.

    :raise InvalidError: it is neither
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 <= int(port) <= 65535:
        raise InvalidError(f"{source}: api.listen must be HOST:PORT, not {address!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)


def as_toml(config: Config) -> str:
    """All settings, as a file that says the same."""
    lines: list[str] = []
    _table(msgspec.to_builtins(config), "", lines)
    return "\n".join(lines).lstrip("\n") + "\n"


def _table(values: dict[str, object], name: str, lines: list[str]) -> None:
    if name and any(not isinstance(value, dict) for value in values.values()):
        lines += ["", f"[{name}]"]
    for key, value in values.items():
        if not isinstance(value, dict):
            lines.append(f"{_key(key)} = {_value(value)}")
    for key, value in values.items():
        if isinstance(value, dict):
            _table(value, f"{name}.{_key(key)}" if name else _key(key), lines)


def _key(text: str) -> str:
    return text if text.replace("_", "").replace("-", "").isalnum() and text.isascii() else _value(text)


def _value(value: object) -> str:
    # JSON's texts, numbers, booleans and lists of texts are TOML's as well.
    return msgspec.json.encode(value).decode()
