"""``interface``: the network of a running sandbox, for people and machines."""

import json

from rich import box
from rich.table import Table

from runv.cli.parse import Parsed
from runv.cli.report import console
from runv.errors import UsageError
from runv.sandbox.links import interfaces
from runv.sandbox.links.interfaces import Change, Interface
from runv.state import Container

_COMMAND = "interface"


def run(container: Container, parsed: Parsed, kind: str) -> None:
    """One action.

    :raise RunvError: it failed
    """
    action, link = parsed.arguments[0], parsed.arguments[2:]
    change = interfaces.check(
        Change(
            mtu=parsed.number("mtu"),
            mac=parsed.text("mac").lower(),
            addresses=tuple(parsed.many("address")),
            removed=tuple(parsed.many("remove-address")),
        )
    )
    if action in ("list", "ls"):
        if link:
            raise UsageError("list takes a container and nothing else", command=_COMMAND)
        _show(interfaces.listing(container), kind)
        return
    if not link:
        raise UsageError(f"{action} needs the name of a network interface", command=_COMMAND)
    if action == "add":
        interfaces.add(container, link[0], parsed.text("host-device"), change)
    elif action in ("rm", "remove", "delete"):
        interfaces.remove(container, link[0])
    elif action == "update":
        interfaces.update(container, link[0], change)
    else:
        raise UsageError(f"no such action: {action}", command=_COMMAND, hint="it is list, add, rm, update or sync, which takes no interface")


def _show(found: list[Interface], kind: str) -> None:
    if kind == "json":
        print(json.dumps([entry._asdict() for entry in found], indent=2))
        return
    table = Table("name", "link", "from", "address", "MTU", "state", "addresses", box=box.SIMPLE_HEAD)
    for entry in found:
        state = "up" if entry.up else "down"
        table.add_row(entry.name, entry.link or "(gone)", entry.source, entry.mac, str(entry.mtu), state, "\n".join(entry.addresses))
    console().print(table)
