"""seccomp filters, made of a profile on the host: libseccomp compares names for some 70 ms where the guest's processor is emulated, and 3 ms here."""

import os

from runv.processes import Identity, exit_status, identify, kill_and_wait
from runv.quick import dumps, loads

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from typing import Any

_TIMEOUT_S = 10.0


class Filter:
    """A filter in the making, by a child that works while its parent does other things. Whoever has one closes it."""

    def __init__(self, program: str, raw: "dict[str, Any]") -> None:
        """:param program: the path of runv-filter
        :param raw: the configuration; without a profile nothing is made
        """
        self._profile: dict[str, Any] = (raw.get("linux") or {}).get("seccomp") or {}
        self._child: Identity | None = None
        self._made = -1
        if self._profile:
            self._start(program)

    def _start(self, program: str) -> None:
        given, self._made = (os.memfd_create(name, os.MFD_CLOEXEC) for name in ("profile", "filter"))
        try:
            os.write(given, dumps({"seccomp": self._profile}).encode())
            os.lseek(given, 0, os.SEEK_SET)
            files = [(os.POSIX_SPAWN_DUP2, given, 0), (os.POSIX_SPAWN_DUP2, self._made, 1), (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0)]
            self._child = identify(os.posix_spawn(program, [program], {}, file_actions=files))
        except OSError:
            return  # the guest is given the profile
        finally:
            os.close(given)

    def take(self) -> "dict[str, Any]":
        """What the agent takes in the place of the profile. That itself where no filter can be made of it: the guest says why."""
        if self._child is None or exit_status(self._child, _TIMEOUT_S) != 0:
            return self._profile
        try:
            found: dict[str, Any] = loads(os.pread(self._made, os.fstat(self._made).st_size, 0).decode())
        except ValueError:
            return self._profile
        return found or self._profile

    def __enter__(self) -> "Filter":
        return self

    def __exit__(self, *_: object) -> None:
        if self._child is not None:
            kill_and_wait(self._child, _TIMEOUT_S)
        if self._made >= 0:
            os.close(self._made)
