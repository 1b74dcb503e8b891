"""The resolver that Docker runs in the network namespace of containers on networks of the user's. On the path of ``start``: imports next to nothing.

It listens on ports of its own choosing; rules that Docker has put into the namespace lead there from port 53.
"""

import sys

from runv.files import read_text

ADDRESS = "127.0.0.11"
PORT = 53

_KINDS = ("udp", "tcp")
# procfs prints the bytes of the address as a number of the host's.
_LOCAL = "0B00007F:" if sys.byteorder == "little" else "7F00000B:"


def kinds_at(pid: int) -> list[str]:
    """How the resolver is reached in the network namespace of a process: ``udp``, or that and ``tcp``; empty where there is none, or no such process.

    Docker's has both. The kernel looks at all of the host's TCP connections for a namespace's table of them, which takes 2 to 4 ms; UDP's takes a tenth.
    """
    found: list[str] = []
    try:
        for kind in _KINDS:
            if not listens(read_text(f"/proc/{pid}/net/{kind}")):
                break
            found.append(kind)
    except OSError:
        return []
    return found


def listens(table: str) -> bool:
    """Whether a socket of /proc/PID/net/udp or tcp is bound to the resolver's address. Pure."""
    return _LOCAL in table and any(line.split()[1].startswith(_LOCAL) for line in table.splitlines()[1:])
