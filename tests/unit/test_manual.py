"""Manual pages and completion scripts: that they cover every command and flag, and that their readers understand them."""

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runv.cli.completion import SHELLS, script
from runv.cli.manual import escape, pages
from runv.cli.options import COMMANDS, GLOBAL, Command, Flag
from runv.settings import SETTINGS

EVERY = [("", flag) for flag in GLOBAL] + [(command.name, flag) for command in COMMANDS for flag in command.flags]
IDS = [f"{command} --{flag.name}".strip() for command, flag in EVERY]
TOOL = Path(__file__).parents[2] / "tools/manual.py"


def need(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


# --- pages ---


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: str(command.name))
def test_every_command_has_a_page_and_is_in_the_first_one(command: Command) -> None:
    assert f"runv\\-{command.name}\\fR(8)" in pages()["runv.8"]
    page = pages()[f"runv-{command.name}.8"]
    assert escape(command.summary) in page and escape(command.details) in page


@pytest.mark.parametrize(("command", "flag"), EVERY, ids=IDS)
def test_every_flag_is_on_its_page(command: str, flag: Flag) -> None:
    page = pages()[f"runv-{command}.8" if command else "runv.8"]
    assert f"\\fB\\-\\-{escape(flag.name)}\\fR" in page
    assert not flag.short or f"\\fB\\-{flag.short}\\fR" in page


def test_every_setting_is_in_the_first_page() -> None:
    for setting in SETTINGS:
        assert f"\\fB{setting.variable}\\fR" in pages()["runv.8"]


@pytest.mark.parametrize("name", pages())
def test_mandoc_finds_no_fault(name: str) -> None:
    # A page without a date is the same whenever it is made.
    done = subprocess.run(
        [need("mandoc"), "-T", "lint", "-W", "warning"],
        input=pages()[name],
        capture_output=True,
        text=True,
        check=False,
    )
    faults = [line for line in done.stdout.splitlines() if "missing date" not in line]
    assert not faults


def test_text_is_shown_as_it_is() -> None:
    text = ".not a request\n'nor this\na \\ and --flags"
    page = f".TH X 8 2000-01-01\n.SH NAME\nx \\- y\n.SH DESCRIPTION\n.nf\n{escape(text)}\n.fi\n"
    done = subprocess.run([need("mandoc"), "-T", "ascii"], input=page, capture_output=True, text=True, check=True)
    for line in text.splitlines():
        assert line in done.stdout


def test_installed_and_removed(tmp_path: Path) -> None:
    share = tmp_path / "share"
    (share / "man/man8").mkdir(parents=True)
    (share / "man/man8/other.8").touch()
    subprocess.run([sys.executable, TOOL, "install", share], check=True)
    assert (share / "man/man8/runv-create.8").read_text() == pages()["runv-create.8"]
    assert (share / "zsh/site-functions/_runv").read_text() == script("zsh")
    before = (share / "man/man8/runv.8").stat().st_ino
    (share / "man/man8/runv-run.8").write_text("old")
    subprocess.run([sys.executable, TOOL, "install", share], check=True)
    assert (share / "man/man8/runv.8").stat().st_ino == before
    assert (share / "man/man8/runv-run.8").read_text() == pages()["runv-run.8"]
    subprocess.run([sys.executable, TOOL, "uninstall", share], check=True)
    assert [path.name for path in share.rglob("*") if path.is_file()] == ["other.8"]
    assert [path.name for path in share.iterdir()] == ["man"]


# --- completion ---

CONTAINERS = ("c-one", "c-two")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a runv that knows two containers, and a third one under another root, and the scripts."""
    program = tmp_path / "runv"
    program.write_text(
        "#!/bin/sh\nif [ \"$*\" = 'list --quiet' ]; then printf '%s\\n' c-one c-two; fi\n"
        "if [ \"$*\" = '--root /r list --quiet' ] || [ \"$*\" = '--root=/r list --quiet' ]; then echo c-three; fi\n"
    )
    program.chmod(0o755)
    for shell in SHELLS:
        (tmp_path / f"script.{shell}").write_text(script(shell))
    (tmp_path / "some-file").touch()
    (tmp_path / "some-folder").mkdir()
    return tmp_path


def bash(folder: Path, *words: str) -> set[str]:
    quoted = " ".join(f"'{word}'" for word in words)
    code = f"""
        . {folder}/script.bash
        compopt() {{ mapfile -t COMPREPLY < <(compgen -${{2:0:1}} -- "$cur"); }}
        COMP_WORDS=(runv {quoted}) COMP_CWORD={len(words)}
        _runv
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    code = code.replace("-${2:0:1}", "$([[ $2 == dirnames ]] && echo -d || echo -f)")
    return ask([need("bash"), "--norc", "-c", code], folder)


def fish(folder: Path, *words: str) -> set[str]:
    line = " ".join(words)
    found = ask([need("fish"), "--no-config", "-c", f'source script.fish; complete -C "runv {line}"'], folder)
    return {word.partition("\t")[0].rstrip("/") for word in found}


def ask(argv: list[str], folder: Path) -> set[str]:
    environ = {"PATH": f"{folder}:/usr/bin:/bin", "HOME": str(folder), "TERM": "dumb", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(argv, capture_output=True, text=True, cwd=folder, env=environ, timeout=60, check=False)
    assert done.stderr == ""
    return set(filter(None, done.stdout.splitlines()))


@pytest.fixture(params=[bash, fish], ids=["bash", "fish"])
def complete(request: pytest.FixtureRequest, folder: Path) -> object:
    return lambda *words: request.param(folder, *words)


def test_commands(complete) -> None:  # type: ignore[no-untyped-def]
    assert complete("") >= {command.name for command in COMMANDS}
    assert complete("cre") == {"create"}
    assert complete("--debug", "--root", "/x", "cre") == {"create"}


@pytest.mark.parametrize("command", ["", *(command.name for command in COMMANDS)])
def test_flags(complete, command: str) -> None:  # type: ignore[no-untyped-def]
    words = [command] if command else []
    wanted = {f"--{flag.name}" for of, flag in EVERY if of == command} | {"--help"}
    assert {word.rstrip("=") for word in complete(*words, "--") if word.startswith("--")} == wanted


def test_containers(complete) -> None:  # type: ignore[no-untyped-def]
    for command in ("start", "kill", "delete", "exec", "pause", "update", "events", "ps"):
        assert complete(command, "c-") == set(CONTAINERS)
    assert complete("--root", "/r", "start", "c-") == {"c-three"}
    assert "c-one" not in complete("create", "")


def test_values(complete) -> None:  # type: ignore[no-untyped-def]
    assert complete("list", "--format", "") == {"table", "json"}
    assert complete("list", "-f", "j") == {"json"}
    assert "some-folder" in complete("run", "--bundle", "some")
    assert "some-file" not in complete("run", "--bundle", "some")
    assert complete("run", "--pid-file", "some") == {"some-file", "some-folder"}
    assert "USR1" in complete("kill", "c-one", "US")
    assert complete("completion", "z") == {"zsh"}


def test_values_after_an_equals_sign(folder: Path) -> None:
    assert bash(folder, "list", "--format", "=", "j") == {"json"}
    assert bash(folder, "list", "--format", "=") == {"table", "json"}
    assert bash(folder, "--root", "=", "/r", "start", "c-") == {"c-three"}
    assert fish(folder, "list", "--format=j") == {"--format=json"}


def zsh(folder: Path, line: str) -> str:
    """What a terminal shows after the line and a tab."""
    setup = f"PS1=; PS2=; unsetopt beep; autoload -U compinit; compinit -u -d {folder}/dump; source {folder}/script.zsh; echo read''y\n"
    program = need("zsh")
    pid, master = pty.fork()
    if pid == 0:
        os.chdir(folder)
        environ = {"PATH": f"{folder}:/usr/bin:/bin", "HOME": str(folder), "TERM": "dumb"}
        os.execve(program, [program, "-f", "-i"], environ)
    try:
        os.write(master, setup.encode())
        read_until(master, "ready\r\n")
        os.write(master, f"{line}\t".encode())
        return read_until(master, "\0")
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(master)


def read_until(master: int, text: str, silence_s: float = 1.5) -> str:
    """All that comes until the text has come, or nothing more does."""
    seen, end = "", time.monotonic() + 30
    while text not in seen and time.monotonic() < end:
        if not select.select([master], [], [], 30 if text != "\0" else silence_s)[0]:
            break
        seen += os.read(master, 65536).decode(errors="replace")
    return seen


def test_zsh(folder: Path) -> None:
    need("zsh")
    assert "runv create" in zsh(folder, "runv crea")
    assert "start c-three" in zsh(folder, "runv --root /r start c-th")
    shown = zsh(folder, "runv delete --")
    assert "--force" in shown and "kill it first" in shown
    assert "runv list --format json" in zsh(folder, "runv list --format j")


def test_every_flag_is_in_zshs_script() -> None:
    text = script("zsh")
    for command in COMMANDS:
        case = text.partition(f"                {command.name})\n")[2].partition(";;")[0]
        for flag in command.flags:
            assert f"--{flag.name}" in case, (command.name, flag.name)


def test_a_short_flag_with_a_value_means_the_same_everywhere() -> None:
    meanings: dict[str, set[str]] = {}
    for _, flag in EVERY:
        if flag.short and flag.kind != "switch":
            meanings.setdefault(flag.short, set()).add(flag.name)
    assert all(len(names) == 1 for names in meanings.values())
