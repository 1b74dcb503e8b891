"""linux.memoryPolicy, and the kernel's lists of numbers."""

import os
import subprocess
import sys

import pytest

from runv.errors import ConfigError
from runv.spec.config import MemoryPolicy
from runv.spec.lists import number_list
from runv.spec.memory_policy import mode_and_nodes


def test_lists() -> None:
    assert number_list("0-2,7, 9-9", "$") == {0, 1, 2, 7, 9}
    assert number_list("", "$") == set()
    for text in ("a", "1-", "-1", "1,,2", "0-99999999"):
        with pytest.raises(ConfigError):
            number_list(text, "$")


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (MemoryPolicy(mode="MPOL_DEFAULT"), (0, set())),
        (MemoryPolicy(mode="MPOL_LOCAL"), (4, set())),
        (MemoryPolicy(mode="MPOL_PREFERRED"), (1, set())),
        (MemoryPolicy(mode="MPOL_BIND", nodes="0-1,3"), (2, {0, 1, 3})),
        (MemoryPolicy(mode="MPOL_INTERLEAVE", nodes="2-3", flags=["MPOL_F_STATIC_NODES"]), (3 | 1 << 15, {2, 3})),
    ],
)
def test_arguments(policy: MemoryPolicy, expected: tuple[int, set[int]]) -> None:
    assert mode_and_nodes(policy) == expected


@pytest.mark.parametrize(
    ("policy", "member"),
    [
        (MemoryPolicy(mode="MPOL_X"), "mode"),
        (MemoryPolicy(mode="MPOL_BIND", nodes="0", flags=["MPOL_F_X"]), "flags"),
        (MemoryPolicy(mode="MPOL_BIND"), "nodes"),
        (MemoryPolicy(mode="MPOL_BIND", nodes="x"), "nodes"),
        (MemoryPolicy(mode="MPOL_BIND", nodes="1024"), "nodes"),
        (MemoryPolicy(mode="MPOL_LOCAL", nodes="0"), "nodes"),
    ],
)
def test_refused(policy: MemoryPolicy, member: str) -> None:
    with pytest.raises(ConfigError, match=rf"\$\.linux\.memoryPolicy\.{member}: "):
        mode_and_nodes(policy)


@pytest.mark.skipif(not os.path.exists("/proc/self/numa_maps"), reason="this kernel knows no NUMA")
def test_the_kernel_takes_it() -> None:
    program = "from runv import linux; linux.set_mempolicy(2, {0}); print(open('/proc/self/numa_maps').read())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert " bind:0 " in done.stdout
