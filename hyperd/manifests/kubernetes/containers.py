"""One container of a pod."""

import re
from collections.abc import Mapping
from typing import Literal, TypeVar

from hyperd import signals, spec
from hyperd.errors import InvalidError
from hyperd.manifests import names
from hyperd.manifests.kubernetes import probes, records, resources
from hyperd.manifests.kubernetes.environment import Environment, environment
from hyperd.manifests.kubernetes.scope import Scope
from hyperd.manifests.kubernetes.security import security
from hyperd.manifests.weight import ENVIRONMENT_MAX, check_weight

_T = TypeVar("_T")

RESTARTS: dict[str, spec.RestartPolicy] = {"Always": "always", "OnFailure": "on-failure", "Never": "never"}
_PULLS: dict[str, Literal["always", "missing", "never"]] = {"Always": "always", "IfNotPresent": "missing", "Never": "never"}
_PROTOCOLS: dict[str, spec.Protocol] = {"TCP": "tcp", "UDP": "udp", "SCTP": "sctp"}
_PROPAGATIONS: dict[str, Literal["", "none", "host-to-container", "bidirectional"]] = {
    "": "", "None": "none", "HostToContainer": "host-to-container", "Bidirectional": "bidirectional",
}  # fmt: skip
_DEFAULT_MESSAGE = {"terminationMessagePath": ("", "/dev/termination-log"), "terminationMessagePolicy": ("", "File")}


def container(found: records.Container, path: str, pod: records.PodSpec, scope: Scope, *, init: bool = False) -> spec.Container:
    """``path``: where it is in the document."""
    names.dns_label(found.name, f"{path}.name")
    restart = _choice(found.restart_policy, RESTARTS, f"{path}.restartPolicy") if found.restart_policy else None
    _check_support(found, path, scope)
    if init and restart != "always":
        _check_init(found, path)
    env = environment(found, path, scope)
    ports = _ports(found.ports, f"{path}.ports")
    named = {port.name: port.container_port for port in ports if port.name}
    lifecycle = f"{path}.lifecycle"
    return spec.Container(
        name=found.name,
        image=_image(found.image, f"{path}.image"),
        pull=_choice(found.image_pull_policy or _default_pull(found.image), _PULLS, f"{path}.imagePullPolicy"),
        command=_words(found.command, env, f"{path}.command"),
        args=_words(found.args, env, f"{path}.args"),
        environment=tuple(env.values.items()),
        secrets=env.secrets,
        fields=tuple(env.fields.items()),
        working_dir=names.no_nul(found.working_dir, f"{path}.workingDir"),
        tty=found.tty,
        stdin=found.stdin,
        stdin_once=found.stdin_once,
        mounts=_mounts(found, f"{path}.volumeMounts", pod, env),
        ports=ports,
        resources=resources.resources(found.resources, f"{path}.resources"),
        root_size=resources.root_size(found.resources, f"{path}.resources"),
        security=security(found.security_context, pod.security_context, f"{path}.securityContext", scope),
        restart=restart,
        stop_signal=signals.name_of(found.lifecycle.stop_signal, f"{lifecycle}.stopSignal") if found.lifecycle.stop_signal else "",
        startup_probe=probes.probe(found.startup_probe, f"{path}.startupProbe", named),
        readiness_probe=probes.probe(found.readiness_probe, f"{path}.readinessProbe", named, readiness=True),
        liveness_probe=probes.probe(found.liveness_probe, f"{path}.livenessProbe", named),
        post_start=probes.handler(found.lifecycle.post_start, f"{lifecycle}.postStart", named),
        pre_stop=probes.handler(found.lifecycle.pre_stop, f"{lifecycle}.preStop", named),
    )


def _choice(text: str, choices: Mapping[str, _T], path: str) -> _T:
    if text not in choices:
        raise InvalidError(f"{path}: {text[:80]!r} is none of {', '.join(choices)}")
    return choices[text]


def _check_support(found: records.Container, path: str, scope: Scope) -> None:
    if found.volume_devices:
        raise InvalidError(f"{path}.volumeDevices is not supported", hint="mount the volume as a file system")
    if found.restart_policy_rules:
        raise InvalidError(f"{path}.restartPolicyRules is not supported")
    given = {"terminationMessagePath": found.termination_message_path, "terminationMessagePolicy": found.termination_message_policy}
    for name, text in given.items():
        if text not in _DEFAULT_MESSAGE[name]:
            scope.warn(f"{path}.{name} is ignored: what a container wrote last is in its log")
    for index, policy in enumerate(found.resize_policy):
        if policy.resource_name not in ("cpu", "memory") or policy.restart_policy not in ("NotRequired", "RestartContainer"):
            raise InvalidError(f"{path}.resizePolicy[{index}]: {policy.resource_name!r}: {policy.restart_policy!r} is not a policy")
        if policy.restart_policy == "RestartContainer":
            scope.warn(f"{path}.resizePolicy[{index}] is ignored: {policy.resource_name} is resized without a restart")


def _check_init(found: records.Container, path: str) -> None:
    for name, given in (
        ("startupProbe", found.startup_probe),
        ("readinessProbe", found.readiness_probe),
        ("livenessProbe", found.liveness_probe),
        ("lifecycle", found.lifecycle.post_start or found.lifecycle.pre_stop),
    ):
        if given is not None:
            raise InvalidError(f"{path}.{name}: an init container can only have one when its restartPolicy is Always")


def _image(text: str, path: str) -> str:
    if not text or any(char <= " " or char == "\x7f" for char in text):
        raise InvalidError(f"{path}: {text[:80]!r} is not the name of an image")
    return text


def _default_pull(image: str) -> str:
    """Always for what can change under its name by convention, as in Kubernetes."""
    if "@" in image:
        return "IfNotPresent"
    last = image.rpartition("/")[2]
    return "Always" if last.partition(":")[2] in ("", "latest") else "IfNotPresent"


def _words(found: list[str], env: Environment, path: str) -> tuple[str, ...]:
    words: list[str] = []
    size = 0
    for index, word in enumerate(found):
        words.append(env.expand(names.no_nul(word, f"{path}[{index}]"), f"{path}[{index}]"))
        size += len(words[-1])
        check_weight(size, path, ENVIRONMENT_MAX)
    return tuple(words)


def _ports(found: list[records.ContainerPort], path: str) -> tuple[spec.Port, ...]:
    made = []
    for index, port in enumerate(found):
        where = f"{path}[{index}]"
        if port.protocol not in _PROTOCOLS:
            raise InvalidError(f"{where}.protocol: {port.protocol[:80]!r} is none of {', '.join(_PROTOCOLS)}")
        made.append(
            spec.Port(
                container_port=names.port(port.container_port, f"{where}.containerPort"),
                host_port=names.port(port.host_port, f"{where}.hostPort") if port.host_port else 0,
                host_ip=names.address(port.host_ip, f"{where}.hostIP") if port.host_ip else "",
                protocol=_PROTOCOLS[port.protocol],
                name=names.port_name(port.name, f"{where}.name") if port.name else "",
            )
        )
    names.unique(((f"{path}[{index}].name", port.name or None) for index, port in enumerate(made)), "the port")
    return tuple(made)


def _mounts(found: records.Container, path: str, pod: records.PodSpec, env: Environment) -> tuple[spec.Mount, ...]:
    known = {volume.name for volume in pod.volumes}
    made = []
    for index, mount in enumerate(found.volume_mounts):
        where = f"{path}[{index}]"
        if mount.name not in known:
            raise InvalidError(f"{where}.name: there is no volume {mount.name[:80]!r}")
        if mount.mount_propagation not in _PROPAGATIONS:
            raise InvalidError(f"{where}.mountPropagation: {mount.mount_propagation[:80]!r} is none of None, HostToContainer, Bidirectional")
        if mount.mount_propagation == "Bidirectional":
            raise InvalidError(f"{where}.mountPropagation: Bidirectional cannot be honoured: what the machine mounts stays in it")
        if mount.recursive_read_only not in ("", "Disabled", "IfPossible", "Enabled"):
            raise InvalidError(f"{where}.recursiveReadOnly: {mount.recursive_read_only[:80]!r} is none of Disabled, IfPossible, Enabled")
        if mount.recursive_read_only in ("IfPossible", "Enabled") and not mount.read_only:
            raise InvalidError(f"{where}.recursiveReadOnly: needs readOnly")
        made.append(
            spec.Mount(
                volume=mount.name,
                path=_mount_path(mount.mount_path, f"{where}.mountPath"),
                read_only=mount.read_only,
                sub_path=_sub_path(mount, where, env),
                propagation=_PROPAGATIONS[mount.mount_propagation],
            )
        )
    names.unique(((f"{path}[{index}].mountPath", mount.path) for index, mount in enumerate(made)), "the mount at")
    return tuple(made)


def _mount_path(text: str, path: str) -> str:
    if not text or ":" in text:
        raise InvalidError(f"{path}: {text[:80]!r} is not a path to mount at")
    # Kubernetes takes a relative one as below the root.
    return names.absolute("/" + "/".join(part for part in text.split("/") if part not in ("", ".")), path)


def _sub_path(mount: records.VolumeMount, path: str, env: Environment) -> str:
    if mount.sub_path and mount.sub_path_expr:
        raise InvalidError(f"{path}: only one of subPath and subPathExpr can be given")
    if mount.sub_path:
        return names.relative(mount.sub_path, f"{path}.subPath")
    if not mount.sub_path_expr:
        return ""
    for name in re.findall(r"\$\(([^)]*)\)", mount.sub_path_expr.replace("$$", "")):
        if name not in env.values:
            late = ", and is known at the start only" if name in env.fields else ""
            raise InvalidError(f"{path}.subPathExpr: {name!r} is not a variable that has a value{late}")
    if env.fields:
        raise InvalidError(f"{path}.subPathExpr: not possible beside variables that are known at the start only")
    return names.relative(env.expand(mount.sub_path_expr, f"{path}.subPathExpr"), f"{path}.subPathExpr")
