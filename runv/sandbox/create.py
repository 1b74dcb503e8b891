"""Making a container: config.json and a bundle in, a created container out. What fails half-way is undone by ``remove``.

Until a stand-in is on its way as little is imported as will do: everything else is meanwhile.
"""

import os

from runv import cgroups
from runv.errors import HostError
from runv.files import locked_folder
from runv.log import Log
from runv.processes import Identity
from runv.sandbox import making, notified, wishes
from runv.sandbox.filters import Filter
from runv.sandbox.layout import SandboxFolder
from runv.sandbox.machine.wanted import Wanted
from runv.sandbox.planning import Plan, settle
from runv.sandbox.process import Options
from runv.settings import Settings
from runv.state import Container, check_id

TYPE_CHECKING = False  # for annotations alone
if TYPE_CHECKING:
    from runv.agent.client import Agent


def create(root: str, container_id: str, options: Options, settings: Settings, log: Log) -> "tuple[Identity, Agent | None]":
    """Creates a container; returns its stand-in, the process engines know it by, and with ``options.starts`` a connection for ``lifecycle.start``.

    :raise RunvError: it could not; nothing is left of it then
    """
    check_id(container_id)
    container = Container(root, container_id)
    plan = settle(container, options, settings, log)
    try:
        container.reserve()
        with locked_folder(container.folder):
            try:
                with Filter(plan.wanted.filter, plan.document.raw) as seccomp:
                    return _make(container, plan, seccomp, log)
            except BaseException:
                from runv.sandbox.remove import remove

                remove(container)
                raise
    finally:
        plan.close()


def _make(container: Container, plan: Plan, seccomp: Filter, log: Log) -> "tuple[Identity, Agent | None]":
    config = plan.document.config
    sandbox = making.sandbox_of(container, plan.host)
    record = making.write_down(container, sandbox, plan.document, plan.options, plan.groups, rootfs=plan.storage.rootfs)
    if notified.wanted():
        notified.prepare(container)
    late = making.enter_cgroups(record, config, plan.extra)
    waited = _take_waiting(plan, sandbox)
    namespace = _namespace_of(sandbox) if waited else making.namespace_for(plan.network, plan.host)
    standing = making.stand_in(container, plan.wanted.standin, config, plan.options, plan.groups, namespace, lambda: _import_the_rest(plan))
    from runv.sandbox.completing import complete

    unwatched, starter = complete(container, sandbox, plan, standing, seccomp, log, waited=waited)
    cgroups.apply(plan.groups, late)
    making.make_ready(container, plan.options, standing)
    if plan.rehearses:
        _translate(plan.wanted, log)
    # Only now: Podman takes the log of a failure for one message.
    if unwatched:
        log.warning(unwatched)
    for sentence in wishes.ignored(config, plan.document.raw, joins=plan.host is not None) + plan.devices.ignored:
        log.warning(f"config.json: {sentence}")
    return standing.identity, starter


def _take_waiting(plan: Plan, sandbox: SandboxFolder) -> bool:
    """Whether the sandbox could be made of a machine that waits."""
    if not plan.pool or not os.path.isdir(plan.pool):
        return False
    from runv.sandbox.machine.shape import describe
    from runv.sandbox.waiting.pool import take

    return take(plan.pool, sandbox, lambda: describe(plan.wanted))


def _namespace_of(sandbox: SandboxFolder) -> str:
    from runv.sandbox.links import network

    return network.namespace_of(sandbox)


def _import_the_rest(plan: Plan) -> None:
    """A third of all that is imported, while nobody needs us: the stand-in is on its way into its cgroups and namespaces."""
    import runv.network.taps
    import runv.sandbox.completing  # noqa: F401

    if plan.network:
        from runv.sandbox.links import network

        network.expect_links()


def _translate(wanted: Wanted, log: Log) -> None:
    """The machines that follow are to have it easier. What cannot be made is no reason to fail."""
    from runv.sandbox.machine.shape import taken

    if taken(wanted):
        return
    from runv.sandbox.rehearsal import translate

    try:
        translate.begin(wanted)
    except (OSError, HostError) as error:
        log.debug(f"nobody can be asked to keep what is translated: {error}")
