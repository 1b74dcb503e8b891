"""``factory``: templates for people and machines."""

import json
import os
import time

from rich import box
from rich.table import Table

from runv.cli.report import console
from runv.errors import UsageError
from runv.log import Log
from runv.sandbox import boot, factory
from runv.settings import Settings
from runv.vm import template
from runv.vm.template import Template

_MIB = 1 << 20


def run(root: str, action: str, nics: int, kind: str, settings: Settings, log: Log) -> int:
    """One action; returns the exit status.

    :raise RunvError: it failed
    """
    folder = settings.text("template_folder")
    if action == "init":
        print(factory.make(root, settings, nics, log).name)
        return 0
    if action == "destroy":
        count = template.destroy(folder)
        print(f"removed {count} template{'' if count == 1 else 's'}")
        return 0
    if action == "list":
        _show_list(template.templates(folder), kind)
        return 0
    if action == "status":
        return _show_status(settings, kind)
    raise UsageError(f"no such action: {action}", command="factory", hint="it is init, list, status or destroy")


def _row(entry: Template) -> dict[str, object]:
    memory = os.stat(entry.memory)
    return {
        "name": entry.name,
        "memory_mib": entry.memory_mib,
        "nics": entry.nics,
        "taken_mib": round(memory.st_blocks * 512 / _MIB, 1),
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(memory.st_mtime)),
    }


def _show_list(found: list[Template], kind: str) -> None:
    rows = [_row(entry) for entry in found]
    if kind == "json":
        print(json.dumps(rows, indent=2))
        return
    table = Table("template", "guest memory", "cards", "takes", "made", box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(str(row["name"]), f"{row['memory_mib']} MiB", str(row["nics"]), f"{row['taken_mib']} MiB", str(row["made"]))
    console().print(table)


def _show_status(settings: Settings, kind: str) -> int:
    wanted = factory.default_wanted(settings)
    found = template.templates(wanted.templates) if wanted.templates else []
    ready = bool(wanted.templates) and template.find(wanted.templates, boot.shape(wanted)) is not None
    status = {
        "in_use": bool(wanted.templates),
        "folder": settings.text("template_folder"),
        "templates": len(found),
        "default_ready": ready,
    }
    if kind == "json":
        print(json.dumps(status, indent=2))
    else:
        print(f"templates are {'on' if status['in_use'] else 'off'}, in {status['folder']}: {status['templates']}")
        print(f"one for a sandbox of the default size without a network: {'ready' if ready else 'not made yet'}")
    return 0 if ready else 1
