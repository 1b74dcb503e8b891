# SPDX-License-Identifier: Apache-2.0
"""The C programs of the benchmark, and machines that have one of them as their init."""

import subprocess
import sys
from pathlib import Path

from bench.guest import Wires
from bench.timing import BenchError
from runv.settings import Settings
from runv.vm import choice, host_devices
from runv.vm.machine import Machine, Transport

_SOURCES = Path(__file__).with_name("programs")
_MEASURES = ("common.c", "files.c", "tcp.c")
# By the program's name.
_PARTS = {"bare": ("bare.c",), "plain": ("plain.c", *_MEASURES), "probe": ("probe.c", *_MEASURES)}


def build(name: str, folder: Path) -> Path:
    """A static program, in ``folder``.

    :raise BenchError: the compiler does not like it, or is not there
    """
    program = folder / name
    sources = [_SOURCES / part for part in _PARTS[name]]
    run("gcc", "-O2", "-static", "-Wall", "-Wextra", "-Werror", "-o", program, *sources)
    return program


def build_initrd(name: str, folder: Path) -> Path:
    """An initial file system with nothing but this program as its init, in ``folder``.

    :raise BenchError: it cannot be made
    """
    image = folder / f"{name}.initrd"
    maker = Path(__file__).parents[1] / "guest/mkinitrd.py"
    run(sys.executable, maker, "--init", build(name, folder), image)
    return image


def machine(settings: Settings, initrd: Path, wires: Wires) -> Machine:
    """A machine as runv makes it, with another init, and without shares and cards."""
    return Machine(
        name="bench",
        qemu=choice.qemu_program(settings),
        kind=choice.machine(settings).value,
        accelerator=choice.accelerator(settings).value,
        kernel=settings.artefact("kernel"),
        initrd=str(initrd),
        kernel_parameters="",
        tsc_khz=host_devices.tsc_khz(),
        vcpus=settings.number("vcpus"),
        memory_mib=settings.number("memory_mib"),
        transport=Transport("serial", wires.link),
        shares=(),
        qmp_fd=wires.monitor,
        console_fd=wires.console,
    )


def run(*command: str | Path) -> None:
    """A command that is to succeed.

    :raise BenchError: it does not, or is not there
    """
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise BenchError(f"{command[0]} is not installed") from error
    if done.returncode:
        raise BenchError(f"{Path(command[0]).name} failed: {done.stderr.strip()[-500:]}")
