"""System calls that a profile is too old to know."""

from __future__ import annotations

import errno
import json
import subprocess
from pathlib import Path

import pytest

from .client import AgentError, Json
from .harness import Guest, oci_spec

PROGRAM = """
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        errno = 0;
        syscall(strtoul(argv[i], NULL, 0), -1, NULL, NULL, 0, 0, 0);
        printf("%d\\n", errno);
    }
}
"""
# What a static program and the agent before it call; openat2 is the highest.
NAMES = (
    "execve exit_group brk arch_prctl write fstat newfstatat mmap mprotect set_tid_address set_robust_list rseq prlimit64 readlink "
    "readlinkat getrandom uname openat2"
).split()
CLONE3, OPENAT2, FACCESSAT2, FAR = "435", "437", "439", "1000"


@pytest.fixture(scope="session")
def caller(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that makes the system calls that it is told and prints their errno."""
    folder = tmp_path_factory.mktemp("caller")
    (folder / "caller.c").write_text(PROGRAM)
    subprocess.run(["gcc", "-static", "-o", folder / "caller", folder / "caller.c"], check=True)
    return folder / "caller"


def errnos(guest: Guest, caller: Path, default: Json, *numbers: str) -> list[int]:
    (guest.rootfs / "caller").write_bytes(caller.read_bytes())
    (guest.rootfs / "caller").chmod(0o755)
    profile = default | {"syscalls": [{"names": NAMES, "action": "SCMP_ACT_ALLOW"}]}
    done = guest.run(oci_spec("/caller", *numbers, linux={"seccomp": profile}))
    assert done.result == {"exit": 0}, done
    return [int(line) for line in done.text.split()]


def test_newer_calls_are_unknown(guest: Guest, caller: Path) -> None:
    """Below the highest that is named the default holds; above it, there is no such call."""
    default = {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": errno.EACCES}
    got = errnos(guest, caller, default, CLONE3, OPENAT2, FACCESSAT2, FAR)
    assert got == [errno.EACCES, errno.EINVAL, errno.ENOSYS, errno.ENOSYS]


def test_also_where_the_default_kills(guest: Guest, caller: Path) -> None:
    default = {"defaultAction": "SCMP_ACT_KILL_PROCESS", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]}
    assert errnos(guest, caller, default, FAR) == [errno.ENOSYS]


def test_an_empty_profile_is_none(guest: Guest) -> None:
    assert guest.shell("grep ^Seccomp: /proc/self/status", linux={"seccomp": {}}).text.split()[1] == "0"


def test_a_default_that_allows_stays(guest: Guest, caller: Path) -> None:
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]}
    (guest.rootfs / "caller").write_bytes(caller.read_bytes())
    (guest.rootfs / "caller").chmod(0o755)
    # 439 is the kernel's own: a bad address, not an unknown call
    assert guest.run(oci_spec("/caller", FACCESSAT2, linux={"seccomp": profile})).text == f"{errno.EFAULT}\n"


def built_of(build: Path, profile: Json) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([build / "runv-filter"], input=json.dumps({"seccomp": profile}).encode(), capture_output=True, check=False)


def test_a_filter_that_was_built_outside(guest: Guest, build: Path, caller: Path) -> None:
    """It is the same as the guest makes of the profile: below the highest name the default, above it no such call."""
    (guest.rootfs / "caller").write_bytes(caller.read_bytes())
    (guest.rootfs / "caller").chmod(0o755)
    syscalls = [{"names": NAMES, "action": "SCMP_ACT_ALLOW"}]
    made = built_of(build, {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": errno.EACCES, "syscalls": syscalls, "flags": ["SECCOMP_FILTER_FLAG_LOG"]})
    profile = json.loads(made.stdout)
    assert profile["programFlags"] == 2
    done = guest.run(oci_spec("/caller", CLONE3, OPENAT2, FACCESSAT2, FAR, linux={"seccomp": profile}))
    assert [int(line) for line in done.text.split()] == [errno.EACCES, errno.EINVAL, errno.ENOSYS, errno.ENOSYS]


def test_what_cannot_be_built(guest: Guest, build: Path) -> None:
    assert built_of(build, {}).stdout == b"{}\n"
    wrong = built_of(build, {"defaultAction": "SCMP_ACT_FUN"})
    assert wrong.returncode == 1
    assert b"linux.seccomp.defaultAction is not a known action" in wrong.stderr
    for program, why in (("06", "has a wrong length"), ("", "has a wrong length"), ("0z" * 8, "must be hexadecimal"), ("00" * 8 * 4097, "has a wrong length")):
        with pytest.raises(AgentError, match=f"oci.linux.seccomp.program {why}"):
            guest.run(oci_spec("true", linux={"seccomp": {"program": program}}))
    # The kernel looks at what is in it.
    with pytest.raises(AgentError, match="seccomp filter: invalid argument"):
        guest.run(oci_spec("true", linux={"seccomp": {"program": "ff" * 8}}))
