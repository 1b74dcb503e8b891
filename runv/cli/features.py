"""The document ``runv features`` prints (spec: features.md): what this build does, whatever host it is on."""

from typing import Any

from runv import OCI_VERSION
from runv.spec.capabilities import CAPABILITIES
from runv.spec.linux_rules import NAMESPACES
from runv.spec.memory_policy import FLAGS, MODES

_MOUNT_OPTIONS = (
    "acl async atime bind defaults dev diratime dirsync exec idmap iversion lazytime loud mand noacl noatime nodev nodiratime noexec noiversion "
    "nolazytime nomand norelatime nostrictatime nosuid nosymfollow private ratime rbind rdev rdiratime relatime remount rexec ridmap rnoatime "
    "rnodev rnodiratime rnoexec rnorelatime rnostrictatime rnosuid rnosymfollow ro rprivate rrelatime rro rrw rshared rslave "
    "rstrictatime rsuid rsymfollow runbindable rw shared silent slave strictatime suid symfollow sync tmpcopyup unbindable"
).split()
_ACTIONS = "ALLOW ERRNO KILL KILL_PROCESS KILL_THREAD LOG TRACE TRAP".split()
_OPERATORS = "EQ GE GT LE LT MASKED_EQ NE".split()
# libseccomp's; a rule for one that the guest's kernel does not run changes nothing.
_ARCHITECTURES = (
    "AARCH64 ARM MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32 PARISC PARISC64 PPC PPC64 PPC64LE RISCV64 S390 S390X X32 X86 X86_64"
).split()
_SECCOMP_FLAGS = "TSYNC LOG SPEC_ALLOW".split()


def features() -> dict[str, Any]:
    """The features document."""
    return {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": OCI_VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": _MOUNT_OPTIONS,
        "linux": {
            "namespaces": list(NAMESPACES),
            "capabilities": list(CAPABILITIES),
            "cgroup": {"v1": True, "v2": True, "systemd": False, "systemdUser": False, "rdma": False},
            "seccomp": {
                "enabled": True,
                "actions": [f"SCMP_ACT_{name}" for name in _ACTIONS],
                "operators": [f"SCMP_CMP_{name}" for name in _OPERATORS],
                "archs": [f"SCMP_ARCH_{name}" for name in _ARCHITECTURES],
                "knownFlags": [f"SECCOMP_FILTER_FLAG_{name}" for name in _SECCOMP_FLAGS],
                "supportedFlags": [f"SECCOMP_FILTER_FLAG_{name}" for name in _SECCOMP_FLAGS],
            },
            "apparmor": {"enabled": False},
            "selinux": {"enabled": False},
            "memoryPolicy": {"modes": list(MODES), "flags": list(FLAGS)},
            "intelRdt": {"enabled": False, "schemata": False, "monitoring": False},
            "mountExtensions": {"idmap": {"enabled": True}},
            "netDevices": {"enabled": True},
        },
        # Whoever sets these has a say in what the host gives.
        "potentiallyUnsafeConfigAnnotations": ["run.runv."],
        "annotations": {"org.opencontainers.runc.checkpoint.enabled": "true"},
    }
