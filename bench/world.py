# SPDX-License-Identifier: Apache-2.0
"""What all parts need: the runtimes, their bundles and the bare machine, below one folder."""

import argparse
import contextlib
import functools
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from bench import gvisor, programs
from bench.bare import Bare
from bench.runtimes import Runtime, bundle
from bench.timing import BenchError
from runv import settings
from runv.vm import choice


def _settings_of(runv: str) -> settings.Settings:
    """The settings in force for this runv: its own QEMU lies beside it, not beside the sources."""
    found = settings.load()
    own = Path(runv).resolve().parent.parent / "libexec/runv" / Path(settings.OWN_QEMU).name
    if found.text("qemu") == settings.OWN or (found.text("qemu") == settings.AUTO and own.exists()):
        return found.changed({"qemu": str(own)}, "the benchmark")
    return found


class Bench:
    """Made once; ``options`` are the command line's."""

    def __init__(self, options: argparse.Namespace, folder: Path, console: Console) -> None:
        self.options = options
        self.folder = folder
        self.runv = self.runtime()
        self.cold = self.runtime("runv, cold", {"RUNV_TEMPLATE": "off"})
        self.coldest = self.runtime("runv, cold, nothing kept", {"RUNV_TEMPLATE": "off", "RUNV_TCG_KEEP": "off"})
        self.spec = shutil.which("runc") or options.runv
        self.true = bundle(self.spec, folder / "true", "true")
        self.sleep = self.sleeping(folder / "sleep")
        self.cat = bundle(self.spec, folder / "cat", "cat")
        self.settings = _settings_of(options.runv)
        self.bare = Bare(self.settings, folder / "bare")
        # What a machine costs without anything of ours.
        self.floor = Bare(self.settings.changed({"qemu": choice.DEBIAN_QEMU}, "the benchmark"), folder / "floor")
        self._console = console

    def prepare(self) -> None:
        """Makes what machines of the usual size have in common, as far as there is no card in them: else it would be made in the midst of a measurement."""
        self.runv.run("factory", "init")

    def runtime(self, name: str = "runv", more: dict[str, str] | None = None) -> Runtime:
        """The runv to measure, with more in its environment and a root of its own. All share the templates of this run."""
        templates = {"RUNV_TEMPLATE_FOLDER": str(self.folder / "templates")}
        return Runtime(name, self.options.runv, self.folder, templates | (more or {}))

    def sleeping(self, folder: Path) -> Path:
        """A bundle that sleeps, in ``folder``, to be changed."""
        return bundle(self.spec, folder, "sleep", "100000")

    @functools.cached_property
    def probe(self) -> Path:
        """The static program that measures files and TCP."""
        return programs.build("probe", self.folder)

    def probing(self, folder: Path) -> Path:
        """A bundle that sleeps and has the probe, in ``folder``, to be changed."""
        made = self.sleeping(folder)
        shutil.copy(self.probe, made / "rootfs/probe")
        return made

    @functools.cached_property
    def peers(self) -> list[Runtime]:
        """runc, crun and runsc, as far as they are there and work; the first is the one that runv is compared with.

        :raise BenchError: none does
        """
        found = [Runtime(name, program, self.folder) for name in ("runc", "crun") if (program := shutil.which(name))]
        with _left_out():
            found.append(Runtime("runsc", str(gvisor.provide(self.options.cache)), self.folder, flags=gvisor.FLAGS))
        working = []
        for peer in found:
            with _left_out():
                peer.run_once(self.true)
                working.append(peer)
        if not working:
            raise BenchError("no other runtime works here")
        return working

    @property
    def few(self) -> int:
        """How many samples of what takes long."""
        return max(1, int(self.options.count) // 3)

    @property
    def some(self) -> int:
        """How many samples of what takes seconds."""
        return (int(self.options.count) + 1) // 2

    def tick(self) -> None:
        """A sample was taken."""
        if self._console.is_terminal:
            self._console.print(".", end="")

    @contextlib.contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[], None]]:
        """A bar, for what takes minutes; yields what is to be called for each of the ``total`` steps."""
        with Progress(console=self._console, transient=True, disable=not self._console.is_terminal) as bar:
            task = bar.add_task(what, total=total)
            yield lambda: bar.advance(task)


@contextlib.contextmanager
def _left_out() -> Iterator[None]:
    """A peer that is not to be had, or does not work on this host, is told of and not measured."""
    try:
        yield
    except BenchError as error:
        print(f"bench: left out: {error}", file=sys.stderr)
