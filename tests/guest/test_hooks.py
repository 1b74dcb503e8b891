"""startContainer hooks: in the container, before its program."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from .client import AgentError, Json
from .harness import Guest, oci_spec

STATE = {"ociVersion": "1.2.0", "id": "c", "status": "created", "pid": 0, "bundle": "/b", "annotations": {"k": "v"}}


def hook(script: str, **members: Any) -> Json:
    return {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin"], **members}


def with_hooks(*hooks: Json, program: str = "cat /out", **members: Any) -> Json:
    return oci_spec("sh", "-c", program, **members) | {"hooks": {"startContainer": list(hooks)}, "state": STATE}


def failure(guest: Guest, oci: Json) -> AgentError:
    """Why the container does not start; its program must not have run."""
    guest.control.call("create", container="c", oci=oci)
    with pytest.raises(AgentError) as caught:
        guest.control.call("start", container="c")
    assert guest.control.call("wait", container="c") == {"exit": 126}
    guest.control.call("delete", container="c")
    assert not (guest.rootfs / "ran").exists()
    return caught.value


def test_hooks_run_in_order_before_the_program(guest: Guest) -> None:
    oci = with_hooks(hook("echo 1 >> /out"), hook("echo 2 >> /out"), program="echo 3 >> /out")
    guest.control.call("create", container="c", oci=oci)
    assert not (guest.rootfs / "out").exists()
    waiting = guest.control.send("wait", container="c")
    guest.control.call("start", container="c")
    assert guest.control.result(waiting) == {"exit": 0}
    guest.control.call("delete", container="c")
    assert (guest.rootfs / "out").read_text() == "1\n2\n3\n"


def test_the_state_comes_on_stdin(guest: Guest) -> None:
    done = guest.run(with_hooks(hook("cat > /out")))
    # The first process of a new pid namespace
    assert json.loads(done.text) == STATE | {"pid": 1}


def test_a_hook_need_not_read_it(guest: Guest) -> None:
    oci = with_hooks(hook("exec < /dev/null; echo ran > /out"))
    oci["state"] = STATE | {"annotations": {"large": "x" * 300000}}
    assert guest.run(oci).text == "ran\n"


def test_a_hook_has_what_the_program_has(guest: Guest) -> None:
    """Its user, capabilities and filter, and its environment where it has none of its own."""
    look = "(id -u; grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status; echo $WHO; ls /proc/self/fd | wc -l)"
    seccomp = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}
    own = {"path": "/bin/sh", "args": ["sh", "-c", f"{look} > /tmp/out; mkdir /tmp/no || echo refused >> /tmp/out"]}
    oci = with_hooks(
        own,
        program=f"{look} > /tmp/mine; mkdir /tmp/no || echo refused >> /tmp/mine; cat /tmp/out; echo; cat /tmp/mine",
        user={"uid": 1000, "gid": 1000},
        env=["PATH=/bin", "WHO=program"],
        linux={"seccomp": seccomp},
    )
    (guest.rootfs / "tmp").chmod(0o1777)
    hooks, program = guest.run(oci).text.split("\n\n")
    assert hooks.splitlines() == program.splitlines()
    assert hooks.splitlines()[0] == "1000"
    assert "program" in hooks
    assert "refused" in hooks


def test_without_args_the_path_is_the_name(guest: Guest) -> None:
    (guest.rootfs / "bin/say").write_text("#!/bin/sh\necho $0 $# > /out\n")
    (guest.rootfs / "bin/say").chmod(0o755)
    assert guest.run(with_hooks({"path": "/bin/say"})).text == "/bin/say 0\n"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (hook("echo why; echo so >&2; exit 3"), "error running startContainer hook #1: exit status 3, output: why\nso\n"),
        (hook("kill -9 $$"), "error running startContainer hook #1: killed by signal 9"),
        ({"path": "/absent"}, "exec /absent: no such file or directory"),
        ({"path": "relative"}, "oci.hooks.startContainer[1].path must be absolute"),
        (hook("true", timeout=0), "oci.hooks.startContainer[1].timeout"),
    ],
)
def test_a_failing_hook_fails_the_start(guest: Guest, entry: Json, message: str) -> None:
    oci = with_hooks(hook("true"), entry, hook("touch /ran"), program="touch /ran")
    assert message in failure(guest, oci).message


def test_what_it_says_need_not_be_text(guest: Guest) -> None:
    assert "output: ??!" in failure(guest, with_hooks(hook("printf '\\377\\376!'; exit 1"))).message


def test_a_timeout_kills_the_hook(guest: Guest) -> None:
    began = time.monotonic()
    error = failure(guest, with_hooks(hook("sleep 1000", timeout=1), program="touch /ran"))
    assert error.message == "error running startContainer hook #0: /bin/sh did not end within 1 s"
    assert time.monotonic() - began < 100


def test_what_a_hook_leaves_behind_is_not_waited_for(guest: Guest) -> None:
    assert guest.run(with_hooks(hook("sleep 1000 & echo done > /out"))).text == "done\n"


def test_delete_does_not_wait_for_a_hook(guest: Guest) -> None:
    guest.control.call("create", container="c", oci=with_hooks(hook("sleep 1000")))
    starting = guest.control.send("start", container="c")
    guest.control.call("delete", container="c")
    with pytest.raises(AgentError):
        guest.control.result(starting)
