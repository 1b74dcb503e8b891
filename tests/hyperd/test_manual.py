"""hyperd's manual page and completion: all options and settings are there, and readers and shells take them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from hyperd.cli import completion_script, main
from hyperd.manual import SETTINGS, commands, defaults, pages

[PAGE] = pages().values()
ROOT = Path(__file__).parents[2]


def test_every_setting_is_explained_with_its_default() -> None:
    assert set(SETTINGS) == {name for name, _ in defaults()}
    assert "\\fBapi.socket\\fR = \"/run/hyperd/hyperd.sock\"\n" in PAGE
    assert "\\fBnetwork.ipv6\\fR = true\n" in PAGE


def test_every_option_is_on_the_page() -> None:
    for command in (main, *(context.command for _, context in commands())):
        assert command.help
        for option in command.params:
            if isinstance(option, click.Option):
                assert option.help and option.help.endswith("."), option.name
                assert all(f"\\fB{name.replace('-', chr(92) + '-')}\\fR" in PAGE for name in option.opts)
    assert {" ".join(words) for words, _ in commands()} >= {"config check", "config show", "cert init", "cert issue", "completion"}


def test_mandoc_finds_no_fault(tmp_path: Path) -> None:
    mandoc = shutil.which("mandoc")
    if mandoc is None:
        pytest.skip("mandoc is not installed")
    (tmp_path / "hyperd.8").write_text(PAGE)
    done = subprocess.run([mandoc, "-T", "lint", "-W", "warning", tmp_path / "hyperd.8"], capture_output=True, text=True, check=False)
    assert [line for line in done.stdout.splitlines() if "missing date" not in line] == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str, tmp_path: Path) -> None:
    assert "_HYPERD_COMPLETE" in completion_script(shell)
    environ = os.environ | {"PYTHONPATH": str(ROOT), "_HYPERD_COMPLETE": f"{shell}_complete", "COMP_WORDS": "hyperd cert is", "COMP_CWORD": "2" if shell != "fish" else "is"}
    done = subprocess.run([sys.executable, "-m", "hyperd"], env=environ, capture_output=True, text=True, check=True)
    assert "issue" in done.stdout and "init" not in done.stdout
