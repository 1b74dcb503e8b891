"""The commands an engine calls most start quickly because they import little: what they may not import, checked with the installed command."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import runv
from runv.spec.default import default_config

FORBIDDEN = {
    "asyncio", "click", "ctypes", "dataclasses", "inspect", "msgspec", "pathlib", "pyroute2", "qemu", "rich", "site", "subprocess", "tomllib", "typing",
}  # fmt: skip
# What `runv.quick` is there to do without, and most of what those import.
SLOW = {"collections", "contextlib", "copyreg", "enum", "functools", "json", "re", "selectors", "signal", "socket", "types"}
# Runs the command as its own interpreter line does and tells, at the end, what it had imported.
PROBE = """
import os, sys
end = os._exit
def tell(status):
    with open(MODULES, "w") as file:
        file.write("\\n".join(sys.modules))
    end(status)
os._exit = tell
"""


def command() -> str:
    found = os.environ.get("RUNV_BIN") or shutil.which("runv")
    if not found:
        pytest.skip("no runv in PATH; `make test` puts the staged one there")
    return os.path.realpath(found)


@pytest.mark.parametrize(
    "arguments",
    [
        ["state", "absent"],
        ["kill", "absent", "9"],
        ["start", "absent"],
        ["delete", "absent"],
        ["delete", "--force", "absent"],
        ["list"],
        ["--version"],
    ],
    ids=" ".join,
)
def test_light_commands_import_little(tmp_path: Path, arguments: list[str]) -> None:
    assert not imported(tmp_path, arguments) & FORBIDDEN


@pytest.mark.parametrize(
    "arguments", [["kill", "absent", "KILL"], ["start", "absent"], ["delete", "absent"], ["--version"]], ids=" ".join
)
def test_those_of_each_container_import_nothing_slow(tmp_path: Path, arguments: list[str]) -> None:
    assert not imported(tmp_path, arguments) & SLOW


def test_the_second_delete_is_nearly_free(tmp_path: Path) -> None:
    """containerd's shim deletes each container twice."""
    assert not imported(tmp_path, ["delete", "--force", "absent"]) & {*SLOW, "runv.sandbox.lifecycle", "runv.agent.client", "runv.cgroups"}


@pytest.mark.parametrize("arguments", [["state", "absent"], ["list"]], ids=" ".join)
def test_what_only_reads_files_imports_no_more(tmp_path: Path, arguments: list[str]) -> None:
    assert not imported(tmp_path, arguments) & {"socket", "runv.agent.client", "runv.sandbox.lifecycle"}


def test_exec_imports_nothing_that_makes_a_machine(tmp_path: Path) -> None:
    found = imported(tmp_path, ["exec", "absent", "true"])
    assert not found & (FORBIDDEN | {"enum", "json", "re", "shutil", "signal", "socket", "termios", "runv.sandbox.create", "runv.sandbox.machine.boot", "runv.network.wire"})


# What only a machine needs, or a container in it: for the time when the stand-in waits for the kernel.
LATER = {
    "runv.agent.client", "runv.network.links", "runv.sandbox.completing", "runv.sandbox.lifecycle", "runv.sandbox.machine.boot",
    "runv.sandbox.remove", "runv.sandbox.storage.disks", "runv.vm.cmdline", "runv.vm.machine", "runv.vm.qemu", "runv.vm.template",
}  # fmt: skip


def test_create_imports_what_settles_a_plan_and_no_more_before_there_is_anything(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    (bundle / "rootfs").mkdir(parents=True)
    config = default_config()
    (bundle / "config.json").write_text(json.dumps({**config, "process": {**config["process"], "terminal": False}}))
    (tmp_path / "root/taken").mkdir(parents=True)  # found when all is settled
    found = imported(tmp_path, ["create", "--bundle", str(bundle), "taken"], fails_with="exists")
    assert "runv.sandbox.planning" in found
    assert not found & {*FORBIDDEN - {"ctypes"}, *SLOW - {"types"}, *LATER, "ipaddress", "shutil", "zlib"}


def test_the_second_half_of_a_creation_imports_nothing_slow(tmp_path: Path) -> None:
    script = f"import sys; sys.path.insert(0, {str(Path(runv.__file__).parent.parent)!r}); import runv.sandbox.completing, runv.network.taps, runv.hooks; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-IS", "-c", script], capture_output=True, text=True, check=True)
    found = set(done.stdout.split())
    assert LATER - {"runv.sandbox.lifecycle"} <= found
    assert not found & {*FORBIDDEN - {"ctypes"}, *SLOW - {"types"}, "ipaddress", "shutil"}


def test_the_probe_sees_what_is_imported(tmp_path: Path) -> None:
    assert {"runv.cli.main", "runv.cli.report", "rich"} <= imported(tmp_path, ["config"])


def imported(tmp_path: Path, arguments: list[str], *, fails_with: str = "") -> set[str]:
    """The top-level and runv's own modules that a command has imported when it ends."""
    program, modules = command(), tmp_path / "modules"
    code = PROBE.replace("MODULES", repr(str(modules)))
    argv = [program, "--root", str(tmp_path / "root"), *arguments]
    code += (
        f"sys.argv = {argv!r}\n__file__ = {program!r}\nexec(compile(open({program!r}).read(), {program!r}, 'exec'))\n"
    )
    done = subprocess.run([interpreter(program), "-IS", "-c", code], capture_output=True, text=True, check=False)
    assert modules.exists() and fails_with in done.stderr, done.stderr
    names = modules.read_text().split()
    return {name for name in names if "." not in name or name.startswith("runv.")}


def interpreter(program: str) -> str:
    first = Path(program).read_text().partition("\n")[0]
    return first.removeprefix("#!").split()[0] if first.startswith("#!") else sys.executable
