"""Kubernetes' core/v1 as far as a pod on one host can have it. Names and meanings: kubernetes.io/docs/reference, "Pod v1 core" and its parts.

A member of type ``Any`` is known and told as a warning, or refused, in ``pods``, ``containers`` and ``volumes``; unknown members are errors.
"""

from typing import Any

from msgspec import field

from hyperd.manifests.decode import Record
from hyperd.manifests.quantities import Quantity

Quantities = dict[str, Quantity]


class Metadata(Record, frozen=True):
    name: str = ""
    generate_name: str = ""
    namespace: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    creation_timestamp: Any = None
    deletion_grace_period_seconds: Any = None
    deletion_timestamp: Any = None
    finalizers: Any = None
    generation: Any = None
    managed_fields: Any = None
    owner_references: Any = None
    resource_version: Any = None
    self_link: Any = None
    uid: Any = None


class KeySelector(Record, frozen=True):
    key: str
    name: str
    optional: bool = False


class FieldSelector(Record, frozen=True):
    field_path: str
    api_version: str = "v1"


class ResourceSelector(Record, frozen=True):
    resource: str
    container_name: str = ""
    divisor: Quantity = 0


class ValueFrom(Record, frozen=True):
    config_map_key_ref: KeySelector | None = None
    secret_key_ref: KeySelector | None = None
    field_ref: FieldSelector | None = None
    resource_field_ref: ResourceSelector | None = None
    file_key_ref: Any = None


class Variable(Record, frozen=True):
    name: str
    value: str | None = None
    value_from: ValueFrom | None = None


class NameRef(Record, frozen=True):
    name: str
    optional: bool = False


class VariablesFrom(Record, frozen=True):
    prefix: str = ""
    config_map_ref: NameRef | None = None
    secret_ref: NameRef | None = None


class ContainerPort(Record, frozen=True):
    container_port: int
    host_port: int = 0
    host_ip: str = field(default="", name="hostIP")
    name: str = ""
    protocol: str = "TCP"


class VolumeMount(Record, frozen=True):
    name: str
    mount_path: str
    read_only: bool = False
    recursive_read_only: str = ""
    mount_propagation: str = ""
    sub_path: str = ""
    sub_path_expr: str = ""


class Header(Record, frozen=True):
    name: str
    value: str = ""


class Exec(Record, frozen=True):
    command: list[str] = []


class HttpGet(Record, frozen=True):
    port: int | str
    path: str = "/"
    scheme: str = "HTTP"
    host: str = ""
    http_headers: list[Header] = []


class TcpSocket(Record, frozen=True):
    port: int | str
    host: str = ""


class Grpc(Record, frozen=True):
    port: int
    service: str = ""


class Sleep(Record, frozen=True):
    seconds: int


class Probe(Record, frozen=True):
    exec: Exec | None = None
    http_get: HttpGet | None = None
    tcp_socket: TcpSocket | None = None
    grpc: Grpc | None = None
    initial_delay_seconds: int = 0
    period_seconds: int = 10
    timeout_seconds: int = 1
    success_threshold: int = 1
    failure_threshold: int = 3
    termination_grace_period_seconds: int | None = None


class Handler(Record, frozen=True):
    exec: Exec | None = None
    http_get: HttpGet | None = None
    tcp_socket: TcpSocket | None = None
    sleep: Sleep | None = None


class Lifecycle(Record, frozen=True):
    post_start: Handler | None = None
    pre_stop: Handler | None = None
    stop_signal: str = ""


class Requirements(Record, frozen=True):
    limits: Quantities = {}
    requests: Quantities = {}
    claims: Any = None


class Capabilities(Record, frozen=True):
    add: list[str] = []
    drop: list[str] = []


class Profile(Record, frozen=True):
    """``seccompProfile`` and ``appArmorProfile``."""

    type: str
    localhost_profile: str = ""


class SecurityContext(Record, frozen=True):
    run_as_user: int | None = None
    run_as_group: int | None = None
    run_as_non_root: bool | None = None
    privileged: bool = False
    read_only_root_filesystem: bool = False
    allow_privilege_escalation: bool | None = None
    capabilities: Capabilities | None = None
    seccomp_profile: Profile | None = None
    app_armor_profile: Profile | None = None
    proc_mount: str = ""
    se_linux_options: Any = None
    windows_options: Any = None


class Sysctl(Record, frozen=True):
    name: str
    value: str


class PodSecurityContext(Record, frozen=True):
    run_as_user: int | None = None
    run_as_group: int | None = None
    run_as_non_root: bool | None = None
    fs_group: int | None = None
    fs_group_change_policy: str = ""
    supplemental_groups: list[int] = []
    supplemental_groups_policy: str = ""
    sysctls: list[Sysctl] = []
    seccomp_profile: Profile | None = None
    app_armor_profile: Profile | None = None
    se_linux_change_policy: Any = None
    se_linux_options: Any = None
    windows_options: Any = None


class ResizePolicy(Record, frozen=True):
    resource_name: str
    restart_policy: str


class Container(Record, frozen=True):
    name: str
    image: str = ""
    image_pull_policy: str = ""
    command: list[str] = []
    args: list[str] = []
    env: list[Variable] = []
    env_from: list[VariablesFrom] = []
    working_dir: str = ""
    ports: list[ContainerPort] = []
    volume_mounts: list[VolumeMount] = []
    volume_devices: Any = None
    resources: Requirements = Requirements()
    resize_policy: list[ResizePolicy] = []
    restart_policy: str = ""
    restart_policy_rules: Any = None
    security_context: SecurityContext = SecurityContext()
    lifecycle: Lifecycle = Lifecycle()
    startup_probe: Probe | None = None
    readiness_probe: Probe | None = None
    liveness_probe: Probe | None = None
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
    termination_message_path: str = ""
    termination_message_policy: str = ""


class Item(Record, frozen=True):
    key: str
    path: str
    mode: int | None = None


class ConfigMapVolume(Record, frozen=True):
    name: str = ""
    default_mode: int | None = None
    items: list[Item] = []
    optional: bool = False


class SecretVolume(Record, frozen=True):
    secret_name: str = ""
    default_mode: int | None = None
    items: list[Item] = []
    optional: bool = False


class SecretProjection(Record, frozen=True):
    name: str = ""
    items: list[Item] = []
    optional: bool = False


class DownwardFile(Record, frozen=True):
    path: str
    field_ref: FieldSelector | None = None
    resource_field_ref: ResourceSelector | None = None
    mode: int | None = None


class DownwardVolume(Record, frozen=True):
    items: list[DownwardFile] = []
    default_mode: int | None = None


class Projection(Record, frozen=True):
    config_map: SecretProjection | None = None
    secret: SecretProjection | None = None
    downward_api: DownwardVolume | None = field(default=None, name="downwardAPI")
    service_account_token: Any = None
    cluster_trust_bundle: Any = None
    pod_certificate: Any = None


class ProjectedVolume(Record, frozen=True):
    sources: list[Projection] = []
    default_mode: int | None = None


class EmptyDirVolume(Record, frozen=True):
    medium: str = ""
    size_limit: Quantity | None = None


class HostPathVolume(Record, frozen=True):
    path: str
    type: str = ""


class ClaimVolume(Record, frozen=True):
    claim_name: str
    read_only: bool = False


class ClaimSpec(Record, frozen=True):
    access_modes: list[str] = []
    resources: Requirements = Requirements()
    volume_mode: str = "Filesystem"
    storage_class_name: Any = None
    selector: Any = None
    volume_name: Any = None
    data_source: Any = None
    data_source_ref: Any = None
    volume_attributes_class_name: Any = None


class Claim(Record, frozen=True):
    """A PersistentVolumeClaim, as a document or as a template in a StatefulSet or an ephemeral volume."""

    metadata: Metadata = Metadata()
    spec: ClaimSpec = ClaimSpec()
    api_version: str = ""
    kind: str = ""
    status: Any = None


class EphemeralVolume(Record, frozen=True):
    volume_claim_template: Claim


class Volume(Record, frozen=True):
    name: str
    empty_dir: EmptyDirVolume | None = None
    host_path: HostPathVolume | None = None
    config_map: ConfigMapVolume | None = None
    secret: SecretVolume | None = None
    projected: ProjectedVolume | None = None
    downward_api: DownwardVolume | None = field(default=None, name="downwardAPI")
    persistent_volume_claim: ClaimVolume | None = None
    ephemeral: EphemeralVolume | None = None
    # not supported; one entry each, so that the message says what they are
    aws_elastic_block_store: Any = field(default=None, name="awsElasticBlockStore")
    azure_disk: Any = None
    azure_file: Any = None
    cephfs: Any = None
    cinder: Any = None
    csi: Any = None
    fc: Any = None
    flex_volume: Any = None
    flocker: Any = None
    gce_persistent_disk: Any = None
    git_repo: Any = None
    glusterfs: Any = None
    image: Any = None
    iscsi: Any = None
    nfs: Any = None
    photon_persistent_disk: Any = None
    portworx_volume: Any = None
    quobyte: Any = None
    rbd: Any = None
    scale_io: Any = field(default=None, name="scaleIO")
    storageos: Any = None
    vsphere_volume: Any = None


class HostAlias(Record, frozen=True):
    ip: str
    hostnames: list[str] = []


class DnsOption(Record, frozen=True):
    name: str
    value: str | None = None


class DnsConfig(Record, frozen=True):
    nameservers: list[str] = []
    searches: list[str] = []
    options: list[DnsOption] = []


class Os(Record, frozen=True):
    name: str


class PodSpec(Record, frozen=True):
    containers: list[Container]
    init_containers: list[Container] = []
    ephemeral_containers: Any = None
    volumes: list[Volume] = []
    restart_policy: str = "Always"
    termination_grace_period_seconds: int = 30
    active_deadline_seconds: int | None = None
    hostname: str = ""
    hostname_override: str = ""
    subdomain: str = ""
    set_hostname_as_fqdn: bool = field(default=False, name="setHostnameAsFQDN")
    host_aliases: list[HostAlias] = []
    dns_policy: str = "ClusterFirst"
    dns_config: DnsConfig = DnsConfig()
    share_process_namespace: bool = False
    security_context: PodSecurityContext = PodSecurityContext()
    resources: Requirements = Requirements()
    host_network: bool = False
    host_pid: bool = field(default=False, name="hostPID")
    host_ipc: bool = field(default=False, name="hostIPC")
    host_users: bool = True
    os: Os | None = None
    enable_service_links: bool | None = None
    automount_service_account_token: bool | None = None
    affinity: Any = None
    image_pull_secrets: Any = None
    node_name: Any = None
    node_selector: Any = None
    overhead: Any = None
    preemption_policy: Any = None
    priority: Any = None
    priority_class_name: Any = None
    readiness_gates: Any = None
    resource_claims: Any = None
    runtime_class_name: Any = None
    scheduler_name: Any = None
    scheduling_gates: Any = None
    service_account: Any = None
    service_account_name: Any = None
    tolerations: Any = None
    topology_spread_constraints: Any = None


class Pod(Record, frozen=True):
    spec: PodSpec
    metadata: Metadata = Metadata()
    api_version: str = ""
    kind: str = ""
    status: Any = None


class ConfigMap(Record, frozen=True):
    metadata: Metadata
    data: dict[str, str] = {}
    binary_data: dict[str, str] = {}
    immutable: bool = False
    api_version: str = ""
    kind: str = ""


class Secret(Record, frozen=True):
    metadata: Metadata
    data: dict[str, str] = {}
    string_data: dict[str, str] = {}
    immutable: bool = False
    type: str = ""
    api_version: str = ""
    kind: str = ""
