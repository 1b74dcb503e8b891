"""rtnetlink over a socket: requests, the kernel's answers, attributes. No more of it than links, addresses, routes and tc take.

A library for all of netlink takes longer to import than everything else a ``start`` does, and a container's links are looked at then.
"""

import os
import struct
from types import TracebackType

from runv.quick import socket

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from collections.abc import Iterator

NLM_F_REQUEST = 1
NLM_F_ACK = 4
NLM_F_DUMP = 0x300
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400

_NLM_F_DUMP_INTR = 0x10
_NLM_F_CAPPED = 0x100
_NLM_F_ACK_TLVS = 0x200
_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_NLMSGERR_ATTR_MSG = 1
_NLA_TYPE_MASK = 0x3FFF
_SOL_NETLINK = 270
_NETLINK_CAP_ACK = 10
_NETLINK_EXT_ACK = 11
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_RECEIVE = 1 << 16
_TIMEOUT_S = 10.0
_DUMP_TRIES = 8


def attribute(kind: int, value: bytes | str | int) -> bytes:
    """One attribute, padded. A text gets its NUL, a number 32 bits."""
    if isinstance(value, str):
        value = value.encode() + b"\0"
    elif isinstance(value, int):
        value = struct.pack("=I", value)
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(-length % 4)


def attributes(data: bytes) -> dict[int, bytes]:
    """The attributes in ``data`` by their kind; of several of one kind the last."""
    found = {}
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if not _ATTRIBUTE.size <= length <= len(data):
            break
        found[kind & _NLA_TYPE_MASK] = data[_ATTRIBUTE.size : length]
        data = data[length + -length % 4 :]
    return found


def number(value: bytes | None, default: int = 0) -> int:
    """An attribute of 32 bits; ``default`` where it is absent."""
    return default if value is None else int(struct.unpack_from("=I", value)[0])


def text(value: bytes | None) -> str:
    """An attribute that is a text; empty where it is absent."""
    return (value or b"").rstrip(b"\0").decode(errors="surrogateescape")


class Netlink:
    """A socket in the network namespace that the thread was in when it was made. Errors are ``OSError``, with the kernel's own words, if it has any, as their ``filename``."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.settimeout(_TIMEOUT_S)
        self._socket.bind((0, 0))
        for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK):
            self._socket.setsockopt(_SOL_NETLINK, option, 1)
        self._sequence = 0

    def __enter__(self) -> "Netlink":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._socket.close()

    def request(self, kind: int, body: bytes, flags: int = 0) -> None:
        """Sends one request and waits until the kernel has done it."""
        self._send(kind, NLM_F_REQUEST | NLM_F_ACK | flags, body)
        for _ in self._answers():
            pass

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """The bodies of everything the kernel has of one kind."""
        for _ in range(_DUMP_TRIES):
            self._send(kind, NLM_F_REQUEST | NLM_F_DUMP, body)
            answers = list(self._answers())
            # Set where something changed between two parts of a long answer, which may then lack entries.
            if not any(flags & _NLM_F_DUMP_INTR for flags, _ in answers):
                break
        return [answer for _, answer in answers]

    def _send(self, kind: int, flags: int, body: bytes) -> None:
        self._sequence += 1
        self._socket.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, self._sequence, 0) + body)

    def _answers(self) -> "Iterator[tuple[int, bytes]]":
        while True:
            data = self._socket.recv(_RECEIVE)
            while len(data) >= _HEADER.size:
                length, kind, flags, sequence, _ = _HEADER.unpack_from(data)
                body, data = data[_HEADER.size : length], data[length + -length % 4 :]
                if sequence != self._sequence:
                    continue  # of a request that was given up
                if kind == _NLMSG_DONE:
                    return
                if kind == _NLMSG_ERROR:
                    _check(flags, body)
                    return
                yield flags, body


def _check(flags: int, body: bytes) -> None:
    (code,) = struct.unpack_from("=i", body)
    if not code:
        return
    why = ""
    if flags & _NLM_F_ACK_TLVS and flags & _NLM_F_CAPPED:
        why = text(attributes(body[4 + _HEADER.size :]).get(_NLMSGERR_ATTR_MSG))
    raise OSError(-code, os.strerror(-code), why.rstrip(".") or None)
