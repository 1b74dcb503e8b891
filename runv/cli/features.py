"""The document ``runv features`` prints (spec: features.md): what this build does, whatever host it is on."""

from typing import Any

from runv import OCI_VERSION
from runv.spec.linux_rules import NAMESPACES

_MOUNT_OPTIONS = (
    "async atime bind defaults dev diratime dirsync exec iversion lazytime loud mand noatime nodev nodiratime noexec noiversion "
    "nolazytime nomand norelatime nostrictatime nosuid nosymfollow private ratime rbind rdev rdiratime relatime remount rexec rnoatime "
    "rnodev rnodiratime rnoexec rnorelatime rnostrictatime rnosuid rnosymfollow ro rprivate rrelatime rro rrw rshared rslave "
    "rstrictatime rsuid rsymfollow runbindable rw shared silent slave strictatime suid symfollow sync tmpcopyup unbindable"
).split()
_ACTIONS = "ALLOW ERRNO KILL KILL_PROCESS KILL_THREAD LOG TRACE TRAP".split()
_OPERATORS = "EQ GE GT LE LT MASKED_EQ NE".split()


def features() -> dict[str, Any]:
    """The features document."""
    return {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": OCI_VERSION,
        "hooks": ["prestart", "createRuntime", "poststart", "poststop"],
        "mountOptions": _MOUNT_OPTIONS,
        "linux": {
            "namespaces": list(NAMESPACES),
            "cgroup": {"v1": True, "v2": True, "systemd": False, "systemdUser": False, "rdma": False},
            "seccomp": {
                "enabled": True,
                "actions": [f"SCMP_ACT_{name}" for name in _ACTIONS],
                "operators": [f"SCMP_CMP_{name}" for name in _OPERATORS],
            },
            "apparmor": {"enabled": False},
            "selinux": {"enabled": False},
            "intelRdt": {"enabled": False},
            "mountExtensions": {"idmap": {"enabled": False}},
            "netDevices": {"enabled": False},
        },
        "annotations": {"org.opencontainers.runc.checkpoint.enabled": "false"},
    }
