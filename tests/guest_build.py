"""Where the C programs under test are: given by the environment, or built from this tree.

RUNV_GUEST_BUILD names a folder with plain/ and san/ in it. Without it the programs are built into
${RUNV_CACHE:-~/.cache/runv}/build/guest-{plain,san}, once per run and only what changed.
"""

import fcntl
import functools
import os
import subprocess
from pathlib import Path
from typing import Literal

Kind = Literal["plain", "san"]

GUEST_SOURCE = Path(__file__).parent.parent / "guest"


@functools.cache
def guest_build(kind: Kind) -> Path:
    """The folder with init, runv-standin and runv-bridge; san: with ASan and UBSan."""
    given = os.environ.get("RUNV_GUEST_BUILD")
    if given:
        return Path(given) / kind
    cache = Path(os.environ.get("RUNV_CACHE") or Path.home() / ".cache/runv")
    folder = cache / "build" / f"guest-{kind}"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _make(folder, kind)
    return folder


def _make(folder: Path, kind: Kind) -> None:
    command = ["make", "-s", "-C", str(GUEST_SOURCE), f"O={folder}"]
    if kind == "san":
        command.append("SAN=1")
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"building guest/ ({kind}) failed:\n{done.stdout}")
