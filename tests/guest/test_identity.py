"""Who a program runs as, and what it may do."""

from __future__ import annotations

import os
import platform
from typing import Any

import pytest

from .client import AgentError, Json
from .harness import Guest, oci_spec

ALICE = {"uid": 1000, "gid": 1000}
SETS = ("bounding", "effective", "permitted")
ALLOW: Json = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
}


def capabilities_of(guest: Guest, **members: Any) -> dict[str, int]:
    text = guest.shell("grep ^Cap /proc/self/status", **members).text
    return {line.split(":")[0]: int(line.split()[1], 16) for line in text.splitlines()}


def test_user_and_groups(guest: Guest) -> None:
    user = {"uid": 1000, "gid": 1001, "additionalGids": [7, 8], "umask": 0o027}
    done = guest.shell("id -u; id -g; id -G; umask; touch /tmp/f; stat -c %a:%u:%g /tmp/f", user=user)
    assert done.text == "1000\n1001\n1001 7 8\n0027\n640:1000:1001\n"


def test_home(guest: Guest) -> None:
    assert guest.shell("echo $HOME").text == "/root\n"
    assert guest.shell("echo $HOME", user=ALICE).text == "/home/alice\n"
    assert guest.shell("echo $HOME", user={"uid": 4242, "gid": 1}).text == "/\n"
    assert guest.shell("echo $HOME", env=["PATH=/bin", "HOME=/given"]).text == "/given\n"


def test_home_from_a_strange_file(guest: Guest) -> None:
    """It comes from the image: here a pipe, on which nobody may wait."""
    (guest.rootfs / "etc/passwd").unlink()
    os.mkfifo(guest.rootfs / "etc/passwd")
    assert guest.shell("echo $HOME").text == "/\n"


def test_environment_is_only_the_given(guest: Guest) -> None:
    done = guest.run(oci_spec("/bin/env", env=["A=b", "C"]))
    assert done.text == "A=b\nC\nHOME=/root\n"


def test_capabilities(guest: Guest) -> None:
    chown, kill = 1 << 0, 1 << 5
    given = {name: ["CAP_CHOWN", "CAP_KILL", "CAP_NONESUCH"] for name in SETS}
    assert capabilities_of(guest, capabilities=given) == {
        "CapInh": 0, "CapPrm": chown | kill, "CapEff": chown | kill, "CapBnd": chown | kill, "CapAmb": 0,
    }  # fmt: skip
    assert set(capabilities_of(guest, capabilities={}).values()) == {0}


def test_capabilities_of_a_user(guest: Guest) -> None:
    """Only ambient ones survive the execve of who is not root."""
    chown = ["CAP_CHOWN"]
    plain = dict.fromkeys(SETS, chown)
    assert capabilities_of(guest, user=ALICE, capabilities=plain)["CapEff"] == 0
    ambient = dict.fromkeys((*SETS, "inheritable", "ambient"), chown)
    assert set(capabilities_of(guest, user=ALICE, capabilities=ambient).values()) == {1}


def test_exec_has_capabilities_of_its_own(guest: Guest) -> None:
    with guest.running("sleep", "100"):
        given = {name: ["CAP_KILL"] for name in SETS}
        text = guest.exec("c", "grep", "CapEff", "/proc/self/status", capabilities=given).text
    assert int(text.split()[1], 16) == 1 << 5


@pytest.mark.parametrize("value", [True, False])
def test_no_new_privileges(guest: Guest, value: bool) -> None:  # noqa: FBT001
    text = guest.shell("grep NoNewPrivs /proc/self/status", noNewPrivileges=value).text
    assert text.split()[1] == str(int(value))


def test_rlimits(guest: Guest) -> None:
    limits = [
        {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        {"type": "RLIMIT_STACK", "soft": 1 << 20, "hard": 1 << 21},
    ]
    done = guest.shell("ulimit -n; ulimit -Hn; ulimit -c; ulimit -s; ulimit -Hs", rlimits=limits)
    assert done.text.split() == ["100", "200", "0", "1024", "2048"]


def test_rlimits_do_not_hinder_the_start(guest: Guest) -> None:
    limits = [{"type": "RLIMIT_NOFILE", "soft": 3, "hard": 3}, {"type": "RLIMIT_FSIZE", "soft": 0, "hard": 0}]
    assert guest.run(oci_spec("true", rlimits=limits)).result == {"exit": 0}


def test_rlimit_twice(guest: Guest) -> None:
    limits = [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}] * 2
    with pytest.raises(AgentError, match=r"process.rlimits\[1\].type is there twice"):
        guest.run(oci_spec("true", rlimits=limits))


def test_default_of_open_files(guest: Guest) -> None:
    """Not PID 1's own, which is high: old programs close every descriptor up to it."""
    assert guest.shell("ulimit -n").text == "1024\n"


def test_oom_score(guest: Guest) -> None:
    assert guest.shell("cat /proc/self/oom_score_adj", oomScoreAdj=500).text == "500\n"


def test_scheduler(guest: Guest) -> None:
    text = guest.shell("awk '{ print $19, $41 }' /proc/self/stat", scheduler={"policy": "SCHED_BATCH", "nice": 5}).text
    assert text == "5 3\n"


def test_io_priority(guest: Guest) -> None:
    assert guest.shell("ionice", ioPriority={"class": "IOPRIO_CLASS_IDLE", "priority": 0}).text.startswith("idle")


def test_cpu_affinity_of_further_processes(guest: Guest) -> None:
    """The first process is not concerned; "final" goes before "initial"."""
    show = ("sed", "-n", "s/^Cpus_allowed_list:.//p", "/proc/self/status")
    last = str(max(os.sched_getaffinity(0)))
    affinity = {"initial": "0-1", "final": last}
    with guest.running("sleep", "100", execCPUAffinity={"final": "nonsense"}):
        assert guest.exec("c", *show, execCPUAffinity=affinity).text == f"{last}\n"
        assert guest.exec("c", *show, execCPUAffinity={"initial": last}).text == f"{last}\n"
        for text, message in (
            ("0-", "spec.execCPUAffinity.final is not a list of CPUs"),
            ("1-0", "is not a list of CPUs"),
            ("0,a", "is not a list of CPUs"),
            ("1023", "cannot run on CPUs 1023 of the guest: invalid argument"),
            ("1024", "is not a list of CPUs"),
        ):
            with pytest.raises(AgentError) as caught:
                guest.exec("c", "true", execCPUAffinity={"final": text})
            assert message in caught.value.message


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the domain is named after x86")
def test_personality(guest: Guest) -> None:
    assert guest.shell("uname -m", linux={"personality": {"domain": "LINUX32"}}).text == "i686\n"


class TestSeccomp:
    @pytest.mark.parametrize("nnp", [True, False])
    def test_errno(self, guest: Guest, nnp: bool) -> None:  # noqa: FBT001
        rules = [{"names": ["mkdir", "mkdirat", "nonesuch"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]
        done = guest.shell("mkdir /tmp/x; grep ^Seccomp: /proc/self/status",
                           linux={"seccomp": ALLOW | {"syscalls": rules}}, noNewPrivileges=nnp)  # fmt: skip
        assert b"No space left on device" in done.stderr
        assert done.text.split() == ["Seccomp:", "2"]

    def test_default_errno_is_eperm(self, guest: Guest) -> None:
        rules = [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]
        assert (
            b"Operation not permitted"
            in guest.shell("mkdir /tmp/x", linux={"seccomp": ALLOW | {"syscalls": rules}}).stderr
        )

    def test_kill(self, guest: Guest) -> None:
        rules = [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"}]
        done = guest.run(oci_spec("/bin/mkdir", "/tmp/x", linux={"seccomp": ALLOW | {"syscalls": rules}}))
        assert done.result == {"signal": 31}

    def test_arguments(self, guest: Guest) -> None:
        """kill(2) only with signal 10, and the same argument in two rules."""
        args = [{"index": 1, "value": 10, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 12, "op": "SCMP_CMP_EQ"}]
        rules = [{"names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13, "args": args}]
        script = "trap '' USR1 USR2 HUP; kill -USR1 $$; kill -USR2 $$; kill -HUP $$ && echo hup"
        done = guest.shell(script, linux={"seccomp": ALLOW | {"syscalls": rules}})
        assert done.stderr.count(b"Permission denied") == 2
        assert done.text == "hup\n"

    def test_further_processes_have_it_too(self, guest: Guest) -> None:
        rules = [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]
        with guest.running("sleep", "100", linux={"seccomp": ALLOW | {"syscalls": rules}}):
            assert guest.exec("c", "mkdir", "/tmp/x").result == {"exit": 1}

    def test_list_of_what_is_allowed(self, guest: Guest) -> None:
        """As engines write them: everything is an error but what a program needs."""
        names = """
            read write open openat close stat fstat newfstatat lstat mmap munmap mprotect brk exit exit_group execve
            arch_prctl set_tid_address set_robust_list rseq prlimit64 getrandom readlink getuid geteuid getgid getegid
            rt_sigaction rt_sigprocmask getpid ioctl fcntl prctl capset dup2 writev uname getcwd getppid clone
            wait4 futex
        """.split()
        rules = [{"names": names, "action": "SCMP_ACT_ALLOW"}]
        profile = {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "syscalls": rules}
        for nnp in (True, False):
            done = guest.run(oci_spec("/bin/echo", "works", linux={"seccomp": profile}, noNewPrivileges=nnp))
            assert done.text == "works\n"

    @pytest.mark.parametrize(
        ("profile", "message"),
        [
            ({"defaultAction": "SCMP_ACT_FUN"}, "oci.linux.seccomp.defaultAction is not a known action"),
            (ALLOW | {"architectures": ["SCMP_ARCH_FUN"]}, "oci.linux.seccomp.architectures has an unknown entry"),
            (ALLOW | {"syscalls": [{"names": ["kill"]}]}, "oci.linux.seccomp.syscalls[0].action is missing"),
            (
                ALLOW | {"syscalls": [{"names": ["kill"], "action": "SCMP_ACT_TRAP", "args": [{"index": 6}]}]},
                "oci.linux.seccomp.syscalls[0].args[0].index must be an integer from 0 to 5",
            ),
        ],
    )
    def test_what_is_wrong_is_named(self, guest: Guest, profile: Json, message: str) -> None:
        with pytest.raises(AgentError) as caught:
            guest.run(oci_spec("true", linux={"seccomp": profile}))
        assert (caught.value.kind, caught.value.message) == ("invalid", message)
