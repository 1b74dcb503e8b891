"""JSON objects as frozen records, each declared by the types of its members: what config.json needs of msgspec, whose import takes a fifth of the time
that ``create`` needs for all of its own. The rules and the messages are msgspec's: unknown members are ignored, types must be just those, and null stands
only for a member that may be None. Every refusal names the JSON path.
"""

from runv.errors import ConfigError
from runv.quick import Any, loads
from runv.spec import limits

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from typing import Self, TypeVar, dataclass_transform

    T = TypeVar("T")
else:

    def dataclass_transform(**_):
        """Tells type checkers what a record's constructor takes."""
        return lambda kind: kind


_NAMES = {str: "str", bool: "bool", int: "int", float: "float", list: "array", dict: "object", type(None): "null"}
_GENERIC: Any = type(list[str])
_UNION: Any = type(str | None)


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Record:
    """An object of JSON. A subclass annotates its members with ``str``, ``int``, ``bool``, ``dict``, a record, a class that is called with a value and its
    path, ``list[...]`` or ``dict[str, ...]`` of these, and ``| None``. In JSON they are called the same in camelCase, or as ``NAMES`` says."""

    NAMES: "dict[str, str]" = {}  # noqa: RUF012 - never changed

    def __init__(self, **members: Any) -> None:
        known = self.__annotations__
        for name in known.keys() - members.keys():
            if not hasattr(type(self), name):
                raise TypeError(f"{type(self).__name__} needs {name}")
        if unknown := members.keys() - known.keys():
            raise TypeError(f"{type(self).__name__} has no {', '.join(unknown)}")
        self.__dict__.update(members)  # what is not there is the default, which the class has

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} cannot be changed")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and all(getattr(self, name) == getattr(other, name) for name in self.__annotations__)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self.__annotations__)})"

    def replace(self, **members: Any) -> "Self":
        """The same with other members."""
        return type(self)(**{**self.__dict__, **members})

    @classmethod
    def names(cls) -> dict[str, str]:
        """What its members are called in JSON."""
        return {name: cls.NAMES.get(name) or _camel(name) for name in cls.__annotations__}

    @classmethod
    def read(cls, value: Any, path: str) -> "Self":
        """The record of a decoded JSON value.

        :param path: how messages call it: the file and the JSON path
        :raise ConfigError: it is none
        """
        raw = checked(value, dict, path)
        members = {}
        for name, member in cls.names().items():
            if member in raw:
                kind = cls.__annotations__[name]
                members[name] = convert(raw[member], kind, f"{path}.{member}")
            elif not hasattr(cls, name):
                raise ConfigError(f"{path}: Object missing required field `{member}`")
        return cls(**members)


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


def convert(value: Any, kind: Any, path: str) -> Any:
    """A decoded JSON value as a ``kind``, as annotations of records have them.

    :raise ConfigError: it is none
    """
    nullable = type(kind) is _UNION
    if nullable:
        kind = kind.__args__[0]
        if value is None:
            return None
    if type(kind) is _GENERIC:
        each = kind.__args__[-1]
        if kind.__origin__ is list:
            return [convert(entry, each, f"{path}[{index}]") for index, entry in enumerate(checked(value, list, path, nullable=nullable))]
        return {key: convert(entry, each, f"{path}[...]") for key, entry in checked(value, dict, path, nullable=nullable).items()}
    if kind in _NAMES:
        return checked(value, kind, path, nullable=nullable)
    checked(value, dict, path, nullable=nullable)
    return kind.read(value, path) if issubclass(kind, Record) else kind(value, path)


def checked(value: Any, kind: "type[T]", path: str, *, nullable: bool = False) -> "T":
    """:raise ConfigError: the value is of another type"""
    if type(value) is not kind:
        wanted = _NAMES[kind] + (" | null" if nullable else "")
        raise ConfigError(f"{path}: Expected `{wanted}`, got `{_NAMES[type(value)]}`")
    return value


def decode(data: bytes, name: str) -> "dict[str, Any]":
    """A JSON object; ``name`` is how messages call the file.

    :raise ConfigError: it is none, or too long for a guest
    """
    limits.check_size(data, name)
    try:
        raw = loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{name} is not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{name}: expected a JSON object at $")
    return raw
