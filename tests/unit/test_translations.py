"""Files of translated code: which one a machine takes, who may have put it there, and which ones go."""

import contextlib
import os
from pathlib import Path

import pytest

from runv.cli import factory
from runv.errors import ConfigError, NotFoundError, UsageError, VmError
from runv.log import Log
from runv.sandbox.layout import SandboxFolder
from runv.sandbox.machine import shape
from runv.sandbox.machine.size import Size
from runv.sandbox.machine.wanted import Wanted, recording
from runv.sandbox.rehearsal import translate
from runv.settings import OWN_QEMU, load
from runv.state import Container
from runv.vm import choice, qmp, template, translations
from runv.vm.cmdline import qemu_arguments
from runv.vm.machine import Machine, Transport


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "templates"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    programs = {name: tmp_path / name for name in ("qemu", "kernel", "initrd")}
    for path in programs.values():
        path.write_text(path.name)
    return Machine(
        name="m", qemu=str(programs["qemu"]), kind="microvm", accelerator="tcg", kernel=str(programs["kernel"]), initrd=str(programs["initrd"]),
        kernel_parameters="", tsc_khz=0, vcpus=1, memory_mib=256, transport=Transport("serial", 3), shares=(), qmp_fd=4, console_fd=5,
    )  # fmt: skip


def made(folder: Path, machine: Machine, name: str = "") -> str:
    new = folder / "new"
    new.write_bytes(b"x" * 4096)
    return translations.publish(str(new), translations.path_of(str(folder), machine, name)).path


def test_machines_of_all_sizes_take_the_same(folder: Path, machine: Machine) -> None:
    assert translations.find(str(folder), machine) == ""
    path = made(folder, machine)
    for other in (machine, machine._replace(memory_mib=1024, name="other", kind="q35")):
        assert translations.find(str(folder), other) == path


def test_what_is_another_program_takes_none(folder: Path, machine: Machine) -> None:
    made(folder, machine)
    assert translations.find(str(folder), machine._replace(vcpus=2)) == ""
    assert translations.find(str(folder), machine._replace(vcpus_max=2)) == ""
    for path in (machine.qemu, machine.kernel, machine.initrd):
        before = os.stat(path)
        Path(path).write_text("changed")
        assert translations.find(str(folder), machine) == ""
        Path(path).write_text(Path(path).name)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert translations.find(str(folder), machine) != ""


def test_nothing_is_taken_from_a_folder_that_others_can_write_to(folder: Path, machine: Machine) -> None:
    made(folder, machine)
    folder.chmod(0o770)
    assert translations.find(str(folder), machine) == "" and translations.listed(str(folder)) == []


def test_those_not_used_for_longest_go_when_there_are_too_many(folder: Path, machine: Machine) -> None:
    paths = []
    for number in range(translations.TRANSLATIONS_MAX + 1):
        Path(machine.kernel).write_text("k" * (number + 1))
        paths.append(made(folder, machine))
        os.utime(paths[-1], (number, number))
    assert {entry.path for entry in translations.listed(str(folder))} == set(paths[1:])
    assert translations.destroy(str(folder)) == translations.TRANSLATIONS_MAX and not os.listdir(folder)


def test_they_are_no_templates(folder: Path, machine: Machine) -> None:
    made(folder, machine)
    os.makedirs(os.path.join(template.rehearsal(str(folder)), "@sandboxes"))
    assert template.templates(str(folder)) == [] and template.destroy(str(folder)) == 0


def test_what_qemu_is_told(machine: Machine) -> None:
    def accelerator(**changed: object) -> str:
        words = qemu_arguments(machine._replace(**changed))  # type: ignore[arg-type]
        return words[words.index("-accel") + 1]

    assert accelerator() == "tcg,thread=single,tb-size=32"
    assert accelerator(translations="/t,x") == "tcg,thread=single,tb-size=32,kept=/t,,x"
    assert accelerator(keeps=True, vcpus=2) == "tcg,thread=multi,tb-size=32,keep=on"
    assert accelerator(accelerator="kvm", translations="/t", keeps=True) == "kvm"
    assert template.describe(machine) == template.describe(machine._replace(translations="/t"))


def test_only_our_own_qemu_keeps_and_only_where_it_translates() -> None:
    settings = load({"RUNV_CONFIG": "/dev/null"})
    assert choice.keeps_translations(settings, OWN_QEMU, "tcg")
    assert not choice.keeps_translations(settings, OWN_QEMU, "kvm")
    assert not choice.keeps_translations(settings, "/usr/bin/qemu-system-x86_64", "tcg")
    assert not choice.keeps_translations(load({"RUNV_CONFIG": "/dev/null", "RUNV_TCG_KEEP": "off"}), OWN_QEMU, "tcg")


def test_a_folder_without_code_keeps_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = load({"RUNV_CONFIG": "/dev/null", "RUNV_TEMPLATE_FOLDER": str(tmp_path / "not/yet")})
    assert choice.keeps_translations(settings, OWN_QEMU, "tcg")
    real = os.statvfs(tmp_path)

    def noexec(path: str) -> os.statvfs_result:
        if path != str(tmp_path):
            raise FileNotFoundError(path)
        return os.statvfs_result((*real[:8], real.f_flag | os.ST_NOEXEC, real.f_namemax))

    monkeypatch.setattr(os, "statvfs", noexec)
    assert not choice.keeps_translations(settings, OWN_QEMU, "tcg")


def test_what_has_a_name_is_taken_before_what_has_none(folder: Path, machine: Machine) -> None:
    usual = made(folder, machine)
    assert translations.find(str(folder), machine, "pods", "") == usual and translations.find(str(folder), machine, "pods") == ""
    named = made(folder, machine, "pods")
    assert translations.find(str(folder), machine, "pods", "") == named != usual
    assert translations.find(str(folder), machine) == translations.find(str(folder), machine, "others", "") == usual


@pytest.mark.parametrize("name", ["../x", "a-b", "a" * 33, "A"])
def test_a_name_is_no_path(name: str) -> None:
    with pytest.raises(ConfigError, match=r"RUNV_TCG_NAME.*is no name for translations"):
        choice.translations_name(load({"RUNV_CONFIG": "/dev/null", "RUNV_TCG_NAME": name}))


def test_a_machine_records_what_is_not_there(folder: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shape, "shape", lambda _: machine)
    wanted = Wanted(
        qemu="", kernel="", initrd="", bridge="", relay="", filter="", watch="", standin="", kernel_parameters="", accelerator="tcg", transport="serial",
        kind="microvm", share="9p", virtiofsd=None, vcpus=1, memory_mib=256, most=Size(1, 256), hotplug_ports=4, boot_timeout_s=60, templates="/t",
        tcg_release_s=5, translations=str(folder), translations_name="pods",
    )  # fmt: skip
    made(folder, machine)
    assert shape.records(wanted) and not shape.records(wanted._replace(translations=""))
    records = recording(wanted)
    assert records.keeps and not records.templates and not records.tcg_release_s and records.tcg_buffer_mib > wanted.tcg_buffer_mib
    assert shape.taken(wanted) != made(folder, machine, "pods") == shape.taken(wanted)
    assert not shape.records(wanted)


def test_a_machine_that_records_nothing_keeps_nothing(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        translate.keep(Container(str(tmp_path), "c"))
    with pytest.raises(UsageError, match="keep needs a container"):
        factory.run(str(tmp_path), "keep", "", 0, "table", load({"RUNV_CONFIG": "/dev/null"}), Log())
    with pytest.raises(UsageError, match="nothing else does"):
        factory.run(str(tmp_path), "list", "c", 0, "table", load({"RUNV_CONFIG": "/dev/null"}), Log())


def test_a_machine_that_writes_late_does_not_write_into_what_others_take(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "place"
    place.mkdir()
    late: list[Path] = []

    def gives_up(_: str, target: str, __: float) -> None:
        Path(target).write_text("half")
        late.append(Path(target))
        raise VmError("QEMU does not answer")

    def writes(_: str, target: str, __: float) -> None:
        Path(target).write_text("whole")
        for other in late:
            other.write_text("late")

    monkeypatch.setattr(translate, "standing", lambda _: contextlib.nullcontext())
    sandbox = SandboxFolder(str(tmp_path), "s")
    path = str(folder / "translations-single-0")
    monkeypatch.setattr(qmp, "keep_translations", gives_up)
    with pytest.raises(VmError):
        translate._keep(sandbox, str(place), path)
    assert not list(place.iterdir())
    monkeypatch.setattr(qmp, "keep_translations", writes)
    translate._keep(sandbox, str(place), path)
    assert Path(path).read_text() == "whole"
    late.clear()
    translate._keep(sandbox, str(place), path)
    assert not list(place.iterdir())  # what came late goes with the next
