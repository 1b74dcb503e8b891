"""What of ``vm`` runv can honour (spec: config-vm.md): another kernel, initrd, QEMU and size; not another guest."""


from runv.errors import ConfigError

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from runv.spec.config import HwConfig, Vm

# What QEMU, and runv's own init with a container in it, come up with at all; and the most that makes sense to ask for.
_LEAST_MEMORY = 48 << 20
_VCPUS_MAX = 255


def check_vm(vm: "Vm", name: str) -> None:
    """Checks ``vm``; ``name`` is how messages call the file.

    :raise ConfigError: it breaks the specification, or asks for what cannot be
    """
    if vm.image:
        raise ConfigError(f"{name}: $.vm.image cannot be honoured: the guest's root is runv's own initrd")
    if vm.hypervisor is not None:
        _absolute(vm.hypervisor.path, name, "hypervisor.path")
        if vm.hypervisor.parameters:
            raise ConfigError(f"{name}: $.vm.hypervisor.parameters cannot be honoured: runv knows only its own machines")
    if vm.kernel is not None:
        _absolute(vm.kernel.path, name, "kernel.path")
        if vm.kernel.initrd:
            _absolute(vm.kernel.initrd, name, "kernel.initrd")
        for index, word in enumerate(vm.kernel.parameters or []):
            if "\0" in word or "\n" in word:
                raise ConfigError(f"{name}: $.vm.kernel.parameters[{index}]: {word!r} does not fit on a command line")
    if vm.hw_config is not None:
        _check_hardware(vm.hw_config, name)


def _absolute(path: str, name: str, member: str) -> None:
    if not path.startswith("/") or "\0" in path:
        raise ConfigError(f"{name}: $.vm.{member} must be an absolute path, not {path!r}")


def _check_hardware(hardware: "HwConfig", name: str) -> None:
    for member, given in (
        ("deviceTree", hardware.device_tree),
        ("dtdevs", hardware.dtdevs),
        ("iomems", hardware.iomems),
        ("irqs", hardware.irqs),
    ):
        if given:
            raise ConfigError(f"{name}: $.vm.hwConfig.{member} cannot be honoured: there is no such thing on a PC under QEMU")
    if hardware.vcpus is not None and not 1 <= hardware.vcpus <= _VCPUS_MAX:
        raise ConfigError(f"{name}: $.vm.hwConfig.vcpus must be between 1 and {_VCPUS_MAX}, not {hardware.vcpus}")
    if hardware.memory is not None and hardware.memory < _LEAST_MEMORY:
        raise ConfigError(f"{name}: $.vm.hwConfig.memory must be at least {_LEAST_MEMORY} bytes, not {hardware.memory}")
