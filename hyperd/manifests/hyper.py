"""The original pod format of hyperd, JSON or YAML. Go's decoder took its members in any case, so does this."""

import re
from typing import Any, Literal, NamedTuple
from urllib.parse import unquote, urlsplit

from msgspec import field

from hyperd import signals, spec
from hyperd.errors import InvalidError
from hyperd.manifests import names
from hyperd.manifests.decode import Record, decode
from hyperd.manifests.portmap import port_map
from hyperd.manifests.quantities import whole


class Environment(Record, frozen=True):
    env: str
    value: str = ""


class ContainerPort(Record, frozen=True):
    container_port: int
    host_port: int = 0
    service_port: int = 0
    protocol: str = ""


class Ulimit(Record, frozen=True):
    name: str
    hard: int
    soft: int


class User(Record, frozen=True):
    name: str = ""
    group: str = ""
    additional_groups: list[str] = []


class File(Record, frozen=True):
    name: str = ""
    encoding: str = ""
    uri: str = ""
    content: str = ""


class FileReference(Record, frozen=True):
    path: str
    filename: str = ""
    perm: str | int = "0755"
    user: str = ""
    group: str = ""
    detail: File | None = None


class Volume(Record, frozen=True):
    name: str
    source: str = ""
    format: str = ""
    fstype: str = ""
    cache: str = ""
    option: dict[str, Any] = {}


class VolumeReference(Record, frozen=True):
    path: str
    volume: str = ""
    read_only: bool = False
    detail: Volume | None = None


class Container(Record, frozen=True):
    image: str
    name: str = ""
    id: str = ""
    workdir: str = ""
    restart_policy: str = ""
    tty: bool | None = None
    sysctl: dict[str, str] = {}
    envs: list[Environment] = []
    command: list[str] = []
    entrypoint: list[str] = []
    ports: list[ContainerPort] = []
    volumes: list[VolumeReference] = []
    files: list[FileReference] = []
    user: User = User()
    labels: dict[str, str] = {}
    stop_signal: str = ""
    ulimits: list[Ulimit] = []
    log_path: str = ""
    read_only: bool = False
    cache: str = ""


class Resource(Record, frozen=True):
    """``memory`` in MiB."""

    vcpu: int = 0
    memory: int = 0


class Logger(Record, frozen=True):
    type: str = ""
    config: dict[str, str | int] = {}


class Interface(Record, frozen=True):
    bridge: str = ""
    ip: str = ""
    ifname: str = ""
    mac: str = ""
    mtu: int = 0
    gateway: str = ""
    id: str = ""


class PortMapping(Record, frozen=True):
    container_port: str | int
    host_port: str | int = ""
    protocol: str = ""


class Pod(Record, frozen=True):
    id: str = ""
    name: str = ""
    hostname: str = ""
    type: str = ""
    restart_policy: str = ""
    tty: bool = False
    labels: dict[str, str] = {}
    resource: Resource = Resource()
    log: Logger = Logger()
    dns: list[str] = []
    dns_options: list[str] = []
    dns_search: list[str] = []
    containers: list[Container] = []
    files: list[File] = []
    volumes: list[Volume] = []
    interfaces: list[Interface] = []
    services: list[Any] = []
    portmappings: list[PortMapping] = []
    port_mapping_white_lists: Any = field(default=None, name="portmappingWhiteLists")


_RECORDS = (
    Environment, ContainerPort, Ulimit, User, File, FileReference, Volume, VolumeReference, Container, Resource, Logger, Interface, PortMapping, Pod,
)  # fmt: skip
_KNOWN: dict[str, str] = {name.lower(): name for record in _RECORDS for name in record.__struct_encode_fields__}
_OPEN = {"labels", "sysctl", "option", "config"}
_RESTARTS: dict[str, spec.RestartPolicy] = {"never": "never", "no": "never", "onfailure": "on-failure", "always": "always"}
_CACHES = ("off", "none", "directsync", "writeback", "unsafe", "writethrough")
_LATER = {"vdi": "VirtualBox's images", "rbd": "Ceph", "nas": "NFS"}


class _Made(NamedTuple):
    """What the pod's containers refer to and add to."""

    files: dict[str, File]
    volumes: dict[str, spec.Volume]
    sysctls: dict[str, str]
    warnings: list[str]


def read(document: Any, suffix: str, warnings: list[str]) -> spec.Pod:
    """``suffix`` ends the name of a pod that has none.

    :raise InvalidError: names the path of what is wrong
    """
    found = decode(_spelled(document), Pod)
    _check_support(found, warnings)
    made = _Made({}, {}, {}, warnings)
    for index, file in enumerate(found.files):
        if not file.name or file.name in made.files:
            raise InvalidError(f"files[{index}].name: {'missing' if not file.name else f'{file.name!r} is there twice'}")
        made.files[file.name] = file
    for index, volume in enumerate(found.volumes):
        _add_volume(volume, f"volumes[{index}]", made)
    log = _log(found.log, "log")
    taken = {each.name for each in found.containers if each.name}
    containers = tuple(_container(each, f"containers[{index}]", found, log, taken, made) for index, each in enumerate(found.containers))
    name = found.id or found.name or f"{_short(found.containers[0].image) if found.containers else 'pod'}-{suffix}"
    return spec.Pod(
        name=name,
        hostname=found.hostname,
        labels=found.labels,
        vcpus=found.resource.vcpu,
        memory_mib=found.resource.memory,
        containers=containers,
        volumes=tuple(made.volumes.values()),
        interfaces=_interfaces(found.interfaces, warnings) or (spec.Interface(),),
        ports=tuple(port for index, each in enumerate(found.portmappings) for port in _mapping(each, f"portmappings[{index}]")),
        dns=spec.Dns(
            # names of its own replace the networks', as they replaced the host's
            policy="none" if found.dns else "default",
            servers=tuple(found.dns),
            searches=tuple(found.dns_search),
            options=tuple(found.dns_options),
        ),
        sysctls=made.sysctls,
        restart=_restart(found.restart_policy, "restartPolicy") or "never",
        log=log,
    )


def _spelled(value: Any, open_map: bool = False) -> Any:
    """With the members spelled as the format has them."""
    if isinstance(value, list):
        return [_spelled(member) for member in value]
    if not isinstance(value, dict):
        return value
    if open_map:
        return value
    found: dict[str, Any] = {}
    for key, member in value.items():
        name = _KNOWN.get(str(key).lower(), str(key))
        if name in found:
            raise InvalidError(f"{name}: is there twice, in different spellings")
        found[name] = _spelled(member, name in _OPEN)
    return found


def _check_support(found: Pod, warnings: list[str]) -> None:
    if found.services:
        raise InvalidError("services are not supported", hint="publish ports by portmappings; pods of a network know each other by name")
    if found.port_mapping_white_lists:
        raise InvalidError("portmappingWhiteLists is not supported", hint="networks are isolated from each other, and a port can be published on one address of the host")
    if found.id and found.name and found.id != found.name:
        raise InvalidError(f"name: {found.name[:80]!r} is not the id, {found.id[:80]!r}", hint="id is the name; leave one of them out")
    if found.type:
        warnings.append(f"type {found.type[:80]!r} is ignored")


def _container(found: Container, path: str, pod: Pod, log: spec.Log, taken: set[str], made: _Made) -> spec.Container:
    for name, given in (("id", found.id), ("cache", found.cache)):
        if given:
            made.warnings.append(f"{path}.{name} is ignored")
    for key, value in found.sysctl.items():
        if made.sysctls.setdefault(key, value) != value:
            raise InvalidError(f"{path}.sysctl[{key}]: another container sets it to {made.sysctls[key]!r}, and a pod has one")
    tty = pod.tty if found.tty is None else found.tty
    return spec.Container(
        name=found.name or _free_name(_short(found.image), taken),
        image=found.image,
        command=tuple(found.entrypoint),
        args=tuple(found.command),
        environment=tuple((each.env, each.value) for each in found.envs),
        working_dir=found.workdir,
        tty=tty,
        stdin=tty,
        mounts=tuple(_mount(each, f"{path}.volumes[{index}]", made) for index, each in enumerate(found.volumes)),
        files=tuple(_file(each, f"{path}.files[{index}]", made) for index, each in enumerate(found.files)),
        ports=tuple(_port(each, f"{path}.ports[{index}]", made) for index, each in enumerate(found.ports)),
        security=spec.Security(
            user=found.user.name,
            group=found.user.group,
            additional_groups=tuple(found.user.additional_groups),
            read_only_root=found.read_only,
        ),
        ulimits=tuple(spec.Ulimit(name=each.name, soft=each.soft, hard=each.hard) for each in found.ulimits),
        labels=found.labels,
        restart=_restart(found.restart_policy, f"{path}.restartPolicy"),
        stop_signal=signals.name_of(found.stop_signal, f"{path}.StopSignal") if found.stop_signal else "",
        log=spec.Log(driver=log.driver, path=found.log_path, max_size=log.max_size, max_files=log.max_files) if found.log_path else None,
    )


def _short(image: str) -> str:
    """``registry:5000/library/Busy_Box:1`` -> ``busy-box``."""
    last = image.partition("@")[0].rpartition("/")[2].partition(":")[0]
    return re.sub(r"[^a-z0-9]+", "-", last.lower()).strip("-")[:40].rstrip("-") or "container"


def _free_name(name: str, taken: set[str]) -> str:
    number = 1
    own = name
    while own in taken:
        number += 1
        own = f"{name}-{number}"
    taken.add(own)
    return own


def _restart(text: str, path: str) -> spec.RestartPolicy | None:
    """None: it does not say. Spelled as one likes: ``onFailure``, ``on-failure``."""
    if not text:
        return None
    found = _RESTARTS.get(text.lower().replace("-", "").replace("_", ""))
    if found is None:
        raise InvalidError(f"{path}: {text[:80]!r} is none of never, onFailure, always")
    return found


def _log(found: Logger, path: str) -> spec.Log:
    config = dict(found.config)
    size, count = config.pop("max-size", None), config.pop("max-file", None)
    if config:
        raise InvalidError(f"{path}.config: unknown option {sorted(config)[0][:80]!r}", hint="there are max-size and max-file")
    driver: Literal["json-file", "none"] = "none" if found.type == "none" else "json-file"
    if found.type not in ("", "json-file", "none"):
        raise InvalidError(f"{path}.type: {found.type[:80]!r} is not supported", hint="there are json-file and none")
    return spec.Log(
        driver=driver,
        max_size=spec.Log().max_size if size is None else _bytes(str(size), f"{path}.config[max-size]"),
        max_files=spec.Log().max_files if count is None else whole(count, f"{path}.config[max-file]"),
    )


def _bytes(text: str, path: str) -> int:
    """Docker's sizes: ``10m`` are mebibytes."""
    found = re.fullmatch(r"([0-9]{1,15})([kmg]?)b?", text.lower())
    if found is None:
        raise InvalidError(f"{path}: {text[:80]!r} is not a size", hint="such as 10m")
    return int(found[1]) << {"": 0, "k": 10, "m": 20, "g": 30}[found[2]]


def _port(found: ContainerPort, path: str, made: _Made) -> spec.Port:
    if found.service_port:
        made.warnings.append(f"{path}.servicePort is ignored: there are no services")
    return spec.Port(
        container_port=names.port(found.container_port, f"{path}.containerPort"),
        host_port=names.port(found.host_port, f"{path}.hostPort") if found.host_port else 0,
        protocol=_protocol(found.protocol, path),
    )


def _mapping(found: PortMapping, path: str) -> tuple[spec.Port, ...]:
    return port_map(str(found.host_port), str(found.container_port), _protocol(found.protocol, path), f"{path}.hostPort", f"{path}.containerPort")


def _protocol(text: str, path: str) -> spec.Protocol:
    found: dict[str, spec.Protocol] = {"": "tcp", "tcp": "tcp", "udp": "udp", "sctp": "sctp"}
    if text.lower() not in found:
        raise InvalidError(f"{path}.protocol: {text[:80]!r} is none of tcp, udp, sctp")
    return found[text.lower()]


def _mount(found: VolumeReference, path: str, made: _Made) -> spec.Mount:
    if found.detail is not None:
        if found.volume and found.volume != found.detail.name:
            raise InvalidError(f"{path}.volume: {found.volume[:80]!r} is not the name in detail")
        if found.detail.name not in made.volumes or made.volumes[found.detail.name].source != _source(found.detail, f"{path}.detail"):
            _add_volume(found.detail, f"{path}.detail", made)
    name = found.detail.name if found.detail else found.volume
    if name not in made.volumes:
        raise InvalidError(f"{path}.volume: there is no volume {name[:80]!r}")
    return spec.Mount(volume=name, path=names.absolute(found.path, f"{path}.path"), read_only=found.read_only)


def _add_volume(found: Volume, path: str, made: _Made) -> None:
    if not found.name or found.name in made.volumes:
        raise InvalidError(f"{path}.name: {f'{found.name[:80]!r} is there twice' if found.name else 'missing'}")
    made.volumes[found.name] = spec.Volume(name=found.name, source=_source(found, path))
    if found.cache and found.cache.lower() != "writeback":
        made.warnings.append(f"{path}.cache is ignored: disks are written back through the host's page cache")


def _source(found: Volume, path: str) -> spec.Source:
    kind = found.format.lower()
    if kind in _LATER:
        raise InvalidError(f"{path}.format: {kind} ({_LATER[kind]}) is not supported yet", hint="there are raw, qcow2 and vfs")
    if kind not in ("", "raw", "qcow2", "vfs"):
        raise InvalidError(f"{path}.format: {found.format[:80]!r} is none of raw, qcow2, vfs")
    if found.option:
        raise InvalidError(f"{path}.option: is for rbd only, which is not supported yet")
    if not found.source:
        # made with the pod and removed with it
        return spec.EmptyDir()
    if kind in ("raw", "qcow2"):
        if found.cache.lower() not in ("", *_CACHES):
            raise InvalidError(f"{path}.cache: {found.cache[:80]!r} is none of {', '.join(_CACHES)}")
        return spec.Image(
            path=names.absolute(found.source, f"{path}.source"),
            format="raw" if kind == "raw" else "qcow2",
            fstype=found.fstype,
        )
    if found.cache:
        raise InvalidError(f"{path}.cache: is for raw and qcow2 only")
    if kind == "" and not found.source.startswith("/"):
        return spec.Named(name=found.source)
    return spec.HostPath(path=names.absolute(found.source, f"{path}.source"))


def _file(found: FileReference, path: str, made: _Made) -> spec.File:
    file = found.detail or made.files.get(found.filename)
    if file is None:
        raise InvalidError(f"{path}.filename: there is no file {found.filename[:80]!r}")
    encoding = file.encoding.lower() or "raw"
    if encoding not in ("raw", "base64"):
        raise InvalidError(f"{path}: encoding {file.encoding[:80]!r} is neither raw nor base64")
    if file.uri and file.content:
        raise InvalidError(f"{path}: the file has a uri and content")
    target = names.absolute(found.path, f"{path}.path")
    return spec.File(
        path=target + (file.name or found.filename) if target.endswith("/") else target,
        content=file.content,
        source=_local(file.uri, f"{path}: uri") if file.uri else "",
        encoding="base64" if encoding == "base64" else "raw",
        mode=_mode(found.perm, f"{path}.perm"),
        user=found.user,
        group=found.group,
    )


def _local(uri: str, path: str) -> str:
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise InvalidError(f"{path}: {uri[:80]!r} is not a URI") from error
    if parts.scheme in ("http", "https"):
        raise InvalidError(f"{path}: files are not fetched from the network", hint="put the content into the pod file, or name a local file")
    if parts.scheme not in ("", "file") or parts.netloc not in ("", "localhost"):
        raise InvalidError(f"{path}: {uri[:80]!r} is not a local file", hint="such as file:///etc/motd")
    return names.absolute(unquote(parts.path), path)


def _mode(perm: str | int, path: str) -> int:
    """Text is octal, and so is what is written as a number in YAML; a JSON number is as in chmod(2)."""
    if isinstance(perm, str) and re.fullmatch(r"[0-7]{1,5}", perm):
        perm = int(perm, 8)
    if isinstance(perm, str) or not 0 <= perm <= 0o7777:
        raise InvalidError(f"{path}: {str(perm)[:80]!r} is not a mode", hint='such as "0755"')
    return perm


def _interfaces(found: list[Interface], warnings: list[str]) -> tuple[spec.Interface, ...]:
    if len([each for each in found if each.gateway]) > 1:
        raise InvalidError("interfaces: only one can have a gateway")
    made = []
    for index, each in enumerate(found):
        for name, given in (("gateway", each.gateway), ("id", each.id)):
            if given:
                warnings.append(f"interfaces[{index}].{name} is ignored" + (": a network has its own" if name == "gateway" else ""))
        made.append(
            spec.Interface(
                network=each.bridge or "default",
                name=each.ifname,
                addresses=(each.ip,) if each.ip else (),
                mac=each.mac,
                mtu=each.mtu,
            )
        )
    return tuple(made)
