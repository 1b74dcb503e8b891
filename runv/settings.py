"""runv's own settings: what they are called, where they come from, what is in force.

The environment (``RUNV_*``) goes before the configuration file, which goes before the default. The file is TOML, flat,
``/etc/runv/config.toml`` unless ``RUNV_CONFIG`` names another; it need not exist.
"""

import os

from runv.errors import ConfigError, RunvError, reason

CONFIG_PATH = "/etc/runv/config.toml"


class Setting:
    """One setting. ``default`` also gives its type (``str`` or ``int``); ``choices`` is empty when any value goes, ``most`` is 0 when any number does."""

    __slots__ = ("choices", "default", "help", "least", "most", "name")

    def __init__(
        self, name: str, default: str | int, text: str, choices: tuple[str, ...] = (), least: int = 0, most: int = 0
    ) -> None:
        self.name = name
        self.default = default
        self.help = text
        self.choices = choices
        self.least = least
        self.most = most

    @property
    def variable(self) -> str:
        """The environment variable: ``RUNV_MEMORY_MIB`` for ``memory_mib``."""
        return "RUNV_" + self.name.upper()


def _share() -> str:
    """The folder of the artefacts: ``PREFIX/share/runv`` beside this very installation (PREFIX/lib/runv/runv/settings.py)."""
    prefix = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))
    return os.path.join(prefix, "share", "runv")


def program() -> str:
    """The path of this very command, where it is installed."""
    return os.path.abspath(os.path.join(_share(), "..", "..", "bin", "runv"))


def _libexec() -> str:
    return os.path.abspath(os.path.join(_share(), "..", "..", "libexec", "runv"))


# The QEMU that `make qemu` builds, and the word for it.
OWN_QEMU = os.path.join(_libexec(), "qemu-system-x86_64")
OWN = "own"
AUTO = "auto"

SETTINGS = (
    Setting("kernel", os.path.join(_share(), "vmlinux"), "the guest kernel: an uncompressed vmlinux with a PVH entry"),
    Setting("initrd", os.path.join(_share(), "initrd.img"), "the initramfs that holds the guest's init"),
    Setting("kernel_parameters", "", "words added to the guest's kernel command line"),
    Setting("qemu", "auto", "the QEMU program, looked up in PATH; own: the one that `make qemu` builds; auto: that one where it is, else qemu-system-x86_64"),
    Setting("tcg_buffer_mib", 32, "room for translated code, where QEMU emulates the processor; less is slower", least=2, most=2047),
    Setting("tcg_keep", "auto", "keep what an emulated processor has translated beside the templates, for the machines that follow; take: use what is there only; record: what this machine translates, for `runv factory keep`; own QEMU only", ("auto", "take", "record", "off")),
    Setting("tcg_name", "", "the name of translations of machines of a certain use, taken before those without a name: what `record` records"),
    Setting("tcg_release_s", 5, "after how many seconds a sleeping guest's translated code is given back, 0 for never; own QEMU only", most=86400),
    Setting("machine", "auto", "QEMU's machine type", ("auto", "microvm", "q35")),
    Setting("accelerator", "auto", "what runs the guest's code", ("auto", "kvm", "tcg")),
    Setting("transport", "auto", "what carries the talk with the guest's agent", ("auto", "vsock", "serial")),
    Setting("share", "auto", "how directories are shown to the guest", ("auto", "9p", "virtiofs")),
    Setting("share_notify", "off", "inotify in containers for what the host changes in shared directories", ("off", "on")),
    Setting("qemu_shim", os.path.join(_libexec(), "runv-qemu-shim.so"), "the library that lets QEMU's 9p make special files, and servers of shares touch nothing; empty for none"),
    Setting("virtiofsd", "/usr/lib/qemu/virtiofsd", "the virtiofsd program"),
    Setting("template", "auto", "start a sandbox as the copy of one that has booted, and make that copy when there is none", ("auto", "off")),
    Setting("template_folder", "/dev/shm/runv-templates", "where such copies are kept; a tmpfs, and nobody else's"),
    Setting("pool_folder", "/run/runv-pool", "where `runv factory serve` keeps machines that wait, and `create` looks for one; empty for none"),
    Setting("pool_size", 2, "how many machines `runv factory serve` keeps", least=1, most=1000),
    Setting("pool_memory_mib", 1024, "memory in MiB that the guests of machines that wait may have in all", least=48),
    Setting("vcpus", 1, "virtual CPUs of a sandbox, where its configuration does not ask for more", least=1),
    Setting("memory_mib", 256, "memory of a sandbox in MiB, where its configuration does not ask for more", least=48),
    Setting("vcpus_max", 0, "virtual CPUs that a sandbox can grow to while it runs; 0: it does not grow"),
    Setting("memory_max_mib", 0, "memory in MiB that a sandbox can grow to while it runs; 0: it does not grow"),
    Setting("hotplug_ports", 4, "how many devices can be plugged into a running sandbox", most=16),
    Setting("boot_timeout_s", 60, "how long a guest may take until its agent answers, per try", least=1),
    Setting("standin", os.path.join(_libexec(), "runv-standin"), "the program that stands for a container process on the host"),
    Setting("filter", os.path.join(_libexec(), "runv-filter"), "the program that makes seccomp filters of profiles"),
    Setting("relay", os.path.join(_libexec(), "runv-relay"), "the program that carries connections from inside to the host"),
    Setting("watch", os.path.join(_libexec(), "runv-watch"), "the program that watches shared directories"),
    Setting("bridge", os.path.join(_libexec(), "runv-bridge"), "the program that carries connections over the serial port"),
)  # fmt: skip


class Settings:
    """What is in force: every setting's value, and where each came from."""

    def __init__(self, values: dict[str, str | int], sources: dict[str, str]) -> None:
        self.values = values
        self.sources = sources

    def text(self, name: str) -> str:
        """The value of a setting that is a word or a path."""
        return str(self.values[name])

    def number(self, name: str) -> int:
        """The value of a setting that is a number."""
        return int(self.values[name])

    def artefact(self, name: str) -> str:
        """The path of a file that belongs to runv (kernel, initrd, standin, bridge, filter, relay, watch, qemu_shim), readable.

        :raise RunvError: it is not
        """
        path = self.text(name)
        if not os.path.isabs(path):
            raise ConfigError(f"{self.sources[name]}: {name} must be an absolute path, not {path!r}")
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            raise RunvError(
                f"cannot open {name} {path}: {reason(error)}",
                hint=f"`make install` puts it in place; {self.sources[name]} says where it is",
            ) from error
        return path

    def changed(self, values: dict[str, str], source: str) -> "Settings":
        """The same but for ``values``, which came from ``source``."""
        return Settings({**self.values, **values}, {**self.sources, **dict.fromkeys(values, source)})


def load(environ: dict[str, str] | None = None) -> Settings:
    """Reads file and environment.

    :raise ConfigError: an unknown name, a value of the wrong kind, a file that is not TOML
    """
    env = dict(os.environ) if environ is None else environ
    path = env.get("RUNV_CONFIG") or CONFIG_PATH
    from_file = _read_file(path, required="RUNV_CONFIG" in env)
    values: dict[str, str | int] = {}
    sources: dict[str, str] = {}
    for setting in SETTINGS:
        value: object = setting.default
        source = "default"
        if setting.name in from_file:
            value, source = from_file[setting.name], path
        if setting.variable in env:
            value, source = env[setting.variable], setting.variable
        values[setting.name] = _checked(setting, value, source)
        sources[setting.name] = source
    return Settings(values, sources)


def _read_file(path: str, *, required: bool) -> dict[str, object]:
    try:
        with open(path, "rb") as file:
            import tomllib  # only where there is a file: it costs as much as everything else here

            document = tomllib.load(file)
    except FileNotFoundError as error:
        if required:
            raise ConfigError(f"cannot read {path}: {reason(error)}") from error
        return {}
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {reason(error)}") from error
    except ValueError as error:  # tomllib.TOMLDecodeError, or text that is not UTF-8
        raise ConfigError(f"cannot read {path}: {error}") from error
    names = {setting.name for setting in SETTINGS}
    for name in document:
        if name not in names:
            raise ConfigError(f"{path}: unknown setting {name}", hint="`runv config` lists them")
    return document


def _checked(setting: Setting, value: object, source: str) -> str | int:
    if isinstance(setting.default, int):
        return _number(setting, value, source)
    if not isinstance(value, str):
        raise ConfigError(f"{source}: {setting.name} must be a text, not {value!r}")
    if setting.choices and value not in setting.choices:
        raise ConfigError(f"{source}: {setting.name} must be one of {', '.join(setting.choices)}, not {value!r}")
    return value


def _number(setting: Setting, value: object, source: str) -> int:
    text = str(value)
    if isinstance(value, bool) or not text.isascii() or not text.isdigit() or len(text) > 9:
        raise ConfigError(f"{source}: {setting.name} must be a whole number, not {value!r}")
    if int(text) < setting.least:
        raise ConfigError(f"{source}: {setting.name} must be at least {setting.least}, not {text}")
    if setting.most and int(text) > setting.most:
        raise ConfigError(f"{source}: {setting.name} must be at most {setting.most}, not {text}")
    return int(text)
