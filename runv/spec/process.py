"""``process`` of config.json, which is also the whole of ``exec --process``, as frozen records (spec: config.md, "Process").

By itself, unlike the rest of config.json: ``exec`` needs nothing else.
"""

from runv.errors import ConfigError
from runv.spec import limits, process_rules
from runv.spec.records import checked, decode

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from typing import Any

    Raw = dict[str, Any]

_SETS = ("bounding", "effective", "inheritable", "permitted", "ambient")


class _Object:
    """A JSON object on its way into a record. ``path`` is how messages call it: the file and the JSON path."""

    def __init__(self, value: "Any", path: str) -> None:
        self._raw: Raw = checked(value, dict, path)
        self.path = path

    def must(self, member: str, kind: type) -> "Any":
        if member not in self._raw:
            raise ConfigError(f"{self.path}: Object missing required field `{member}`")
        return checked(self._raw[member], kind, f"{self.path}.{member}")

    def get(self, member: str, kind: type, default: "Any") -> "Any":
        """What is absent is ``default``; null is only where that is None, and means the same."""
        value = self._raw.get(member, default)
        if value is default or (value is None and default is None):
            return default
        return checked(value, kind, f"{self.path}.{member}", nullable=default is None)

    def each(self, member: str, kind: type, default: "Any") -> "Any":
        """A list whose elements are all of a kind."""
        values = self.get(member, list, default)
        for index, value in enumerate(values or []):
            checked(value, kind, f"{self.path}.{member}[{index}]")
        return values

    def inner(self, member: str) -> "_Object | None":
        value = self.get(member, dict, None)
        return None if value is None else _Object(value, f"{self.path}.{member}")


class User:
    """Who a process runs as."""

    __slots__ = ("additional_gids", "gid", "uid", "umask")

    def __init__(self, given: _Object) -> None:
        self.uid: int = given.get("uid", int, 0)
        self.gid: int = given.get("gid", int, 0)
        self.umask: int | None = given.get("umask", int, None)
        self.additional_gids: list[int] = given.each("additionalGids", int, [])


class Rlimit:
    """One resource limit."""

    __slots__ = ("hard", "soft", "type")

    def __init__(self, given: _Object) -> None:
        self.type: str = given.must("type", str)
        self.soft: int = given.must("soft", int)
        self.hard: int = given.must("hard", int)


class ConsoleSize:
    """The terminal's size in characters."""

    __slots__ = ("height", "width")

    def __init__(self, given: _Object) -> None:
        self.height: int = given.get("height", int, 0)
        self.width: int = given.get("width", int, 0)


class Process:
    """What the host acts on or checks of a process. ``capabilities``: the lists of names by the sets' names."""

    __slots__ = (
        "apparmor_profile", "args", "capabilities", "command_line", "console_size", "cwd", "env", "no_new_privileges", "oom_score_adj", "rlimits",
        "selinux_label", "terminal", "user",
    )  # fmt: skip

    def __init__(self, raw: "Any", path: str) -> None:
        """:raise ConfigError: a member that runv looks at is of another type than the specification's"""
        given = _Object(raw, path)
        self.cwd: str = given.must("cwd", str)
        self.args: list[str] = given.each("args", str, [])
        self.env: list[str] | None = given.each("env", str, None)
        self.terminal: bool = given.get("terminal", bool, False)
        size = given.inner("consoleSize")
        self.console_size = ConsoleSize(size) if size else None
        user = given.get("user", dict, {})
        self.user = User(_Object(user, f"{path}.user"))
        self.rlimits = [Rlimit(_Object(entry, f"{path}.rlimits[{index}]")) for index, entry in enumerate(given.get("rlimits", list, None) or [])]
        sets = given.inner("capabilities")
        self.capabilities: dict[str, list[str]] | None = {name: sets.each(name, str, None) or [] for name in _SETS} if sets else None
        self.no_new_privileges: bool = given.get("noNewPrivileges", bool, False)
        self.apparmor_profile: str = given.get("apparmorProfile", str, "")
        self.selinux_label: str = given.get("selinuxLabel", str, "")
        self.oom_score_adj: int | None = given.get("oomScoreAdj", int, None)
        self.command_line: str = given.get("commandLine", str, "")


def parse_process(data: bytes, name: str) -> "tuple[Process, Raw]":
    """Reads and checks the process of ``exec --process``. ``name`` is how messages call it.

    :raise ConfigError: it is not JSON, breaks the specification, or asks for what runv cannot do
    """
    raw = decode(data, name)
    process = Process(raw, f"{name}: $")
    limits.check_limits(raw, name, "$")
    process_rules.check_process(process, name, "$")
    return process, raw
