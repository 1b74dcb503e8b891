"""What the guest's agent is told first: what is a machine's own although it may be the copy of another, and what is shared with it."""

import os

from runv.files import write_atomic
from runv.quick import Any
from runv.sandbox.layout import SandboxFolder
from runv.storage import plan as storage

_OPTIONS = {"9p": ["msize=512000", "cache=mmap", "posixacl"], "virtiofs": []}


def own_setup() -> dict[str, Any]:
    """The members of ``setup`` that no two machines may have alike."""
    import time

    return {"time_ns": time.time_ns(), "entropy": os.urandom(64).hex()}


def share_setup(sandbox: SandboxFolder, kind: str) -> dict[str, Any]:
    """The member of ``setup`` that mounts the shared folder. That is written down: a machine that has it mounted cannot be saved."""
    write_atomic(sandbox.path("shared"), "")
    return {"shares": [{"type": kind, "tag": storage.TAG, "target": storage.GUEST_SHARE, "options": _OPTIONS[kind]}]}
