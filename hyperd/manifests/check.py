"""The rules of the canonical form, whatever it was made from. Paths are those of ``hyperd.spec``."""

import base64
import binascii
import ipaddress
import math
import re
from collections.abc import Iterator

from hyperd import signals, spec
from hyperd.errors import InvalidError
from hyperd.manifests import names
from hyperd.manifests.weight import check_weight, weight_of
from runv.spec.capabilities import CAPABILITIES
from runv.spec.process_rules import RLIMITS
from runv.storage.words import DISK_TYPES

_NAME = re.compile(r"[a-zA-Z0-9][-a-zA-Z0-9_.]{0,252}")
_DNS_LABEL = re.compile(r"[a-zA-Z0-9_]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9_])?")
_LINK = re.compile(r"[^/:\s]{1,15}")
_MAC = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")
_MEMORY_LEAST = 4 << 20
_SECONDS_MAX = 2**31
_HEALTH_LEAST_S = 0.001


def check_pod(pod: spec.Pod) -> None:
    """:raise InvalidError: names the path of the first thing that is wrong"""
    _name(pod.name, "name")
    if not _dns(pod.name):
        raise InvalidError(f"name: {pod.name[:80]!r} cannot be a name of DNS", hint="between dots there are 1 to 63 characters, the last a letter or digit")
    if pod.hostname:
        names.dns_subdomain(pod.hostname, "hostname")
        if len(pod.hostname) > 63:
            raise InvalidError(f"hostname: {pod.hostname!r} has more than 63 characters")
    _labels(pod.labels, "labels")
    _range(pod.vcpus, 0, 255, "vcpus")
    _range(pod.memory_mib, 0, 1 << 24, "memory_mib")
    if 0 < pod.memory_mib < 64:
        raise InvalidError(f"memory_mib: {pod.memory_mib} is too little for a machine", hint="at least 64")
    _retries(pod.restart, pod.restart_retries, "")
    _seconds(pod.termination_grace_s, "termination_grace_s")
    _seconds(pod.active_deadline_s, "active_deadline_s")
    if pod.fs_group is not None:
        _range(pod.fs_group, 0, 2**32 - 2, "fs_group")
    check_weight(weight_of(pod), "the pod")
    volumes = {volume.name for volume in pod.volumes}
    for where, each in _containers(pod):
        check_container(each, where, volumes)
    names.unique(((f"{where}.name", each.name) for where, each in _containers(pod)), "the container")
    for index, volume in enumerate(pod.volumes):
        _volume(volume, f"volumes[{index}]")
    names.unique(((f"volumes[{index}].name", volume.name) for index, volume in enumerate(pod.volumes)), "the volume")
    _network(pod)
    for key, value in pod.sysctls.items():
        if not key or any(char <= " " for char in key) or "\0" in value or ".." in key:
            raise InvalidError(f"sysctls: {key[:80]!r} is not a sysctl")


def _containers(pod: spec.Pod) -> Iterator[tuple[str, spec.Container]]:
    yield from ((f"init_containers[{index}]", each) for index, each in enumerate(pod.init_containers))
    yield from ((f"containers[{index}]", each) for index, each in enumerate(pod.containers))


def check_container(found: spec.Container, path: str, volumes: set[str]) -> None:
    """``volumes``: the names of the pod's.

    :raise InvalidError: as ``check_pod``
    """
    _name(found.name, f"{path}.name")
    if not found.image or any(char <= " " or char == "\x7f" for char in found.image):
        raise InvalidError(f"{path}.image: {found.image[:80]!r} is not the name of an image")
    for kind, words in (("command", found.command), ("args", found.args)):
        for index, word in enumerate(words):
            names.no_nul(word, f"{path}.{kind}[{index}]")
    if found.command and not found.command[0]:
        raise InvalidError(f"{path}.command[0]: must not be empty")
    for index, (name, value) in enumerate(found.environment):
        names.variable(name, f"{path}.environment[{index}]")
        names.no_nul(value, f"{path}.environment[{index}]")
    for index, name in enumerate(found.secrets):
        names.variable(name, f"{path}.secrets[{index}]")
    for index, (name, _) in enumerate(found.fields):
        names.variable(name, f"{path}.fields[{index}]")
    names.no_nul(found.working_dir, f"{path}.working_dir")
    for index, mount in enumerate(found.mounts):
        _mount(mount, f"{path}.mounts[{index}]", volumes)
    names.unique(((f"{path}.mounts[{index}].path", mount.path.rstrip("/")) for index, mount in enumerate(found.mounts)), "the mount at")
    for index, file in enumerate(found.files):
        names.absolute(file.path, f"{path}.files[{index}].path")
        check_file(file, f"{path}.files[{index}]")
    for index, port in enumerate(found.ports):
        check_port(port, f"{path}.ports[{index}]")
    _resources(found, path)
    _security(found.security, f"{path}.security")
    _ulimits(found.ulimits, f"{path}.ulimits")
    _labels(found.labels, f"{path}.labels")
    if found.stop_signal and signals.number_of(found.stop_signal) is None:
        raise InvalidError(f"{path}.stop_signal: {found.stop_signal[:80]!r} is not a signal")
    for kind in ("startup_probe", "readiness_probe", "liveness_probe"):
        _probe(getattr(found, kind), f"{path}.{kind}")
    _healthcheck(found.healthcheck, f"{path}.healthcheck")
    _retries(found.restart, found.restart_retries, path)
    for kind in ("post_start", "pre_stop"):
        _handler(getattr(found, kind), f"{path}.{kind}")


def _name(text: str, path: str) -> None:
    if not _NAME.fullmatch(text):
        raise InvalidError(f"{path}: {text[:80]!r} is not a name", hint="letters, digits, '_', '-' and '.', at most 253, the first a letter or digit")


def _dns(text: str) -> bool:
    return len(text) <= 200 and all(_DNS_LABEL.fullmatch(part) for part in text.split("."))


def _labels(found: dict[str, str], path: str) -> None:
    """Docker's labels: any text, under any key that can be told from others."""
    for key, value in found.items():
        if not key or "\0" in key + value or "=" in key or len(key) > 253:
            raise InvalidError(f"{path}: {key[:80]!r} is not the key of a label")


def _range(number: int, least: int, most: int, path: str) -> None:
    if not least <= number <= most:
        raise InvalidError(f"{path}: {number} is not a number from {least} to {most}")


def _seconds(number: float, path: str) -> None:
    if not math.isfinite(number) or not 0 <= number < _SECONDS_MAX:
        raise InvalidError(f"{path}: {number} is not a number of seconds")


def _mount(found: spec.Mount, path: str, volumes: set[str]) -> None:
    if found.volume not in volumes:
        raise InvalidError(f"{path}.volume: there is no volume {found.volume[:80]!r}")
    names.absolute(found.path, f"{path}.path")
    if not found.path.strip("/"):
        raise InvalidError(f"{path}.path: a volume cannot be the root")
    if found.sub_path:
        names.relative(found.sub_path, f"{path}.sub_path")
    if found.propagation == "bidirectional":
        raise InvalidError(f"{path}.propagation: bidirectional cannot be honoured: what the machine mounts stays in it")


def check_file(file: spec.File, path: str) -> None:
    _range(file.mode, 0, 0o7777, f"{path}.mode")
    if file.source:
        names.absolute(file.source, f"{path}.source")
        if file.content:
            raise InvalidError(f"{path}: only one of content and source can be given")
    if file.encoding == "base64":
        try:
            base64.b64decode("".join(file.content.split()), validate=True)
        except (binascii.Error, ValueError) as error:
            raise InvalidError(f"{path}.content: not base64: {error}") from error


def check_port(port: spec.Port, path: str) -> None:
    names.port(port.container_port, f"{path}.container_port")
    if port.host_port:
        names.port(port.host_port, f"{path}.host_port")
    if port.host_ip:
        names.address(port.host_ip, f"{path}.host_ip")


def _resources(found: spec.Container, path: str) -> None:
    limits = found.resources
    where = f"{path}.resources"
    for name in ("cpus", "request_cpus"):
        number = getattr(limits, name)
        if not math.isfinite(number) or not 0 <= number <= 4096:
            raise InvalidError(f"{where}.{name}: {number} is not a number of CPUs")
    if 0 < limits.cpus < 0.001:
        raise InvalidError(f"{where}.cpus: {limits.cpus} is less than a thousandth")
    for name in ("cpu_shares", "memory", "swap", "pids", "request_memory"):
        _range(getattr(limits, name), 0, 2**62, f"{where}.{name}")
    if limits.cpu_shares and not 2 <= limits.cpu_shares <= 262144:
        raise InvalidError(f"{where}.cpu_shares: {limits.cpu_shares} is not a number from 2 to 262144")
    if 0 < limits.memory < _MEMORY_LEAST:
        raise InvalidError(f"{where}.memory: {limits.memory} bytes are too few for a container", hint="at least 4 MiB; the unit m is a thousandth, M and Mi are meant")
    if limits.swap and not limits.memory:
        raise InvalidError(f"{where}.swap: needs a limit of memory")
    if found.root_size and not 1 << 20 <= found.root_size < 2**50:
        raise InvalidError(f"{path}.root_size: {found.root_size} is not a size from 1 MiB to 1 PiB")


def _security(found: spec.Security, path: str) -> None:
    for kind in ("add_capabilities", "drop_capabilities"):
        for index, name in enumerate(getattr(found, kind)):
            full = name.upper() if name.upper().startswith("CAP_") else f"CAP_{name.upper()}"
            if full not in CAPABILITIES and full != "CAP_ALL":
                raise InvalidError(f"{path}.{kind}[{index}]: {name[:80]!r} is not a capability")
    for kind, text in (("user", found.user), ("group", found.group), *(("additional_groups", name) for name in found.additional_groups)):
        if any(char <= " " or char == "\x7f" for char in text) or text.count(":") > (kind == "user"):
            raise InvalidError(f"{path}.{kind}: {text[:80]!r} is not a name or id")
        for part in text.split(":"):
            if part.isascii() and part.isdecimal() and (len(part) > 10 or int(part) >= 2**32 - 1):
                raise InvalidError(f"{path}.{kind}: {part[:80]} is not an id")
    if found.run_as_non_root and found.user.partition(":")[0] in ("0", "root"):
        raise InvalidError(f"{path}.user: is root, and run_as_non_root is set")


def _ulimits(found: tuple[spec.Ulimit, ...], path: str) -> None:
    for index, limit in enumerate(found):
        if f"RLIMIT_{limit.name.upper()}" not in RLIMITS:
            raise InvalidError(f"{path}[{index}].name: {limit.name[:80]!r} is not a limit", hint="such as nofile or nproc")
        for kind, value in (("soft", limit.soft), ("hard", limit.hard)):
            if not -1 <= value < 2**63:
                raise InvalidError(f"{path}[{index}].{kind}: {value} is not a limit", hint="-1 is none")
        if limit.hard != -1 and not 0 <= limit.soft <= limit.hard:
            raise InvalidError(f"{path}[{index}].soft: {limit.soft} is more than the hard limit, {limit.hard}")
    names.unique(((f"{path}[{index}].name", limit.name.upper()) for index, limit in enumerate(found)), "the limit")


def _probe(found: spec.Probe | None, path: str) -> None:
    if found is None:
        return
    given = [bool(found.command), found.http is not None, bool(found.tcp_port), bool(found.grpc_port)]
    if sum(given) != 1:
        raise InvalidError(f"{path}: needs exactly one of command, http, tcp_port and grpc_port")
    if found.http is not None:
        names.port(found.http.port, f"{path}.http.port")
    for kind in ("tcp_port", "grpc_port"):
        if getattr(found, kind):
            names.port(getattr(found, kind), f"{path}.{kind}")
    for kind in ("initial_delay_s", "period_s", "timeout_s", "termination_grace_s"):
        _seconds(getattr(found, kind) or 0.0, f"{path}.{kind}")
    if found.period_s <= 0 or found.timeout_s <= 0:
        raise InvalidError(f"{path}: period_s and timeout_s must be positive")
    _range(found.successes, 1, 1 << 31, f"{path}.successes")
    _range(found.failures, 1, 1 << 31, f"{path}.failures")


def _healthcheck(found: spec.Healthcheck | None, path: str) -> None:
    if found is None:
        return
    kind, rest = found.test[:1], found.test[1:]
    if kind not in ((), ("NONE",), ("CMD",), ("CMD-SHELL",)):
        raise InvalidError(f"{path}.test[0]: {found.test[0][:80]!r} is none of CMD, CMD-SHELL, NONE")
    if (kind == ("NONE",) and rest) or (kind == ("CMD",) and not rest) or (kind == ("CMD-SHELL",) and len(rest) != 1):
        raise InvalidError(f"{path}.test: {kind[0]} takes {'nothing' if kind == ('NONE',) else 'a program' if kind == ('CMD',) else 'one line'}")
    for index, word in enumerate(found.test):
        names.no_nul(word, f"{path}.test[{index}]")
    for name in ("interval_s", "timeout_s", "start_period_s", "start_interval_s"):
        number = getattr(found, name)
        _seconds(number, f"{path}.{name}")
        if 0 < number < _HEALTH_LEAST_S:
            raise InvalidError(f"{path}.{name}: {number} is less than a millisecond")
    _range(found.retries, 0, 1 << 31, f"{path}.retries")


def _retries(policy: spec.RestartPolicy | None, number: int, path: str) -> None:
    where = f"{path}.restart_retries" if path else "restart_retries"
    _range(number, 0, 1 << 31, where)
    if number and policy != "on-failure":
        raise InvalidError(f"{where}: only the policy on-failure has a number of retries")


def _handler(found: spec.Handler | None, path: str) -> None:
    if found is None:
        return
    if bool(found.command) + (found.http is not None) > 1 or (found.sleep_s and (found.command or found.http)):
        raise InvalidError(f"{path}: only one of command, http and sleep_s can be given")
    _seconds(found.sleep_s, f"{path}.sleep_s")
    if found.http is not None:
        names.port(found.http.port, f"{path}.http.port")


def _volume(volume: spec.Volume, path: str) -> None:
    _name(volume.name, f"{path}.name")
    source = volume.source
    where = f"{path}.source"
    if isinstance(source, spec.HostPath | spec.Image):
        names.absolute(source.path, f"{where}.path")
        if isinstance(source, spec.Image):
            _image(source, where)
    elif isinstance(source, spec.Named):
        _name(source.name, f"{where}.name")
        if len(source.name) > 128:
            raise InvalidError(f"{where}.name: {source.name[:80]!r} has more than 128 characters")
        _range(source.size, 1 << 20, 1 << 50, f"{where}.size")
    elif isinstance(source, spec.EmptyDir):
        _range(source.size, 0, 1 << 50, f"{where}.size")
    else:
        for index, file in enumerate(source.files):
            names.relative(file.path, f"{where}.files[{index}].path")
            check_file(file, f"{where}.files[{index}]")


def _image(source: spec.Image, path: str) -> None:
    """runv reads an image as qcow2 by its name alone: what is in a raw one is the guest's."""
    if source.path.endswith(".qcow2") != (source.format == "qcow2"):
        raise InvalidError(f"{path}.format: {source.format} does not fit {source.path[:80]!r}", hint="the name of a qcow2 image, and of no other, ends with .qcow2")
    if source.fstype and source.fstype not in DISK_TYPES:
        raise InvalidError(f"{path}.fstype: {source.fstype[:80]!r} is not a file system")
    if source.cache not in ("", "writeback"):
        raise InvalidError(f"{path}.cache: {source.cache[:80]!r} is not supported yet", hint="disks are written back through the host's page cache")


def _network(pod: spec.Pod) -> None:
    for index, interface in enumerate(pod.interfaces):
        _interface(interface, f"interfaces[{index}]")
    names.unique(((f"interfaces[{index}].name", each.name or None) for index, each in enumerate(pod.interfaces)), "the interface")
    for index, port in enumerate(pod.ports):
        check_port(port, f"ports[{index}]")
    published = [(f"ports[{index}]", port) for index, port in enumerate(pod.ports)]
    published += [(f"{where}.ports[{index}]", port) for where, each in _containers(pod) for index, port in enumerate(each.ports)]
    names.unique(((where, (port.host_ip, port.host_port, port.protocol) if port.host_port else None) for where, port in published), "the port of the host")
    for index, address in enumerate(pod.dns.servers):
        names.address(address, f"dns.servers[{index}]")
    for kind, words in (("searches", pod.dns.searches), ("options", pod.dns.options)):
        for index, word in enumerate(words):
            if not word or any(char <= " " or char == "\x7f" for char in word):
                raise InvalidError(f"dns.{kind}[{index}]: {word[:80]!r} does not fit into resolv.conf")
    for index, alias in enumerate(pod.host_aliases):
        names.address(alias.ip, f"host_aliases[{index}].ip")
        for name in alias.names:
            if not name or any(char <= " " or char in "#\x7f" for char in name):
                raise InvalidError(f"host_aliases[{index}].names: {name[:80]!r} is not the name of a host")


def _interface(found: spec.Interface, path: str) -> None:
    _name(found.network, f"{path}.network")
    if found.name and (not _LINK.fullmatch(found.name) or found.name in (".", "..", "lo")):
        raise InvalidError(f"{path}.name: {found.name[:80]!r} is not the name of an interface")
    for index, address in enumerate(found.addresses):
        try:
            ipaddress.ip_interface(address)
        except ValueError as error:
            raise InvalidError(f"{path}.addresses[{index}]: {address[:80]!r} is not an IP address") from error
    if found.mac and (not _MAC.fullmatch(found.mac) or int(found.mac[:2], 16) & 1):
        raise InvalidError(f"{path}.mac: {found.mac[:80]!r} is not the MAC address of one card")
    for index, name in enumerate(found.aliases):
        if not _dns(name):
            raise InvalidError(f"{path}.aliases[{index}]: {name[:80]!r} is not a name of DNS")
    if found.mtu:
        _range(found.mtu, 68, 65535, f"{path}.mtu")
    _range(found.ingress_bandwidth, 0, 1 << 50, f"{path}.ingress_bandwidth")
    _range(found.egress_bandwidth, 0, 1 << 50, f"{path}.egress_bandwidth")
