"""A profile that cannot be made a filter of goes to the guest as it is."""

import os
from pathlib import Path

import pytest

from runv.sandbox.filters import Filter
from tests.vm.harness import wait_until

PROFILE = {"defaultAction": "SCMP_ACT_ALLOW"}


def built(program: str, profile: dict[str, str]) -> object:
    with Filter(program, {"linux": {"seccomp": profile}}) as seccomp:
        return seccomp.take()


def program(folder: Path, text: str) -> str:
    path = folder / "filter"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_what_it_says_is_taken(tmp_path: Path) -> None:
    """It is given the profile as the agent would be."""
    asks = """read -r profile; [ "$profile" = '{"seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}}' ] && echo '{"program": "06", "programFlags": 1}'"""
    assert built(program(tmp_path, asks), PROFILE) == {"program": "06", "programFlags": 1}


@pytest.mark.parametrize("text", ["exit 1", "echo '{}'", "echo '{'", "kill -9 $$", "echo '{\"program\": \"06\"}'; exit 1"])
def test_else_the_profile_stays(tmp_path: Path, text: str) -> None:
    assert built(program(tmp_path, text), PROFILE) is PROFILE
    assert built(str(tmp_path / "absent"), PROFILE) is PROFILE


def test_what_is_not_waited_for_is_ended(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    with Filter(program(tmp_path, f"echo $$ > {tmp_path}/pid; exec sleep 60"), {"linux": {"seccomp": PROFILE}}):
        wait_until(lambda: (tmp_path / "pid").exists() and bool((tmp_path / "pid").read_text()), "its start", 10)
    with pytest.raises(ChildProcessError):
        os.waitpid(int((tmp_path / "pid").read_text()), os.WNOHANG)  # no other: whoever tests may have adopted some
    assert os.listdir("/proc/self/fd") == before
