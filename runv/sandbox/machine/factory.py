"""Making templates before they are wanted: a machine without containers is booted, kept as a template, and ended."""

import os

from runv import linux
from runv.errors import ConfigError, RunvError
from runv.files import locked_folder
from runv.log import Log
from runv.network import plan, taps
from runv.network.wire import Card, Wiring
from runv.sandbox.layout import SandboxFolder
from runv.sandbox.machine import boot
from runv.sandbox.machine.size import Size, within
from runv.sandbox.machine.wanted import Wanted, settle
from runv.sandbox.remove import end_sandbox
from runv.settings import Settings
from runv.state import make_root
from runv.vm import template
from runv.vm.template import Template


def default_wanted(settings: Settings) -> Wanted:
    """A machine of the size of the settings.

    :raise RunvError: a program or an artefact is missing
    """
    size = Size(settings.number("vcpus"), settings.number("memory_mib"))
    return settle(settings, size, within(size, Size(settings.number("vcpus_max"), settings.number("memory_max_mib"))))


def make(root: str, settings: Settings, nics: int, log: Log) -> Template:
    """The template for sandboxes of the settings' size with ``nics`` network cards, made if there is none. It moves the calling process into a new
    network namespace, in which the cards' taps are.

    :raise RunvError: it cannot be made
    """
    wanted = default_wanted(settings)
    if not wanted.templates:
        raise ConfigError(f"{settings.sources['template']}: templates are switched off")
    if not 0 <= nics <= plan.MAX_LINKS:
        raise ConfigError(f"a machine has 0 to {plan.MAX_LINKS} network cards, not {nics}")
    template.make_folder(wanted.templates)
    make_root(root)
    linux.unshare(linux.CLONE_NEWNET)
    queues = plan.queues(wanted.vcpus)
    cards = tuple(Card(number, fds=tuple(taps.open_tap(number, queues))) for number in range(nics))
    sandbox = SandboxFolder(root, os.urandom(6).hex())
    for folder in (sandbox.folder, sandbox.path("members"), sandbox.path("share")):
        os.mkdir(folder, 0o700)
    with locked_folder(sandbox.folder):
        try:
            return _boot(sandbox, wanted, boot.Host([], os.getpid(), cards), log)
        finally:
            end_sandbox(sandbox)
            Wiring(cards).close()


def _boot(sandbox: SandboxFolder, wanted: Wanted, host: boot.Host, log: Log) -> Template:
    launched = boot.launch(sandbox, wanted, host, "", [])
    if not launched.origin.records and launched.origin.template is None:
        launched.origin.close()
        raise ConfigError("a sandbox that shares its directories by virtiofs has no template: its memory is not its own")
    shape = launched.origin.machine
    boot.wait(launched, log).close()
    made = template.find(wanted.templates, shape)
    if made is None:
        raise RunvError(f"cannot make a template in {wanted.templates}")
    return made
