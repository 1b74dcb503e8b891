"""``volume``: the disks of a running container, for people and machines."""

import json
import os

from runv.cli.parse import Parsed
from runv.cli.update import parse_size
from runv.errors import UsageError
from runv.sandbox.storage import volumes
from runv.state import Container

_COMMAND = "volume"
# How many arguments each takes after the container
_ACTIONS = {"attach": 2, "detach": 1, "resize": 2, "snapshot": 2, "tidy": 0, "list": 0}


def run(container: Container, parsed: Parsed, kind: str) -> None:
    """One action.

    :raise RunvError: it failed
    """
    action, rest = parsed.arguments[0], parsed.arguments[2:]
    if action not in _ACTIONS:
        raise UsageError(f"no such action: {action}", command=_COMMAND, hint=f"it is {', '.join(_ACTIONS)}")
    if len(rest) != _ACTIONS[action]:
        raise UsageError(f"{action} takes {_ACTIONS[action]} arguments after the container", command=_COMMAND)
    if action == "attach":
        words = [word for text in parsed.many("option") for word in text.split(",") if word]
        volumes.attach(container, os.path.abspath(rest[0]), rest[1], parsed.text("type"), words)
    elif action == "detach":
        volumes.detach(container, rest[0])
    elif action == "resize":
        volumes.resize(container, os.path.abspath(rest[0]), parse_size(_COMMAND, "SIZE", rest[1]))
    elif action == "snapshot":
        volumes.snapshot(container, os.path.abspath(rest[0]), os.path.abspath(rest[1]))
    elif action == "tidy":
        volumes.tidy(container)
    else:
        _show(volumes.listing(container), kind)


def _show(found: list[volumes.Volume], kind: str) -> None:
    if kind == "json":
        print(json.dumps(volumes.as_json(found), indent=2))
        return
    from rich import box
    from rich.table import Table

    from runv.cli.report import console

    table = Table("destination", "image", box=box.SIMPLE_HEAD)
    for volume in found:
        table.add_row(volume.destination, volume.path)
    console().print(table)
