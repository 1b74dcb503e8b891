"""What state, list and ps print, in runc's shapes."""

import json
import os

from runv.errors import NotFoundError
from runv.state import Container, containers

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from typing import Any

_COLUMNS = ("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER")
_LEAST_WIDTH = 12
_GAP = 3


def describe(container: Container) -> "dict[str, Any]":
    """The state of a container (spec: runtime.md, "State") with runc's additions.

    :raise NotFoundError: there is none
    """
    record = container.load()
    status, pid = container.status(record)
    state: dict[str, Any] = {
        "ociVersion": record.oci_version,
        "id": record.id,
        "pid": pid,
        "status": status,
        "bundle": record.bundle,
        "rootfs": record.rootfs,
        "created": record.created,
    }
    if record.annotations:
        state["annotations"] = record.annotations
    return state | {"owner": ""}


def state(container: Container) -> str:
    """``state``: JSON, without a newline at its end, as runc's."""
    return json.dumps(describe(container), indent=2)


def container_list(root: str, kind: str, *, quiet: bool) -> str:
    """``list``: a table, ids only, or JSON."""
    found = [entry for container in containers(root) if (entry := _entry(container)) is not None]
    if quiet:
        return "".join(f"{entry['id']}\n" for entry in found)
    if kind == "json":
        return (json.dumps(found) if found else "null") + "\n"
    rows = [_COLUMNS, *(tuple(str(entry[column.lower()]) for column in _COLUMNS) for entry in found)]
    return table(rows)


def _entry(container: Container) -> "dict[str, Any] | None":
    try:
        return describe(container) | {"owner": _owner(container)}
    except NotFoundError:
        return None  # being made, or just removed


def _owner(container: Container) -> str:
    import pwd

    try:
        uid = os.stat(container.folder).st_uid
        return pwd.getpwuid(uid).pw_name
    except FileNotFoundError:
        return ""
    except KeyError:
        return f"#{uid}"


def table(rows: "list[tuple[str, ...]]") -> str:
    """Columns as Go's tabwriter sets them for runc: at least 12 wide, three spaces between."""
    widths = [max(_LEAST_WIDTH, *(len(row[column]) + _GAP for row in rows)) for column in range(len(rows[0]) - 1)]
    return "".join(
        "".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)) + row[-1] + "\n" for row in rows
    )


def process_list(container: Container, kind: str) -> str:
    """``ps``: host pids as JSON, or the guest's processes as a table."""
    from runv.sandbox import lifecycle

    if kind == "json":
        container.load()
        return json.dumps(lifecycle.host_pids(container)) + "\n"
    rows: list[tuple[str, ...]] = [("UID", "PID", "PPID", "CMD")]
    for process in lifecycle.processes(container):
        command = str(process["args"]) or f"[{process['comm']}]"
        rows.append((str(process["uid"]), str(process["pid"]), str(process["ppid"]), command))
    return table(rows)
