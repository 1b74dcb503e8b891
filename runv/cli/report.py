"""``config`` and ``check``: for people, so with rich; and as JSON for machines."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from typing import NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table

from runv.errors import RunvError
from runv.settings import SETTINGS, Settings
from runv.vm import choice

_VERSION_TIMEOUT_S = 10


def show_settings(settings: Settings, kind: str) -> None:
    """Every setting, its value, and where that comes from."""
    if kind == "json":
        rows = {s.name: {"value": settings.values[s.name], "source": settings.sources[s.name]} for s in SETTINGS}
        print(json.dumps(rows, indent=2))
        return
    table = Table("setting", "value", "from", "meaning", box=box.SIMPLE_HEAD)
    for setting in SETTINGS:
        value = str(settings.values[setting.name])
        table.add_row(setting.name, value, settings.sources[setting.name], setting.help)
    console().print(table)


class Finding(NamedTuple):
    """One line of ``check``: ``good`` is False only where containers cannot run."""

    what: str
    value: str
    good: bool
    why: str


def show_check(settings: Settings, kind: str) -> int:
    """What will be used here; the exit status says whether it will do."""
    findings = [
        _dated(_from(_program("qemu", lambda: choice.qemu_program(settings), "--version"), settings.sources["qemu"])),
        *(_file(settings, name) for name in ("kernel", "initrd", "standin", "bridge", "relay", "watch")),
        _chosen("accelerator", choice.accelerator(settings)),
        _chosen("transport", choice.transport(settings)),
        _chosen("machine", choice.machine(settings)),
        _chosen("share", choice.share(settings)),
        _privilege(),
    ]
    if choice.share(settings).value == "virtiofs":
        findings.append(_program("virtiofsd", lambda: settings.text("virtiofsd"), "--version"))
    good = all(finding.good for finding in findings)
    if kind == "json":
        print(json.dumps({"good": good, "findings": [finding._asdict() for finding in findings]}, indent=2))
    else:
        _print_findings(findings, good)
    return 0 if good else 1


def _print_findings(findings: list[Finding], good: bool) -> None:
    table = Table("", "what", "found", "why", box=box.SIMPLE_HEAD)
    for finding in findings:
        table.add_row("[green]ok[/]" if finding.good else "[red]no[/]", finding.what, finding.value, finding.why)
    screen = console()
    screen.print(table)
    screen.print("This host can run containers." if good else "This host cannot run containers yet.")


def console() -> Console:
    """Where tables go."""
    # Into a pipe or file the table is as wide as it needs to be.
    return Console() if sys.stdout.isatty() else Console(width=200)


def _chosen(what: str, found: choice.Choice) -> Finding:
    return Finding(what, found.value, True, found.why)


def _file(settings: Settings, name: str) -> Finding:
    try:
        return Finding(name, settings.artefact(name), True, f"from {settings.sources[name]}")
    except RunvError as error:
        return Finding(name, settings.text(name), False, f"{error} ({error.hint})")


def _program(what: str, find: Callable[[], str], flag: str) -> Finding:
    try:
        path = find()
        done = subprocess.run([path, flag], capture_output=True, text=True, timeout=_VERSION_TIMEOUT_S, check=False)
        first = (done.stdout or done.stderr).splitlines()[:1]
        return Finding(what, path, done.returncode == 0, first[0] if first else "")
    except (RunvError, OSError, subprocess.TimeoutExpired) as error:
        return Finding(what, "", False, str(error))


def _from(finding: Finding, source: str) -> Finding:
    return finding._replace(why=f"{finding.why}; from {source}") if finding.good else finding


def _dated(finding: Finding) -> Finding:
    """Says so where Debian has changed its QEMU since ours was built of it: nobody else would update that."""
    try:
        argv = ["dpkg-query", "-W", "-f=${source:Version}", "qemu-system-x86"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_VERSION_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return finding  # not a Debian
    return finding._replace(why=f"{finding.why}{outdated(finding.why, done.stdout) if done.returncode == 0 else ''}")


def outdated(said: str, installed: str) -> str:
    """What to add to the version that a QEMU says, if it was built of another than the installed package. Only ours says what it was built of."""
    built = re.search(r"\(runv, of Debian ([^)]+)\)", said)
    return f"; Debian has {installed} by now: `make qemu install`" if built and installed and built[1] != installed else ""


def _privilege() -> Finding:
    root = os.geteuid() == 0
    return Finding("privilege", f"uid {os.geteuid()}", root, "root" if root else "runv needs root")
