"""The records on disk: one JSON file for each network and each pod, replaced by renaming. What is in no file does not exist."""

import re
from pathlib import Path
from typing import TypeVar

import msgspec

from hyperd.errors import HyperError, InvalidError
from runv.errors import HostError
from runv.files import write_atomic

from .records import Network, Pod

_Record = TypeVar("_Record", Network, Pod)

_NAME = re.compile(r"[a-z0-9]([a-z0-9_.-]{0,61}[a-z0-9])?")
_POD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


def check_name(name: str) -> str:
    """:raise InvalidError: it cannot be a network's name"""
    if not _NAME.fullmatch(name):
        raise InvalidError(
            f"network name {name!r}: at most 63 of a-z, 0-9, '-', '_' and '.', and a letter or digit at its ends"
        )
    return name


def check_pod(pod: str) -> str:
    """:raise InvalidError: it cannot be a pod's id"""
    if not _POD.fullmatch(pod):
        raise InvalidError(f"pod id {pod!r}: at most 128 letters, digits, '-', '_' and '.'")
    return pod


class Store:
    """Below ``root``: ``networks/NAME.json``, ``pods/ID.json``, ``prefix6``. One process at a time uses it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._networks = root / "networks"
        self._pods = root / "pods"
        for folder in (self._networks, self._pods):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for path in folder.glob(".*"):  # what a process that was killed had not renamed yet
                path.unlink()

    def networks(self) -> list[Network]:
        return [_read(path, Network) for path in sorted(self._networks.glob("*.json"))]

    def pods(self) -> list[Pod]:
        return [_read(path, Pod) for path in sorted(self._pods.glob("*.json"))]

    def save_network(self, network: Network) -> None:
        _write(self._networks / f"{network.name}.json", network)

    def save_pod(self, pod: Pod) -> None:
        _write(self._pods / f"{pod.id}.json", pod)

    def drop_network(self, name: str) -> None:
        (self._networks / f"{name}.json").unlink(missing_ok=True)

    def drop_pod(self, pod: str) -> None:
        (self._pods / f"{pod}.json").unlink(missing_ok=True)

    def prefix6(self, make: str) -> str:
        """The /48 of this installation: what was stored, else ``make``, which is stored."""
        path = self._root / "prefix6"
        if not path.exists():
            write_atomic(str(path), make)
        return path.read_text().strip()


def _write(path: Path, record: Network | Pod) -> None:
    try:
        write_atomic(str(path), msgspec.json.format(msgspec.json.encode(record)).decode())
    except HostError as error:
        raise HyperError(str(error)) from error


def _read(path: Path, kind: type[_Record]) -> _Record:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError) as error:
        raise HyperError(f"{path}: {error}", hint="restore the file, or remove it and the bridge it names") from error
