"""How a machine comes to be: it boots; it boots and leaves a template behind; or it is the clone of one."""

import os

from runv.errors import RunvError
from runv.log import Log
from runv.quick import NamedTuple, socket, suppress
from runv.vm import template
from runv.vm.machine import Machine, Memory, Restore
from runv.vm.template import Template


class Origin(NamedTuple):
    """``machine`` as it is started. ``template``: what it is a clone of, if it is. ``folder``: where a template of it goes, if one is to be made.

    It is held until the guest has answered: the orders of a clone are void when nobody holds the other end of its monitor.
    """

    machine: Machine
    template: Template | None = None
    folder: str = ""
    monitor: socket.socket | None = None

    @property
    def records(self) -> bool:
        """Whether a template is to be made of it."""
        return bool(self.folder)

    def __enter__(self) -> "Origin":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of what only its start needs."""
        if self.monitor is not None:
            self.monitor.close()
        if self.machine.restore is not None:
            for fd in self.machine.restore:
                os.close(fd)
        if self.machine.memory.fd >= 0:
            os.close(self.machine.memory.fd)

    def save(self, qmp_path: str, log: Log) -> None:
        """Makes the template, of a guest that has booted and is nobody's yet. One that cannot be made is no reason to fail: the machine goes on."""
        from runv.vm import qmp

        memory_fd = self.machine.memory.fd
        state_fd = os.memfd_create("runv-state", os.MFD_CLOEXEC)
        try:
            qmp.save_state(qmp_path, state_fd, lambda: template.save(self.folder, self.machine, memory_fd, state_fd))
        except RunvError as error:
            log.warning(f"cannot make a template: {error}")
        finally:
            os.close(state_fd)


def choose(machine: Machine, folder: str) -> Origin:
    """Settles how ``machine`` comes to be. ``folder`` holds the templates; empty to do without."""
    if not folder or not template.possible(machine):
        return Origin(machine)
    found = template.find(folder, machine)
    with suppress(FileNotFoundError):  # it was removed since
        if found is not None:
            return _clone(machine, found)
    fd = os.memfd_create("runv-memory", os.MFD_CLOEXEC)
    os.truncate(fd, machine.memory_mib << 20)
    return Origin(machine._replace(memory=Memory(f"/proc/self/fd/{fd}", fd=fd)), folder=folder)


def _clone(machine: Machine, found: Template) -> Origin:
    state_fd = os.open(found.state, os.O_RDONLY | os.O_CLOEXEC)
    ours, theirs = socket.socketpair()
    ours.sendall(template.orders(state_fd))
    restore = Restore(theirs.detach(), state_fd)
    return Origin(machine._replace(memory=Memory(found.memory, private=True), restore=restore), template=found, monitor=ours)
