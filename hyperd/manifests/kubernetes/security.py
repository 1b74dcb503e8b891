"""securityContext of a pod and of a container, merged: the container's goes before the pod's."""

from typing import Literal

from hyperd import spec
from hyperd.errors import InvalidError
from hyperd.manifests.kubernetes import records
from hyperd.manifests.kubernetes.scope import Scope
from runv.spec.capabilities import CAPABILITIES

_ID_MAX = 2**31 - 1


def security(own: records.SecurityContext, pod: records.PodSecurityContext, path: str, scope: Scope) -> spec.Security:
    """``path`` is the container's securityContext."""
    user = _id(own.run_as_user if own.run_as_user is not None else pod.run_as_user, f"{path}.runAsUser")
    group = _id(own.run_as_group if own.run_as_group is not None else pod.run_as_group, f"{path}.runAsGroup")
    non_root = own.run_as_non_root if own.run_as_non_root is not None else pod.run_as_non_root
    if non_root and user == "0":
        raise InvalidError(f"{path}.runAsUser: 0 is root, and runAsNonRoot is set")
    add, drop = _capabilities(own.capabilities, f"{path}.capabilities")
    if own.allow_privilege_escalation is False and (own.privileged or "CAP_SYS_ADMIN" in add):
        raise InvalidError(f"{path}.allowPrivilegeEscalation: cannot be false for a container that is privileged or has SYS_ADMIN")
    if own.proc_mount not in ("", "Default"):
        raise InvalidError(f"{path}.procMount: {own.proc_mount!r} is not supported")
    if own.windows_options is not None:
        raise InvalidError(f"{path}.windowsOptions is not supported: containers are Linux's")
    if own.se_linux_options is not None:
        scope.warn(f"{path}.seLinuxOptions is ignored: the guest has no SELinux")
    _warn_apparmor(own.app_armor_profile, f"{path}.appArmorProfile", scope)
    return spec.Security(
        user=user,
        group=group,
        additional_groups=tuple(str(number) for number in pod.supplemental_groups),
        privileged=own.privileged,
        read_only_root=own.read_only_root_filesystem,
        no_new_privileges=own.allow_privilege_escalation is False,
        run_as_non_root=bool(non_root),
        add_capabilities=add,
        drop_capabilities=drop,
        seccomp=_seccomp(own.seccomp_profile or pod.seccomp_profile, f"{path}.seccompProfile"),
    )


def check_pod(pod: records.PodSecurityContext, path: str, scope: Scope) -> None:
    """What is the pod's alone."""
    for index, number in enumerate(pod.supplemental_groups):
        _id(number, f"{path}.supplementalGroups[{index}]")
    _id(pod.fs_group, f"{path}.fsGroup")
    _id(pod.run_as_user, f"{path}.runAsUser")
    _id(pod.run_as_group, f"{path}.runAsGroup")
    if pod.supplemental_groups_policy not in ("", "Merge"):
        raise InvalidError(f"{path}.supplementalGroupsPolicy: {pod.supplemental_groups_policy!r} is not supported")
    if pod.fs_group_change_policy not in ("", "Always", "OnRootMismatch"):
        raise InvalidError(f"{path}.fsGroupChangePolicy: {pod.fs_group_change_policy!r} is neither Always nor OnRootMismatch")
    if pod.windows_options is not None:
        raise InvalidError(f"{path}.windowsOptions is not supported: containers are Linux's")
    _seccomp(pod.seccomp_profile, f"{path}.seccompProfile")
    if pod.se_linux_options is not None or pod.se_linux_change_policy is not None:
        scope.warn(f"{path}.seLinuxOptions is ignored: the guest has no SELinux")
    _warn_apparmor(pod.app_armor_profile, f"{path}.appArmorProfile", scope)


def _id(number: int | None, path: str) -> str:
    if number is not None and not 0 <= number <= _ID_MAX:
        raise InvalidError(f"{path}: {number} is not an id", hint=f"ids are 0 to {_ID_MAX}")
    return "" if number is None else str(number)


def _capabilities(found: records.Capabilities | None, path: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if found is None:
        return (), ()
    return _named(found.add, f"{path}.add"), _named(found.drop, f"{path}.drop")


def _named(found: list[str], path: str) -> tuple[str, ...]:
    return tuple(capability(name, f"{path}[{index}]") for index, name in enumerate(found))


def capability(name: str, path: str) -> str:
    """``net_admin``, ``NET_ADMIN`` or ``CAP_NET_ADMIN`` -> ``CAP_NET_ADMIN``; ``ALL`` stays."""
    full = name.upper() if name.upper().startswith("CAP_") or name.upper() == "ALL" else f"CAP_{name.upper()}"
    if full not in CAPABILITIES and full != "ALL":
        raise InvalidError(f"{path}: {name[:80]!r} is not a capability")
    return full


def _seccomp(found: records.Profile | None, path: str) -> Literal["default", "unconfined"]:
    if found is None or found.type == "RuntimeDefault":
        return "default"
    if found.type == "Unconfined":
        return "unconfined"
    if found.type == "Localhost":
        raise InvalidError(f"{path}.type: Localhost is not supported", hint="there are RuntimeDefault and Unconfined")
    raise InvalidError(f"{path}.type: {found.type[:80]!r} is none of RuntimeDefault, Unconfined and Localhost")


def _warn_apparmor(found: records.Profile | None, path: str, scope: Scope) -> None:
    if found is not None and found.type != "Unconfined":
        scope.warn(f"{path} is ignored: the guest has no AppArmor")
