"""What a configuration wants of the machine itself, and of what runv cannot give."""

from runv.errors import ConfigError
from runv.quick import Any
from runv.settings import Settings
from runv.spec import ignored as in_vain
from runv.spec.annotations import SHARE_NOTIFY
from runv.spec.config import Config
from runv.spec.memory_policy import mode_and_nodes


def with_vm(settings: Settings, config: Config) -> Settings:
    """The settings for this machine: what ``vm`` names goes before them (spec: config-vm.md)."""
    vm = config.vm
    if vm is None:
        return settings
    given: dict[str, str] = {}
    if vm.hypervisor is not None:
        given["qemu"] = vm.hypervisor.path
    if vm.kernel is not None:
        given["kernel"] = vm.kernel.path
        if vm.kernel.initrd:
            given["initrd"] = vm.kernel.initrd
        words = (f'"{word}"' if " " in word else word for word in vm.kernel.parameters or [])
        given["kernel_parameters"] = " ".join((settings.text("kernel_parameters"), *words)).strip()
    return settings.changed(given, "config.json: $.vm")


def with_annotations(settings: Settings, config: Config) -> Settings:
    """The settings for this container: what its annotations say goes before them.

    :raise ConfigError: a value is none
    """
    notify = (config.annotations or {}).get(SHARE_NOTIFY)
    if notify is None:
        return settings
    if notify not in ("on", "off"):
        raise ConfigError(f"config.json: $.annotations: {SHARE_NOTIFY} must be on or off, not {notify!r}")
    return settings.changed({"share_notify": notify}, "config.json: $.annotations")


def memory_policy(config: Config) -> tuple[int, set[int]] | None:
    """linux.memoryPolicy as set_mempolicy(2) takes it. The machine's memory is the container's, so it is QEMU's policy."""
    policy = config.linux.memory_policy
    return mode_and_nodes(policy) if policy is not None else None


def ignored(config: Config, raw: dict[str, Any], *, joins: bool) -> list[str]:
    """Sentences about what is not done. ``joins``: the machine is there already."""
    found = in_vain.in_config(config, raw)
    for name, value in (("vm", config.vm), ("linux.memoryPolicy", config.linux.memory_policy)):
        if joins and value is not None:
            found.append(f"{name} is not applied: the container joins a machine that runs")
    return found
