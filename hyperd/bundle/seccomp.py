"""The default filter of system calls: what Docker allows, grouped by what it is for. The guest's libseccomp passes over names that its kernel lacks."""

import errno
import platform
from collections.abc import Collection
from typing import Any, Final

_Json = dict[str, Any]

# What programs need whoever they are. A name in braces stands for several: stat{,64} is stat and stat64.
_ALWAYS: Final = """
access chdir chmod chown{,32} close{,_range} copy_file_range creat dup{,2,3} faccessat{,2} fadvise64{,_64} fallocate fanotify_mark fchdir fchmod{,at,at2} fchown{,32} fchownat
fcntl{,64} fdatasync fgetxattr flistxattr flock fremovexattr fsetxattr fstat{,64} fstatat64 fstatfs{,64} fsync ftruncate{,64} futimesat getcwd
getdents{,64} getxattr{,at} inotify_{add_watch,init,init1,rm_watch} ioctl lchown{,32} lgetxattr link{,at} listmount listxattr{,at} llistxattr _llseek
lremovexattr lseek lsetxattr lstat{,64} mkdir{,at} mknod{,at} name_to_handle_at newfstatat open{,at,at2} pipe{,2} pread64 preadv{,2} pwrite64
pwritev{,2} read readahead readlink{,at} readv removexattr{,at} rename{,at,at2} rmdir sendfile{,64} setxattr{,at} splice stat{,64} statfs{,64} statmount
statx symlink{,at} sync sync_file_range syncfs tee truncate{,64} umask unlink{,at} utime utimensat{,_time64} utimes vmsplice write writev

epoll_{create,create1,ctl,ctl_old,pwait,pwait2,wait,wait_old} eventfd{,2} poll ppoll{,_time64} pselect6{,_time64} select _newselect signalfd{,4}
io_{cancel,destroy,getevents,pgetevents,pgetevents_time64,setup,submit} ioprio_{get,set}

accept{,4} bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg{,_time64} recvmsg send sendmmsg sendmsg sendto setsockopt
shutdown socketcall socketpair

brk cachestat madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock{,2,all} mmap{,2} mprotect mremap mseal msync munlock{,all} munmap
pkey_{alloc,free,mprotect} process_mrelease remap_file_pages

ipc mq_{getsetattr,notify,open,timedreceive,timedreceive_time64,timedsend,timedsend_time64,unlink} msg{ctl,get,rcv,snd} sem{ctl,get,op}
semtimedop{,_time64} shm{at,ctl,dt,get}

execve{,at} exit{,_group} fork vfork get{cpu,pid,ppid,tid,pgid,pgrp,sid,rusage,random,priority} gettid kill pause pidfd_{open,send_signal} prctl ptrace
process_vm_{readv,writev} restart_syscall rseq seccomp set{pgid,sid,priority} set_tid_address tgkill tkill times uname uretprobe wait4 waitid waitpid
landlock_{add_rule,create_ruleset,restrict_self} riscv_hwprobe sysinfo

futex{,_time64,_wait,_waitv,_wake,_requeue} {get,set}_robust_list {get,set}_thread_area

cap{get,set} get{egid,euid,gid,groups,resgid,resuid,uid}{,32} set{fsgid,fsuid,gid,groups,regid,resgid,resuid,reuid,uid}{,32}

getrlimit setrlimit prlimit64 ugetrlimit
sched_{getaffinity,getattr,getparam,get_priority_max,get_priority_min,getscheduler,rr_get_interval,rr_get_interval_time64}
sched_{setaffinity,setattr,setparam,setscheduler,yield}

rt_{sigaction,sigpending,sigprocmask,sigqueueinfo,sigreturn,sigsuspend,sigtimedwait,sigtimedwait_time64,tgsigqueueinfo} sigaltstack sigprocmask sigreturn

adjtimex alarm clock_adjtime{,64} clock_{getres,gettime,nanosleep} clock_{getres,nanosleep}_time64 clock_gettime64 getitimer setitimer gettimeofday nanosleep
time timer_{create,delete,getoverrun} timer_{gettime,settime}{,64} timerfd_create timerfd_{gettime,settime}{,64}
"""

_MACHINE: Final = {
    "x86_64": (["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"], "arch_prctl modify_ldt"),
    "aarch64": (
        ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
    ),
    "riscv64": (["SCMP_ARCH_RISCV64"], "riscv_flush_icache"),
    "s390x": (["SCMP_ARCH_S390X", "SCMP_ARCH_S390"], "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr"),
    "ppc64le": (["SCMP_ARCH_PPC64LE"], "sync_file_range2 swapcontext"),
}

# What somebody may only who has the capability.
_BY_CAPABILITY: Final = {
    "DAC_READ_SEARCH": "open_by_handle_at",
    "SYS_ADMIN": (
        "bpf clone clone3 fanotify_init fs{config,mount,open,pick} lookup_dcookie lsm_{get_self_attr,list_modules,set_self_attr} mount{,_setattr} "
        "move_mount open_tree perf_event_open quotactl{,_fd} setdomainname sethostname setns syslog umount{,2} unshare"
    ),
    "SYS_BOOT": "reboot",
    "SYS_CHROOT": "chroot",
    "SYS_MODULE": "delete_module init_module finit_module",
    "SYS_PACCT": "acct",
    "SYS_PTRACE": "kcmp pidfd_getfd process_madvise process_vm_{readv,writev} ptrace",
    "SYS_RAWIO": "iopl ioperm",
    "SYS_TIME": "settimeofday stime clock_settime{,64}",
    "SYS_TTY_CONFIG": "vhangup",
    "SYS_NICE": "get_mempolicy mbind set_mempolicy{,_home_node}",
    "SYSLOG": "syslog",
    "BPF": "bpf",
    "PERFMON": "perf_event_open",
}

# The flags of clone(2) that make namespaces.
_NEW_NAMESPACES: Final = 0x7E020000
_AF_ALG, _AF_VSOCK = 38, 40
# Linux, Linux with short addresses of inodes, both with 32 bits, and to ask.
_PERSONALITIES: Final = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)


def default_profile(capabilities: Collection[str], machine: str = "") -> _Json:
    """linux.seccomp for a container with ``capabilities``. ``machine`` as in uname(2); empty: this one's."""
    machine = machine or platform.machine()
    architectures, own = _MACHINE.get(machine, ([], ""))
    allowed = set(_names(_ALWAYS)) | set(own.split())
    for capability, text in _BY_CAPABILITY.items():
        if f"CAP_{capability}" in capabilities:
            allowed.update(_names(text))
    rules: list[_Json] = [{"names": sorted(allowed), "action": "SCMP_ACT_ALLOW"}]
    # Kernel crypto and the sockets to the host are for nobody: AF_ALG has been a way to attack the kernel, AF_VSOCK leads out of the machine.
    for operator, value in (("LT", _AF_ALG), ("EQ", _AF_ALG + 1), ("GT", _AF_VSOCK)):
        rules.append(_allow("socket", 0, operator, value))
    rules += [_allow("personality", 0, "EQ", value) for value in _PERSONALITIES]
    if "CAP_SYS_ADMIN" not in capabilities:
        flags = {"index": 1 if machine == "s390x" else 0, "value": _NEW_NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
        rules.append({"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [flags]})
        # Its flags are in memory, where a filter cannot look; C libraries go back to clone then.
        rules.append({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOSYS})
    return {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": errno.EPERM, "architectures": architectures, "syscalls": rules}


def _allow(name: str, index: int, operator: str, value: int) -> _Json:
    return {
        "names": [name],
        "action": "SCMP_ACT_ALLOW",
        "args": [{"index": index, "value": value, "valueTwo": 0, "op": f"SCMP_CMP_{operator}"}],
    }


def _names(text: str) -> list[str]:
    return [name for word in text.split() for name in _opened(word)]


def _opened(word: str) -> list[str]:
    """``a{,b}c`` -> ``ac``, ``abc``."""
    before, brace, rest = word.partition("{")
    if not brace:
        return [word]
    inner, _, after = rest.partition("}")
    return [before + each + end for each in inner.split(",") for end in _opened(after)]
