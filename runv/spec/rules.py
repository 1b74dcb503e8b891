"""What the specification demands beyond types, and what a virtual machine cannot do. Every refusal names the JSON path."""


from runv.errors import ConfigError
from runv.spec.annotations import is_infra
from runv.spec.capabilities import unknown_capabilities
from runv.spec.linux_rules import check_linux
from runv.spec.mount_ids import mount_ids
from runv.spec.process_rules import check_process
from runv.spec.version import since
from runv.spec.vm_rules import check_vm

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from runv.spec.config import Config, Hook, Hooks, Linux, Mount


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
