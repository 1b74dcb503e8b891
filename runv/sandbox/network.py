"""A sandbox's network: wired when its machine is made, let go of when it ends."""

import contextlib
import json
import os

from runv.errors import HostError
from runv.files import read_text, write_atomic
from runv.network import wire
from runv.network.links import names_in
from runv.sandbox.layout import SandboxFolder

_RECORD = "network.json"


def bring_in(sandbox: SandboxFolder, standin: int, given: str) -> wire.Wiring:
    """Wires what is in the stand-in's network namespace to cards for the machine.

    :param given: where the namespace came from, if it is not the stand-in's own: it outlives the sandbox
    :raise HostError: it could not be done
    """
    # procfs answers at once; netlink's library takes longer to load than all else does.
    names = names_in(read_text(f"/proc/{standin}/net/dev"))
    if not names:
        return wire.Wiring()
    if given:
        status = os.stat(f"/proc/{standin}/ns/net")
        record = {"namespace": given, "device": status.st_dev, "inode": status.st_ino, "links": names}
        write_atomic(sandbox.path(_RECORD), json.dumps(record))
    return wire.connect(f"/proc/{standin}/ns/net")


def let_go(sandbox: SandboxFolder) -> None:
    """Takes the wiring off links that outlive the sandbox. What is gone, or is another namespace by now, is left alone."""
    with contextlib.suppress(OSError, ValueError, KeyError, HostError):
        record = json.loads(read_text(sandbox.path(_RECORD)))
        status = os.stat(record["namespace"])
        if (status.st_dev, status.st_ino) == (record["device"], record["inode"]):
            wire.disconnect(record["namespace"], record["links"])
