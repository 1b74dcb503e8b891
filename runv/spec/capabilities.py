"""The capabilities that the guest's kernel knows, in the kernel's order (capabilities(7))."""

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from runv.spec.process import Process

CAPABILITIES = tuple(
    f"CAP_{name}"
    for name in (
        "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST "
        "NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE "
        "SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM "
        "BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
    ).split()
)


def unknown_capabilities(process: "Process") -> list[str]:
    """Names in any of the process's sets that are none."""
    named = {name for names in (process.capabilities or {}).values() for name in names}
    return sorted(named.difference(CAPABILITIES))
