"""What is used of ``json``, ``signal``, ``socket``, ``contextlib`` and ``typing``: the halves that are written in C, or could be a few lines.

Their other halves need ``enum``, ``re``, ``collections`` and ``functools``: 9 ms of the processor, where Python itself takes 6 and a command
that engines call 2. For the path of those commands; whoever does more imports the modules themselves.
"""

import sys

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    import signal
    import socket
    from contextlib import suppress
    from typing import Any, NamedTuple
else:
    import _signal as signal  # its numbers are plain ones
    import _socket as socket

    try:
        from _collections import _tuplegetter
    except ImportError:  # a Python that has another one

        def _tuplegetter(index, _):
            return property(lambda row: row[index])

    Any = object  # for annotations

    class suppress:  # noqa: N801 - contextlib's name
        """``contextlib.suppress``."""

        def __init__(self, *kinds):
            self._kinds = kinds

        def __enter__(self):
            return None

        def __exit__(self, kind, error, trace):
            return kind is not None and issubclass(kind, self._kinds)

    class NamedTuple(tuple):
        """``typing.NamedTuple``, without the text of a constructor, which takes longer to be compiled than most modules have to be read."""

        def __init_subclass__(cls):
            cls._fields = tuple(cls.__annotations__)
            cls._field_defaults = {name: cls.__dict__[name] for name in cls._fields if name in cls.__dict__}
            for index, name in enumerate(cls._fields):
                setattr(cls, name, _tuplegetter(index, ""))

        def __new__(cls, *values, **named):
            if len(values) != len(cls._fields):
                given = cls._field_defaults | named
                left = cls._fields[len(values) :]
                if len(values) > len(cls._fields) or not given.keys() >= {*left} or not named.keys() <= {*left}:
                    raise TypeError(f"{cls.__name__} takes {', '.join(cls._fields)}")
                values += tuple(given[name] for name in left)
            elif named:
                raise TypeError(f"{cls.__name__} takes {', '.join(cls._fields)}, each once")
            return tuple.__new__(cls, values)

        def __repr__(self):
            return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in zip(self._fields, self, strict=True))})"

        def _replace(self, **named):
            return type(self)(**self._asdict() | named)

        def _asdict(self):
            return dict(zip(self._fields, self, strict=True))


__all__ = ["Any", "NamedTuple", "Socket", "dumps", "loads", "packed", "recv_fds", "send_fds", "signal", "socket", "suppress"]

_INT = 4


class Socket(socket.socket):
    """``socket.socket`` without ``accept`` and ``makefile``."""

    def __enter__(self) -> "Socket":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def send_fds(link: socket.socket, data: bytes, fds: list[int]) -> None:
    """``socket.send_fds``."""
    link.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, b"".join(fd.to_bytes(_INT, sys.byteorder) for fd in fds))])


def recv_fds(link: socket.socket, size: int, most: int) -> tuple[bytes, list[int]]:
    """At most ``size`` bytes and ``most`` descriptors, which are closed when another program is executed; as of ``socket.recv_fds``."""
    data, extra, _, _ = link.recvmsg(size, socket.CMSG_LEN(most * _INT), socket.MSG_CMSG_CLOEXEC)
    rights = b"".join(given for level, kind, given in extra if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS))
    return data, [int.from_bytes(rights[at : at + _INT], sys.byteorder) for at in range(0, len(rights) // _INT * _INT, _INT)]


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number")


try:
    from _json import encode_basestring, encode_basestring_ascii, make_encoder, make_scanner

    class _Rules:
        """What the scanner is told; as of ``json.loads``."""

        strict = True
        object_hook = None
        object_pairs_hook = None
        parse_float = float
        parse_int = int
        parse_constant = _no_number
        memo: "dict[str, str]" = {}  # noqa: RUF012 - the scanner empties it

    def _refuse(value: object) -> None:
        raise TypeError(f"a {type(value).__name__} cannot be JSON")

    _rules: Any = _Rules
    _scan = make_scanner(_rules)
    _encode = make_encoder(None, _refuse, encode_basestring_ascii, None, ": ", ", ", False, False, True)
    _encode_packed = make_encoder(None, _refuse, encode_basestring, None, ":", ",", False, False, True)
except (ImportError, TypeError):  # a Python that has other ones
    import json

    def loads(text: str) -> Any:
        """``json.loads``."""
        return json.loads(text, parse_constant=_no_number)

    def dumps(value: object) -> str:
        """``json.dumps``."""
        return json.dumps(value)

    def packed(value: object) -> str:
        """``json.dumps``, with nothing that can be left out."""
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

else:

    def loads(text: str) -> Any:
        """``json.loads``, without NaN and its like.

        :raise ValueError: it is no JSON
        """
        try:
            value, end = _scan(text, len(text) - len(text.lstrip(_SPACE)))
            if not text[end:].strip(_SPACE):
                return value
        except (StopIteration, SystemError):
            pass  # the scanner knows no errors without the module
        import json

        return json.loads(text)

    def dumps(value: object) -> str:
        """``json.dumps``."""
        return _whole(_encode, value)

    def packed(value: object) -> str:
        """``json.dumps``, with nothing that can be left out."""
        return _whole(_encode_packed, value)

    def _whole(encode: Any, value: object) -> str:
        # Asked by itself it takes only what has members.
        return "".join(encode([value], 0))[1:-1]


_SPACE = " \t\n\r"
