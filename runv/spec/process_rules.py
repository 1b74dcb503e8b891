"""What the specification demands of a process beyond types. Every refusal names the JSON path."""

from runv.errors import ConfigError

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from runv.spec.process import Process

RLIMITS = tuple(
    "RLIMIT_" + name
    for name in (
        "AS CORE CPU DATA FSIZE LOCKS MEMLOCK MSGQUEUE NICE NOFILE NPROC RSS RTPRIO RTTIME SIGPENDING STACK".split()
    )
)
U32_MAX = 2**32 - 1


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
