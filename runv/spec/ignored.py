"""What a configuration asks for and runv does not do, without that being reason enough to refuse it. Pure; whoever acts on it says so.

Each sentence names the member. What is refused is in ``runv.spec.rules``; docs/oci.md has both.
"""

from runv.spec.capabilities import unknown_capabilities

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from typing import Any

    from runv.spec.config import Config
    from runv.spec.process import Process

    Raw = dict[str, Any]


def in_config(config: "Config", raw: "Raw") -> list[str]:
    """Sentences about a whole config.json; ``raw`` is the same as it was read."""
    found = in_process(config.process, "process") if config.process else []
    if config.linux.mount_label:
        found.append("linux.mountLabel is not applied: the guest has no SELinux")
    resources = (raw.get("linux") or {}).get("resources") or {}
    return found + in_resources(resources)


def in_process(process: "Process", path: str) -> list[str]:
    """Sentences about a process; ``path`` is how they call it."""
    found = []
    # The host's profiles are not in the guest; that the process is in a machine is what confines it.
    if process.apparmor_profile not in ("", "unconfined"):
        found.append(f"{path}.apparmorProfile is not applied: the guest has no AppArmor")
    if process.selinux_label:
        found.append(f"{path}.selinuxLabel is not applied: the guest has no SELinux")
    if unknown := unknown_capabilities(process):
        found.append(f"{path}.capabilities: {', '.join(unknown)} cannot be granted: unknown to the guest")
    return found


def in_resources(resources: "Raw") -> list[str]:
    """Sentences about linux.resources as they were read."""
    memory, network = (resources.get(name) or {} for name in ("memory", "network"))
    # What cgroup v2 has no file for
    asked = [f"memory.{name}" for name in ("kernel", "kernelTCP") if (memory.get(name) or 0) > 0]
    asked += ["memory.disableOOMKiller"] if memory.get("disableOOMKiller") else []
    asked += [f"network.{name}" for name in ("classID", "priorities") if network.get(name)]
    found = [f"linux.resources.{name} is not applied: the guest has cgroup v2 only" for name in asked]
    if memory.get("swappiness") is not None:
        found.append("linux.resources.memory.swappiness is without effect: the guest does not swap")
    return found
