"""Which capabilities a container has: Docker's set, more or less of it."""

from hyperd.spec import Security
from runv.spec.capabilities import CAPABILITIES

DEFAULT = frozenset(
    f"CAP_{name}"
    for name in (
        "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE"
    ).split()
)
_ALL = "CAP_ALL"


def capabilities_of(security: Security) -> tuple[str, ...]:
    """In the kernel's order. What is added goes before what is dropped, but for what is dropped by name from all."""
    if security.privileged:
        return CAPABILITIES
    add, drop = _names(security.add_capabilities), _names(security.drop_capabilities)
    if _ALL in add:
        kept = set(CAPABILITIES) - drop
    elif _ALL in drop:
        kept = add
    else:
        kept = (set(DEFAULT) - drop) | add
    return tuple(name for name in CAPABILITIES if name in kept)


def _names(found: tuple[str, ...]) -> set[str]:
    return {name.upper() if name.upper().startswith("CAP_") else f"CAP_{name.upper()}" for name in found}
