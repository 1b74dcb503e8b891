"""Which programs runv is expected to pass. Why the others fail is in docs/conformance.md."""

# These look at the host: at its cgroups for values that are set in the guest, or at the namespaces of the process that stands for the container.
BEYOND_THE_MACHINE = frozenset(
    (
        "delete_only_create_resources delete_resources linux_cgroups_blkio linux_cgroups_cpus linux_cgroups_devices "
        "linux_cgroups_hugetlb linux_cgroups_memory linux_cgroups_network linux_cgroups_pids linux_cgroups_relative_blkio "
        "linux_cgroups_relative_cpus linux_cgroups_relative_devices linux_cgroups_relative_hugetlb linux_cgroups_relative_memory "
        "linux_cgroups_relative_network linux_cgroups_relative_pids linux_ns_itype linux_ns_nopath linux_ns_path linux_ns_path_type"
    ).split()
)

# These expect the program in the container to have come to a certain point, or not to have ended yet, without a way to know that.
RACES = frozenset(("killsig", "pidfile", "poststart"))

EXPECTED = frozenset(
    (
        "config_updates_without_affect create default delete_only_create_resources hooks_stdin hostname kill kill_no_effect linux_cgroups_relative_cpus linux_devices "
        "linux_masked_paths linux_mount_label linux_ns_path_type linux_process_apparmor_profile linux_readonly_paths "
        "linux_rootfs_propagation linux_seccomp linux_sysctl linux_uid_mappings mounts poststart_fail poststop poststop_fail "
        "prestart_fail process process_capabilities process_capabilities_fail process_oom_score_adj process_rlimits_fail process_user root_readonly_true state"
    ).split()
)


def expectation(program: str) -> str:
    """``pass``, ``fail`` or ``either``."""
    if program in RACES:
        return "either"
    return "pass" if program in EXPECTED else "fail"
