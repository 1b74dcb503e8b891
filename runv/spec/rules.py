"""What the specification demands beyond types, and what a virtual machine cannot do. Every refusal names the JSON path."""

from typing import TYPE_CHECKING

from runv.errors import ConfigError
from runv.spec.annotations import is_infra
from runv.spec.capabilities import unknown_capabilities
from runv.spec.linux_rules import check_linux
from runv.spec.mount_ids import mount_ids
from runv.spec.version import since
from runv.spec.vm_rules import check_vm

if TYPE_CHECKING:
    from runv.spec.config import Config, Hook, Hooks, Linux, Mount, Process

RLIMITS = tuple(
    "RLIMIT_" + name
    for name in (
        "AS CORE CPU DATA FSIZE LOCKS MEMLOCK MSGQUEUE NICE NOFILE NPROC RSS RTPRIO RTTIME SIGPENDING STACK".split()
    )
)
U32_MAX = 2**32 - 1


def check_config(config: "Config", name: str) -> None:
    """Checks a whole config.json; ``name`` is how messages call the file."""
    _check_version(config.oci_version, name)
    if (config.root is None or not config.root.path) and not is_infra(config.annotations or {}):
        raise ConfigError(f"{name}: $.root.path: a container needs a root file system")
    if config.process is not None:
        check_process(config.process, name, "$.process")
        if (unknown := unknown_capabilities(config.process)) and not since(config.oci_version, 1):
            raise ConfigError(f"{name}: $.process.capabilities: unknown capability {unknown[0]!r}")
    for index, mount in enumerate(config.mounts or []):
        _check_mount(mount, config.linux, name, f"$.mounts[{index}]")
    _check_texts(config, name)
    if config.hooks is not None:
        _check_hooks(config.hooks, name)
    check_linux(config.linux, name)
    if config.vm is not None:
        check_vm(config.vm, name)


def _check_version(version: str, name: str) -> None:
    # Semantic versioning: any 1.x of the specification is read the same way here, pre-releases too.
    major, _, rest = version.partition(".")
    minor = rest.partition(".")[0]
    if major != "1" or not minor.isdigit():
        raise ConfigError(
            f"{name}: $.ociVersion: unsupported version {version!r}", hint="runv knows versions 1.0.0 to 1.3.x"
        )


def check_process(process: "Process", name: str, path: str) -> None:
    """Checks a process; ``path`` is its JSON path in the file ``name``."""
    if process.command_line:
        raise ConfigError(f"{name}: {path}.commandLine is for Windows only")
    if not process.args or not process.args[0]:
        raise ConfigError(f"{name}: {path}.args must not be empty")
    if not process.cwd.startswith("/"):
        raise ConfigError(f"{name}: {path}.cwd must be an absolute path, not {process.cwd!r}")
    _check_env(process.env or [], name, path)
    _check_rlimits(process, name, path)
    for member, value in (("uid", process.user.uid), ("gid", process.user.gid)):
        _check_id(value, name, f"{path}.user.{member}")
    for index, value in enumerate(process.user.additional_gids):
        _check_id(value, name, f"{path}.user.additionalGids[{index}]")


def _check_env(env: list[str], name: str, path: str) -> None:
    for index, entry in enumerate(env):
        if "=" not in entry or entry.startswith("="):
            raise ConfigError(f"{name}: {path}.env[{index}]: invalid environment variable {entry!r}")


def _check_id(value: int, name: str, path: str) -> None:
    if not 0 <= value < U32_MAX:
        raise ConfigError(f"{name}: {path}: {value} is not a valid id")


def _check_rlimits(process: "Process", name: str, path: str) -> None:
    seen = set()
    for index, limit in enumerate(process.rlimits or []):
        where = f"{name}: {path}.rlimits[{index}]"
        if limit.type not in RLIMITS:
            raise ConfigError(f"{where}.type: unknown resource limit {limit.type!r}")
        if limit.type in seen:
            raise ConfigError(f"{where}.type: {limit.type} is given twice")
        if not 0 <= limit.soft < 2**64 or not 0 <= limit.hard < 2**64:
            raise ConfigError(f"{where}: limits are between 0 and 2^64-1")
        seen.add(limit.type)


def _check_mount(mount: "Mount", linux: "Linux", name: str, path: str) -> None:
    if not mount.destination:
        raise ConfigError(f"{name}: {path}.destination must not be empty")
    if mount.is_bind and not mount.source:
        raise ConfigError(f"{name}: {path}.source: a bind mount needs one")
    mount_ids(mount, linux, f"{name}: {path}")


def _check_hooks(hooks: "Hooks", name: str) -> None:
    kinds: tuple[tuple[str, list[Hook] | None], ...] = (
        ("prestart", hooks.prestart),
        ("createRuntime", hooks.create_runtime),
        ("createContainer", hooks.create_container),
        ("startContainer", hooks.start_container),
        ("poststart", hooks.poststart),
        ("poststop", hooks.poststop),
    )
    for kind, entries in kinds:
        for index, hook in enumerate(entries or []):
            path = f"$.hooks.{kind}[{index}]"
            if not hook.path.startswith("/"):
                raise ConfigError(f"{name}: {path}.path must be an absolute path, not {hook.path!r}")
            if hook.timeout is not None and hook.timeout <= 0:
                raise ConfigError(f"{name}: {path}.timeout must be greater than zero, not {hook.timeout}")


def _check_texts(config: "Config", name: str) -> None:
    for member, value in (("hostname", config.hostname), ("domainname", config.domainname)):
        if len(value.encode(errors="surrogatepass")) > 64:
            raise ConfigError(f"{name}: $.{member} must have at most 64 bytes")
    for key in config.annotations or {}:
        if not key:
            raise ConfigError(f"{name}: $.annotations: a key is empty")
