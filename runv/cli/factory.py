"""``factory``: templates, and machines that wait, for people and machines."""

import json
import os
import time

from rich import box
from rich.table import Table

from runv.cli.report import console
from runv.errors import UsageError
from runv.files import read_text
from runv.log import Log
from runv.processes import read_identity
from runv.sandbox.machine import factory
from runv.sandbox.machine.shape import shape, taken
from runv.sandbox.rehearsal import translate
from runv.sandbox.waiting import pool
from runv.sandbox.waiting.serve import limit, serve
from runv.settings import Settings
from runv.state import Container, check_id
from runv.vm import template, translations
from runv.vm.template import Template
from runv.vm.translations import Translations

_MIB = 1 << 20


def run(root: str, action: str, of: str, nics: int, kind: str, settings: Settings, log: Log) -> int:
    """One action; returns the exit status. ``of``: the container that ``keep`` is about; empty for none.

    :raise RunvError: it failed
    """
    if bool(of) != (action == "keep"):
        raise UsageError("keep needs a container, and nothing else does", command="factory")
    if action == "keep":
        check_id(of)
        print(translate.keep(Container(root, of)).name)
        return 0
    folder = settings.text("template_folder")
    if action == "init":
        print(factory.make(root, settings, nics, log).name)
        if factory.default_wanted(settings).translations:
            print(translate.make(settings, log).name)
        return 0
    if action == "translate":
        print(translate.make(settings, log).name)
        return 0
    if action == "destroy":
        kept = translate.destroy(folder)
        print(f"removed {_counted(template.destroy(folder) + kept, 'template')} and {_counted(pool.clear(settings.text('pool_folder')), 'machine')}")
        return 0
    if action == "list":
        _show_list(template.templates(folder), translations.listed(folder), _machines(settings), kind)
        return 0
    if action == "serve":
        serve(settings, log)
        return 0
    if action == "status":
        return _show_status(settings, kind)
    raise UsageError(f"no such action: {action}", command="factory", hint="it is init, translate, keep, list, status, serve or destroy")


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _machines(settings: Settings) -> list[dict[str, object]]:
    """The machines that wait. One that is taken at this moment is none."""
    folder = settings.text("pool_folder")
    found = []
    for name in pool.waiting(folder):
        try:
            record = json.loads(read_text(pool.path_of(folder, name, "sandbox.json")))
            made = os.stat(pool.path_of(folder, name, pool.SHAPE)).st_mtime
        except FileNotFoundError:
            continue
        qemu = read_identity(pool.path_of(folder, name, "qemu.pid"))
        found.append(
            {
                "kind": "machine",
                "name": name,
                "memory_mib": record["memory_mib"],
                "vcpus": record["vcpus"],
                "pid": qemu.pid if qemu is not None and qemu.alive() else 0,
                "made": _moment(made),
            }
        )
    return found


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _row(entry: Template) -> dict[str, object]:
    memory = os.stat(entry.memory)
    return {
        "kind": "template",
        "name": entry.name,
        "memory_mib": entry.memory_mib,
        "nics": entry.nics,
        "taken_mib": round(memory.st_blocks * 512 / _MIB, 1),
        "made": _moment(memory.st_mtime),
    }


def _translated(entry: Translations) -> dict[str, object]:
    return {"kind": "translations", "name": entry.name, "taken_mib": round(entry.size / _MIB, 1), "used": _moment(entry.used)}


def _show_list(found: list[Template], translated: list[Translations], machines: list[dict[str, object]], kind: str) -> None:
    rows = [_row(entry) for entry in found]
    kept = [_translated(entry) for entry in translated]
    if kind == "json":
        print(json.dumps([*rows, *kept, *machines], indent=2))
        return
    table = Table("template", "guest memory", "cards", "takes", "made", box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(str(row["name"]), f"{row['memory_mib']} MiB", str(row["nics"]), f"{row['taken_mib']} MiB", str(row["made"]))
    console().print(table)
    if kept:
        files = Table("translated code", "takes", "last used", box=box.SIMPLE_HEAD)
        for row in kept:
            files.add_row(str(row["name"]), f"{row['taken_mib']} MiB", str(row["used"]))
        console().print(files)
    if machines:
        waiting = Table("machine that waits", "vCPUs", "guest memory", "QEMU", "made", box=box.SIMPLE_HEAD)
        for row in machines:
            waiting.add_row(str(row["name"]), str(row["vcpus"]), f"{row['memory_mib']} MiB", str(row["pid"] or "has ended"), str(row["made"]))
        console().print(waiting)


def _show_status(settings: Settings, kind: str) -> int:
    wanted = factory.default_wanted(settings)
    found = template.templates(wanted.templates) if wanted.templates else []
    ready = bool(wanted.templates) and template.find(wanted.templates, shape(wanted)) is not None
    status = {
        "in_use": bool(wanted.templates),
        "folder": settings.text("template_folder"),
        "templates": len(found),
        "default_ready": ready,
        "translated": bool(wanted.translations) and bool(taken(wanted)),
        "pool": {
            "folder": settings.text("pool_folder"),
            "served": pool.is_served(settings.text("pool_folder")),
            "size": limit(settings),
            "waiting": len(pool.waiting(settings.text("pool_folder"))),
        },
    }
    if kind == "json":
        print(json.dumps(status, indent=2))
    else:
        print(f"templates are {'on' if status['in_use'] else 'off'}, in {status['folder']}: {status['templates']}")
        print(f"one for a sandbox of the default size without a network: {'ready' if ready else 'not made yet'}")
        if wanted.translations:
            print(f"code that such a sandbox need not translate: {'ready' if status['translated'] else 'not made yet'}")
        keeper = "a server keeps" if pool.is_served(settings.text("pool_folder")) else "nobody keeps"
        waiting = len(pool.waiting(settings.text("pool_folder")))
        print(f"{keeper} machines waiting in {settings.text('pool_folder')}: {waiting} of {limit(settings)}")
    return 0 if ready else 1
