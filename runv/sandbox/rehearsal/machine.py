"""A machine that has walked through a container's life and is nobody's: booted or cloned, claimed, its share mounted."""

import os

from runv import linux
from runv.files import locked_folder
from runv.log import Log
from runv.network import plan, taps
from runv.network.wire import Card, Wiring
from runv.sandbox.layout import SandboxFolder
from runv.sandbox.links.netrecord import NetRecord
from runv.sandbox.machine import boot
from runv.sandbox.machine.fresh import own_setup, share_setup
from runv.sandbox.machine.wanted import Wanted
from runv.sandbox.rehearsal.warmup import warm_up
from runv.sandbox.remove import end_sandbox

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from collections.abc import Callable


def rehearsed(root: str, wanted: Wanted, log: Log, then: "Callable[[SandboxFolder], None]") -> SandboxFolder:
    """Makes a machine in a sandbox of its own below ``root`` and calls ``then`` with it, under its lock. It moves the calling process into a new network
    namespace, in which the machine's spare card is.

    :raise RunvError: it cannot be made, or ``then`` failed; nothing of it is left then
    """
    linux.unshare(linux.CLONE_NEWNET)
    wiring = Wiring((Card(plan.SPARE, fds=tuple(taps.open_tap(plan.SPARE, plan.queues(wanted.vcpus), stays=True))),))
    sandbox = SandboxFolder(root, os.urandom(6).hex())
    try:
        for path in (sandbox.folder, sandbox.path("members"), sandbox.path("share")):
            os.mkdir(path, 0o700)
        with locked_folder(sandbox.folder):
            _boot(sandbox, wanted, wiring, log)
            then(sandbox)
    except BaseException:
        end_sandbox(sandbox)
        raise
    finally:
        wiring.close()
    return sandbox


def _boot(sandbox: SandboxFolder, wanted: Wanted, wiring: Wiring, log: Log) -> None:
    record = NetRecord(sandbox)
    record.cards = [list(card[:4]) for card in wiring.cards]
    record.save()
    host = boot.Host([], os.getpid(), wiring.cards)
    with boot.wait(boot.launch(sandbox, wanted, host, "", []), log) as agent:
        agent.call("setup", {**own_setup(), **share_setup(sandbox, wanted.share)})
        warm_up(agent, sandbox, wanted.standin, wanted.filter)
