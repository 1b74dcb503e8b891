"""What a machine does before anybody has it: a container is made in it, run and removed, so that an emulated processor has the guest's ways to one
translated, and any processor has them in its caches. Nothing of it stays but what the guest's kernel remembers of freed memory."""

import contextlib
import os
import shutil
import socket
from typing import Any

from runv.agent.client import Agent
from runv.errors import AgentError, HostError
from runv.files import remove_tree
from runv.network.plan import SPARE, card_address
from runv.sandbox.filters import Filter
from runv.sandbox.layout import SandboxFolder
from runv.spec.default import default_config
from runv.storage import plan as storage
from runv.vm.namespace import add_binds, remove_binds
from runv.vm.qemu import Bind

_NAME = "warm"
_PROGRAM = "/program"
_SHARED = f"{storage.GUEST_SHARE}/{_NAME}"
_READ_BYTES = 1 << 16
# Any names: the kernel's ways are the same for these as for an engine's three hundred.
_SYSCALLS = (
    "accept accept4 access bind brk capget chdir chmod chown clock_gettime close connect dup epoll_ctl epoll_wait execve exit exit_group fchmod fchown fcntl "
    "fork fstat fsync futex getcwd getdents64 getpid getrandom getuid ioctl kill listen lseek mkdir mmap mprotect munmap nanosleep newfstatat open openat pipe "
    "poll pread64 read readlink recvfrom rename rt_sigaction rt_sigprocmask rt_sigreturn sendto set_tid_address setsockopt socket stat statx uname unlink wait4 write"
).split()
_CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT", "AUDIT_WRITE")


def warm_up(agent: Agent, sandbox: SandboxFolder, program: str, filters: str) -> None:
    """Takes the ways that engines' containers take, in a machine whose share is mounted.

    :param program: one that is linked statically and ends by itself
    :param filters: the path of runv-filter
    :raise RunvError: the machine is of no use
    """
    qemu = sandbox.process("qemu.pid")
    assert qemu is not None  # it has just answered
    root, file = sandbox.path(_NAME), sandbox.path("hosts")
    try:
        os.mkdir(root, 0o755)
        shutil.copy(program, root + _PROGRAM)
        with open(file, "x", encoding="ascii") as empty:
            empty.write("127.0.0.1 localhost\n")
    except OSError as error:
        raise HostError("prepare a container to warm up with", error) from error
    add_binds(qemu, sandbox.path("share"), [Bind(root, f"{_NAME}/rootfs"), Bind(file, f"{_NAME}/7/hosts")])
    try:
        agent.call("devices", {"disks": [], "characters": True})
        _card(agent)
        agent.call("create", {"container": _NAME, "oci": _configuration(filters)})
        try:
            _run(agent, "tty", terminal=True)
            _run(agent, "again", terminal=False)
            _finish(agent, "init", ("stdin", "stdout", "stderr"))
        finally:
            agent.call("delete", {"container": _NAME})
    finally:
        remove_binds(qemu, sandbox.path("share"), _NAME)
        remove_tree(root)
        os.unlink(file)


def _configuration(filters: str) -> dict[str, Any]:
    found = default_config()
    linux = found["linux"]
    linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [
            {"names": _SYSCALLS, "action": "SCMP_ACT_ALLOW"},
            {"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}]},
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 0x7E020000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]},
        ],
    }
    with Filter(filters, found) as seccomp:
        linux["seccomp"] = seccomp.take()
    linux["namespaces"] = [entry for entry in linux["namespaces"] if entry["type"] != "network"]
    linux["devices"] = []
    linux["resources"] = {
        "devices": [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"}, {"allow": True, "type": "c", "access": "m"}],
        "memory": {"limit": 64 << 20},
        "cpu": {"shares": 1024, "quota": 100000, "period": 100000},
        "pids": {"limit": 64},
    }
    bind = {"destination": "/etc/hosts", "type": "bind", "source": f"{_SHARED}/7/hosts", "options": ["rbind", "rprivate"]}
    return {
        "root": {"path": f"{_SHARED}/rootfs", "readonly": False},
        "process": _process(terminal=False),
        "mounts": [*found["mounts"], bind],
        "linux": linux,
        "hostname": _NAME,
    }


def _process(*, terminal: bool) -> dict[str, Any]:
    names = [f"CAP_{name}" for name in _CAPABILITIES]
    return {
        **default_config()["process"],
        "args": [_PROGRAM],
        "terminal": terminal,
        "capabilities": {kind: names for kind in ("bounding", "effective", "permitted")},
        "oomScoreAdj": 0,
    }


def _run(agent: Agent, name: str, *, terminal: bool) -> None:
    agent.call("exec", {"container": _NAME, "process": name, "spec": _process(terminal=terminal)})
    if terminal:
        agent.call("resize", {"container": _NAME, "process": name, "rows": 24, "columns": 80})
    _finish(agent, name, ("tty",) if terminal else ("stdin", "stdout", "stderr"))


def _finish(agent: Agent, name: str, streams: tuple[str, ...]) -> None:
    with contextlib.ExitStack() as held:
        links = [held.enter_context(link) for link in agent.streams(_NAME, name, streams)]
        agent.call("start", {"container": _NAME, "process": name})
        if streams[0] == "stdin":
            with contextlib.suppress(OSError):  # it may have ended
                links[0].sendall(b"\n")
                links[0].shutdown(socket.SHUT_WR)
        for link in links[-2:]:
            _drain(link)
        agent.call("wait", {"container": _NAME, "process": name})
        with contextlib.suppress(AgentError):  # it has ended
            agent.call("signal", {"container": _NAME, "process": name, "signal": 9})


def _drain(link: socket.socket) -> None:
    link.settimeout(10.0)
    with contextlib.suppress(OSError):
        while link.recv(_READ_BYTES):
            pass


def _card(agent: Agent) -> None:
    """The spare card gets a network, and is put away again with all of it."""
    card = {"card": card_address(SPARE), "mac": card_address(0), "name": "eth0", "mtu": 1500, "up": True, "arp": True}
    agent.call(
        "setup",
        {
            "interfaces": [{**card, "addresses": ["192.0.2.2/24", "2001:db8::2/64"]}],
            "routes": [{"destination": "0.0.0.0/0", "gateway": "192.0.2.1", "interface": "eth0"}],
            "neighbours": [{"interface": "eth0", "address": "192.0.2.1", "mac": card_address(1)}],
        },
    )
    agent.call("setup", {"put_away": True})
