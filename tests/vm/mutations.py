"""Broken documents: mutations of a sound one, the same for a seed each time. Pure.

A document is a tree of JSON. Most mutations change the tree, some its text. None asks for anything that would harm the host if it
were obeyed: paths stay below the bundle or are paths of the container, programs of hooks are harmless, and the container's program ends.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

Json = dict[str, Any]
Path = tuple[str | int, ...]

_NUMBERS = [
    0,
    -1,
    1,
    2**31,
    2**32 - 1,
    2**32,
    2**53,
    2**63 - 1,
    2**63,
    2**64 - 1,
    2**64,
    -(2**63),
    -(2**63) - 1,
    10**30,
    0.5,
    1e300,
]
_TEXTS = [
    "",
    " ",
    "\0",
    "a\0b",
    "\n",
    "%s%n",
    "\u202e\U0001f433",
    "\x1b[31m",
    "-",
    "--",
    "0",
    "x" * 255,
    "x" * 4096,
    "x" * 70000,
]
_PATHS = [
    "..",
    "../..",
    "/..",
    "/../../../../tmp/escaped",
    "./rootfs",
    "rootfs/../rootfs",
    "//a//b",
    "/out/escaped",
    "/loop/x",
    "/etc/passwd",
    "/etc/passwd/below",
    "/proc/1/root/tmp",
    "/proc/self/fd/0",
    "/" + "a/" * 2100,
    "/" + "n" * 300,
    "a" * 4097,
]
_WORDS = [
    "nosuch",
    "MS_BIND",
    "rbind",
    "remount",
    "rro",
    "idmap",
    "SCMP_ACT_BOGUS",
    "RLIMIT_BOGUS",
    "CAP_BOGUS",
    "a=b=c",
    "mode=99",
    "size=-1",
]
_OTHERS: list[Any] = [None, True, False, 0, -7, 1.5, "text", [], {}, [[]], [None], {"a": 1}, [{}], {"": ""}]
_NAMESPACE_PATHS = [
    "/proc/self/ns/net",
    "/proc/1/ns/mnt",
    "/proc/1/ns/net",
    "/proc/4194303/ns/pid",
    "/proc/-1/ns/ipc",
    "/proc/99999999999999999999/ns/net",
    "/dev/null",
    "/etc/passwd",
    "/proc/self",
    "rel/ns",
]
_CHUNK = 64
_DEPTH = 12


class Mutant(NamedTuple):
    """A broken document: ``what`` was done to it, and its text."""

    what: str
    text: bytes


def mutant(sound: Json, seed: int) -> Mutant:
    """The broken document of ``seed``: one to three mutations of ``sound``."""
    random = Random(seed)
    tree: Any = copy.deepcopy(sound)
    done = []
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        mutate = random.choice(_OF_TREES)
        done.append(f"{mutate.__name__.strip('_')} {mutate(tree, random)}")
    text = json.dumps(tree, ensure_ascii=random.random() < 0.5).encode(errors="surrogatepass")
    if random.random() < 0.3:
        of_text = random.choice(_OF_TEXTS)
        done.append(of_text.__name__.strip("_"))
        text = of_text(text, random)
    return Mutant(f"seed {seed}: " + ", ".join(done), text)


def _paths(tree: Any, here: Path = ()) -> list[Path]:
    """Where every value below the top is, but what lies deeper than anything sound."""
    if len(here) > _DEPTH:
        return []
    if isinstance(tree, dict):
        members = list(tree.items())
    elif isinstance(tree, list):
        members = list(enumerate(tree))
    else:
        return []
    return [path for key, value in members for path in ((*here, key), *_paths(value, (*here, key)))]


def _at(tree: Any, path: Path) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def _show(path: Path) -> str:
    return ".".join(str(key)[:20] for key in path)


def _pick(tree: Any, random: Random, wanted: Callable[[Any], bool] = lambda value: True) -> Path:
    """A place, the member of a big list being no likelier than its siblings of small ones; () where there is none."""
    found = [path for path in _paths(tree) if wanted(_at(tree, path))]
    if not found:
        return ()
    first = random.choice(sorted({path[:2] for path in found}, key=str))
    return random.choice([path for path in found if path[:2] == first])


def _put(tree: Any, path: Path, value: Any) -> str:
    if path:
        _at(tree, path[:-1])[path[-1]] = value
    return f"{_show(path)}={json.dumps(value)[:40]}"


def _drop(tree: Any, random: Random) -> str:
    path = _pick(tree, random)
    if path:
        del _at(tree, path[:-1])[path[-1]]
    return _show(path)


def _retype(tree: Any, random: Random) -> str:
    return _put(tree, _pick(tree, random), copy.deepcopy(random.choice(_OTHERS)))


def _number(tree: Any, random: Random) -> str:
    path = _pick(tree, random, lambda value: type(value) is int)
    return _put(tree, path, random.choice(_NUMBERS))


def _text(tree: Any, random: Random) -> str:
    path = _pick(tree, random, lambda value: isinstance(value, str))
    return _put(tree, path, random.choice(_TEXTS))


def _word(tree: Any, random: Random) -> str:
    path = _pick(tree, random, lambda value: isinstance(value, str))
    return _put(tree, path, random.choice(_WORDS))


def _path(tree: Any, random: Random) -> str:
    path = _pick(tree, random, lambda value: isinstance(value, str) and "/" in value)
    return _put(tree, path, random.choice(_PATHS))


def _double(tree: Any, random: Random) -> str:
    path = _pick(tree, random, lambda value: isinstance(value, list) and bool(value))
    if path:
        members = _at(tree, path)
        members.append(copy.deepcopy(random.choice(members)))
    return _show(path)


def _multiply(tree: Any, random: Random) -> str:
    path = _pick(tree, random, lambda value: isinstance(value, list) and bool(value))
    count = random.choice((300, 1500, 70000))
    if path:
        _at(tree, path).extend([random.choice(_at(tree, path))] * count)
    return f"{_show(path)} x {count}"


def _deepen(tree: Any, random: Random) -> str:
    depth = random.choice((70, 150, 300))
    value: Any = "end"
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return _put(tree, _pick(tree, random), value)[:60] + f" depth {depth}"


def _add(tree: Any, random: Random) -> str:
    """A member that is not of the specification, or not of this place."""
    path = _pick(tree, random, lambda value: isinstance(value, dict))
    key = random.choice(["nosuch", "", "path", "type", "\0", "windows", "vm", "x" * 1000, "ociVersion"])
    return _put(tree, (*path, key), copy.deepcopy(random.choice(_OTHERS)))


def _namespace(tree: Any, random: Random) -> str:
    namespaces = tree.get("linux", {}).get("namespaces") if isinstance(tree.get("linux"), dict) else None
    if not isinstance(namespaces, list) or not namespaces or not all(isinstance(entry, dict) for entry in namespaces):
        return "none"
    random.choice(namespaces).update(path=random.choice(_NAMESPACE_PATHS))
    return json.dumps(namespaces)[:200]


def _pod(tree: Any, random: Random) -> str:
    names = ["", ".", "..", "../..", "@sandboxes", "a/b", "\0", "x" * 300, "absent", "-"]
    pod = {"io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-id": random.choice(names)}
    return _put(tree, ("annotations",), pod)


def _cut(text: bytes, random: Random) -> bytes:
    return text[: random.randrange(len(text))]


def _flip(text: bytes, random: Random) -> bytes:
    data = bytearray(text)
    for _ in range(random.randrange(1, 8)):
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return bytes(data)


def _not_utf8(text: bytes, random: Random) -> bytes:
    where = random.randrange(len(text))
    return text[:where] + random.choice((b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf5")) + text[where:]


def _zeroes(text: bytes, random: Random) -> bytes:
    where = random.randrange(len(text))
    return text[:where] + bytes(random.randrange(1, _CHUNK)) + text[where:]


def _twice(text: bytes, random: Random) -> bytes:
    return text + random.choice((b"", b"\n", b"x")) + text


def _repeat_members(text: bytes, random: Random) -> bytes:
    """The same names once more, at the end, where parsers differ in which one counts."""
    more = random.choice(
        (b'"process": null', b'"linux": {}', b'"root": {"path": 5}', b'"hostname": "twice"', b'"mounts": []')
    )
    return text[:-1] + b", " + more + b"}"


def _abyss(text: bytes, random: Random) -> bytes:
    depth = random.choice((1000, 100000))
    return text[:-1] + b', "abyss": ' + b"[" * depth + b"]" * depth + b"}"


def _marks(text: bytes, random: Random) -> bytes:
    return random.choice((b"\xef\xbb\xbf" + text, text.decode().encode("utf-16"), b" " * 100000 + text, b"\0" + text))


_OF_TREES = (_drop, _retype, _number, _text, _word, _path, _double, _multiply, _deepen, _add, _namespace, _pod)
_OF_TEXTS = (_cut, _flip, _not_utf8, _zeroes, _twice, _repeat_members, _abyss, _marks)
