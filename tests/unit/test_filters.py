"""A profile that cannot be made a filter of goes to the guest as it is."""

from pathlib import Path

import pytest

from runv.sandbox.filters import built

PROFILE = {"defaultAction": "SCMP_ACT_ALLOW"}


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
