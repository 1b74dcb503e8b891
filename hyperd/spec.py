"""What a pod is to be: the one form that pod files of every kind become, and that is stored.

Names and meanings are those of Kubernetes' core/v1 where it has them. Times are in seconds, sizes in bytes unless the name says otherwise.
"""

from typing import Literal

import msgspec

RestartPolicy = Literal["never", "on-failure", "always", "unless-stopped"]
Protocol = Literal["tcp", "udp", "sctp"]


class Spec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A record of a specification: unknown fields are errors."""


class Port(Spec, frozen=True):
    """``host_port`` 0: not published. ``host_ip`` empty: all addresses."""

    container_port: int
    host_port: int = 0
    host_ip: str = ""
    protocol: Protocol = "tcp"
    name: str = ""


class Mount(Spec, frozen=True):
    """Where a volume of the pod is seen. ``sub_path`` is relative to the volume, and stays within it."""

    volume: str
    path: str
    read_only: bool = False
    sub_path: str = ""
    propagation: Literal["", "none", "host-to-container", "bidirectional"] = ""


class File(Spec, frozen=True):
    """A file that is put in: text, or base64 of bytes. ``mode`` as in chmod(2).

    ``source``: a file of the host that is read for it when the container is made, in the same encoding; ``content`` is empty then.
    """

    path: str
    content: str = ""
    source: str = ""
    encoding: Literal["raw", "base64"] = "raw"
    mode: int = 0o755
    user: str = ""
    group: str = ""


class Resources(Spec, frozen=True):
    """Limits of one container. 0: none. ``cpus`` are those of a quota, 0.5 is half of one. ``swap`` is what may be swapped beside ``memory``.

    The requests are no limits: the machine is made that large, where the pod does not say how large.
    """

    cpus: float = 0.0
    cpu_shares: int = 0
    memory: int = 0
    swap: int = 0
    pids: int = 0
    request_cpus: float = 0.0
    request_memory: int = 0


class Probe(Spec, frozen=True):
    """Exactly one of ``command``, ``http`` (path, port, scheme, host, headers), ``tcp_port`` and ``grpc_port``.

    ``tcp_host`` empty: the pod's own address. ``termination_grace_s`` None: the pod's.
    """

    command: tuple[str, ...] = ()
    http: "HttpGet | None" = None
    tcp_port: int = 0
    tcp_host: str = ""
    grpc_port: int = 0
    grpc_service: str = ""
    initial_delay_s: float = 0.0
    period_s: float = 10.0
    timeout_s: float = 1.0
    successes: int = 1
    failures: int = 3
    termination_grace_s: float | None = None


class Healthcheck(Spec, frozen=True):
    """Docker's: a command that is run in the container now and then. ``test`` is ``("CMD", program, ...)``, ``("CMD-SHELL", line)`` or ``("NONE",)``;
    empty: the image's. 0: what the image says, else Docker's default (30 s, 30 s, 0 s, 5 s, 3).

    Failures do not count in the first ``start_period_s``, in which it is run each ``start_interval_s``.
    """

    test: tuple[str, ...] = ()
    interval_s: float = 0.0
    timeout_s: float = 0.0
    start_period_s: float = 0.0
    start_interval_s: float = 0.0
    retries: int = 0


class HttpGet(Spec, frozen=True):
    """Any status from 200 to 399 is a success. ``host`` empty: the pod's own address."""

    port: int
    path: str = "/"
    scheme: Literal["http", "https"] = "http"
    host: str = ""
    headers: tuple[tuple[str, str], ...] = ()


class Handler(Spec, frozen=True):
    """What is done after a start or before a stop; one of them."""

    command: tuple[str, ...] = ()
    http: HttpGet | None = None
    sleep_s: float = 0.0


class Security(Spec, frozen=True):
    """Of a container. ``user`` is ``name-or-uid[:group-or-gid]``, empty: as the image says. ``group`` goes before that of either.

    Capabilities are added to and dropped from Docker's default set; "ALL" is all of them.
    """

    user: str = ""
    group: str = ""
    additional_groups: tuple[str, ...] = ()
    privileged: bool = False
    read_only_root: bool = False
    no_new_privileges: bool = False
    run_as_non_root: bool = False
    add_capabilities: tuple[str, ...] = ()
    drop_capabilities: tuple[str, ...] = ()
    seccomp: Literal["default", "unconfined"] = "default"


class Ulimit(Spec, frozen=True):
    """``name`` as in Docker: nofile, nproc, ..."""

    name: str
    soft: int
    hard: int


class Log(Spec, frozen=True):
    """``max_size`` 0: never rotated."""

    driver: Literal["json-file", "cri", "none"] = "json-file"
    path: str = ""
    max_size: int = 10 << 20
    max_files: int = 3


Late = Literal["pod-ip", "pod-ips", "host-ip", "host-ips", "node-name", "pod-uid"]


class Container(Spec, frozen=True):
    """``command`` replaces the image's entrypoint and its command, ``args`` its command. ``restart`` None: the pod's; ``restart_retries`` goes with it:
    how often "on-failure" starts it again, 0: always. ``healthcheck`` None: there is none, whatever the image says.

    ``environment`` keeps its order. An init container with ``restart`` "always" is a sidecar: it is started in its turn and stays.
    ``secrets``: those whose values are shown to nobody. ``fields`` are variables whose values are known at the start only. If there are any, ``environment``, ``command`` and ``args`` are templates, in which
    ``$(NAME)`` is such a value and ``$$`` a dollar sign. ``stdin_once``: the input ends with the first who attached to it.
    """

    name: str
    image: str
    pull: Literal["always", "missing", "never"] = "missing"
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    secrets: tuple[str, ...] = ()
    fields: tuple[tuple[str, Late], ...] = ()
    working_dir: str = ""
    tty: bool = False
    stdin: bool = False
    stdin_once: bool = False
    mounts: tuple[Mount, ...] = ()
    files: tuple[File, ...] = ()
    ports: tuple[Port, ...] = ()
    resources: Resources = Resources()
    security: Security = Security()
    ulimits: tuple[Ulimit, ...] = ()
    labels: dict[str, str] = {}
    restart: RestartPolicy | None = None
    restart_retries: int = 0
    stop_signal: str = ""
    healthcheck: Healthcheck | None = None
    startup_probe: Probe | None = None
    readiness_probe: Probe | None = None
    liveness_probe: Probe | None = None
    post_start: Handler | None = None
    pre_stop: Handler | None = None
    root_size: int = 0
    log: Log | None = None


class EmptyDir(Spec, frozen=True, tag="empty", tag_field="kind"):
    """Lives as long as the pod. ``medium`` memory: a tmpfs of the guest."""

    medium: Literal["disk", "memory"] = "disk"
    size: int = 0


class HostPath(Spec, frozen=True, tag="host", tag_field="kind"):
    """A file or directory of the host. ``type`` as in Kubernetes: what it must be, or is made as."""

    path: str
    type: str = ""


class Named(Spec, frozen=True, tag="named", tag_field="kind"):
    """A volume of hyperd's, by name; made with this size when it is missing. It is populated from the image where that has something at its path."""

    name: str
    size: int = 10 << 30
    read_only: bool = False


class Image(Spec, frozen=True, tag="image", tag_field="kind"):
    """A disk image, raw or qcow2, attached as it is and mounted. ``cache``: QEMU's mode, empty for writeback."""

    path: str
    format: Literal["raw", "qcow2"] = "raw"
    fstype: str = ""
    cache: str = ""
    read_only: bool = False


class Projected(Spec, frozen=True, tag="files", tag_field="kind"):
    """Files that the manifest's ConfigMaps, Secrets and downward API became; read-only. Paths are relative."""

    files: tuple[File, ...] = ()
    secret: bool = False


Source = EmptyDir | HostPath | Named | Image | Projected


class Volume(Spec, frozen=True):
    """What mounts of the pod's containers refer to."""

    name: str
    source: Source


class Interface(Spec, frozen=True):
    """A card of the pod's in a network of hyperd's. Empty: allocated, or the network's. ``bandwidth`` in bits per second, 0: unlimited."""

    network: str = "default"
    name: str = ""
    addresses: tuple[str, ...] = ()
    mac: str = ""
    mtu: int = 0
    ingress_bandwidth: int = 0
    egress_bandwidth: int = 0
    aliases: tuple[str, ...] = ()


class Dns(Spec, frozen=True):
    """``policy`` default: beside what the networks say, whose own server forwards to the host's. none: nothing but this."""

    policy: Literal["default", "none"] = "default"
    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


class HostAlias(Spec, frozen=True):
    """A line of /etc/hosts."""

    ip: str
    names: tuple[str, ...]


class Pod(Spec, frozen=True):
    """``vcpus`` and ``memory_mib`` 0: runv's defaults, or what the limits of the containers need. ``hostname`` empty: the name.

    ``namespace`` is remembered for whoever asks, and separates nothing. ``fs_group``: a group that all containers are in, and that the pod's volumes belong to.
    """

    name: str
    namespace: str = ""
    hostname: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    vcpus: int = 0
    memory_mib: int = 0
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    volumes: tuple[Volume, ...] = ()
    interfaces: tuple[Interface, ...] = (Interface(),)
    ports: tuple[Port, ...] = ()
    dns: Dns = Dns()
    host_aliases: tuple[HostAlias, ...] = ()
    sysctls: dict[str, str] = {}
    restart: RestartPolicy = "never"
    restart_retries: int = 0
    share_pids: bool = False
    fs_group: int | None = None
    termination_grace_s: float = 10.0
    active_deadline_s: float = 0.0
    log: Log = Log()
