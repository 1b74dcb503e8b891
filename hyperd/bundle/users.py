"""Users and groups, looked up in the image's own /etc/passwd and /etc/group (the rules of Docker and of the image specification)."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from hyperd.bundle.records import ImageView
from hyperd.errors import InvalidError

_ID_MAX = 2**32 - 2


class User(NamedTuple):
    """``home`` empty: the image does not know the user. ``groups`` are the additional ones."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


class _Line(NamedTuple):
    name: str
    uid: int
    gid: int
    home: str


class _Group(NamedTuple):
    name: str
    gid: int
    members: tuple[str, ...]


def find_user(text: str, image: ImageView, *, group: str = "", additional: Iterable[str] = ()) -> User:
    """``text``: ``user[:group]``, names or numbers; empty is root. ``group`` goes before the group of ``text``, and keeps the user's additional ones.

    :raise InvalidError: a name that the image does not know
    """
    name, colon, own_group = text.partition(":")
    line = _find(name or "0", image)
    uid, gid, home = (line.uid, line.gid, line.home) if line else (_number(name or "0", "user"), 0, "")
    groups: list[int] = []
    if colon and own_group:
        gid = find_group(own_group, image)
    elif line:
        groups = [each.gid for each in _groups(image.group) if line.name in each.members]
    if group:
        gid = find_group(group, image)
    groups += [find_group(each, image) for each in additional]
    return User(uid, gid, tuple(dict.fromkeys(each for each in groups if each != gid)), home)


def find_group(text: str, image: ImageView) -> int:
    """:raise InvalidError: a name that the image does not know"""
    for each in _groups(image.group):
        if text in (each.name, str(each.gid)):
            return each.gid
    return _number(text, "group")


def _find(text: str, image: ImageView) -> _Line | None:
    return next((line for line in _users(image.passwd) if text in (line.name, str(line.uid))), None)


def _number(text: str, what: str) -> int:
    if not text.isascii() or not text.isdecimal():
        raise InvalidError(f"the image has no {what} {text[:80]!r}", hint=f"/etc/{'passwd' if what == 'user' else what} of the image does not name it; use a number")
    number = int(text[:11])
    if number > _ID_MAX:
        raise InvalidError(f"{text[:80]} is not the id of a {what}")
    return number


def _fields(data: bytes, least: int) -> Iterator[list[str]]:
    """Lines that are broken are passed over, as libc does."""
    for line in data.decode(errors="replace").split("\n"):
        fields = line.strip().split(":")
        if len(fields) >= least and not line.startswith("#"):
            yield fields


def _users(data: bytes) -> Iterator[_Line]:
    for fields in _fields(data, 4):
        if _is_id(fields[2]) and _is_id(fields[3]):
            yield _Line(fields[0], int(fields[2]), int(fields[3]), fields[5] if len(fields) > 5 else "")


def _groups(data: bytes) -> Iterator[_Group]:
    for fields in _fields(data, 3):
        if _is_id(fields[2]):
            yield _Group(fields[0], int(fields[2]), tuple(fields[3].split(",")) if len(fields) > 3 else ())


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 11 and int(text) <= _ID_MAX
