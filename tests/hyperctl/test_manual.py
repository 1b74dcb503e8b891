"""Manual pages, help and completion: that they cover every command, and that their readers understand them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from hyperctl.app import Command, Group
from hyperctl.completion import script
from hyperctl.main import EXAMPLES, cli
from hyperctl.manual import commands, pages
from tests.hyperctl.conftest import WEB
from tests.hyperctl.fake import Fake

EVERY = list(commands())
IDS = [" ".join(words) for words, _ in EVERY]
PAGES = pages()
ROOT = Path(__file__).parents[2]


def need(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


def test_mandoc_finds_no_fault(tmp_path: Path) -> None:
    files = [tmp_path / name for name in PAGES]
    for file in files:
        file.write_text(PAGES[file.name])
    done = subprocess.run([need("mandoc"), "-T", "lint", "-W", "warning", *files], capture_output=True, text=True, check=False)
    assert [line for line in done.stdout.splitlines() if "missing date" not in line] == []


@pytest.mark.parametrize(("words", "command"), EVERY, ids=IDS)
def test_every_option_is_on_its_page_and_explained(words: tuple[str, ...], command: click.Command) -> None:
    page = PAGES[f"hyperctl-{'-'.join(words)}.1"]
    assert command.help
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help and option.help.endswith("."), option.name
            assert all(f"\\fB{name.replace('-', chr(92) + '-')}\\fR" in page for name in option.opts)


def examples() -> list[list[str]]:
    """Every example of the help that calls hyperctl alone."""
    import shlex

    texts = [EXAMPLES, *(command.examples for _, command in EVERY if isinstance(command, Command | Group))]
    lines = [line.strip().partition("   ")[0] for text in texts for line in text.strip().splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("hyperctl") and not set("|<>&$") & set(line.replace("$PWD", ""))]


@pytest.mark.parametrize("argv", examples(), ids=" ".join)
def test_every_example_can_be_typed(argv: list[str]) -> None:
    """The parser takes it; nothing is done."""
    command: click.Command = cli
    context = cli.make_context("hyperctl", list(argv), resilient_parsing=False)
    rest = [*context._protected_args, *context.args] if hasattr(context, "_protected_args") else context.args
    while isinstance(command, click.Group) and rest:
        name, inner, rest = command.resolve_command(context, rest)
        assert inner is not None
        command = inner
        if not isinstance(inner, click.Group):
            inner.make_context(name, rest, parent=context)
            return
    raise AssertionError("an example of nothing")


def complete(fake: Fake, shell: str, *words: str) -> set[str]:
    """What hyperctl says to the script of a shell."""
    environ = os.environ | {"PYTHONPATH": str(ROOT), "HYPER_HOST": f"unix://{fake.socket}", "_HYPERCTL_COMPLETE": f"{shell}_complete"}
    environ |= {"COMP_WORDS": " ".join(["hyperctl", *words]), "COMP_CWORD": str(len(words)) if shell != "fish" else words[-1]}
    code = "import sys; sys.argv[0] = 'hyperctl'; from hyperctl.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    if shell == "zsh":
        return set(done.stdout.splitlines()[1::3])
    separator = "," if shell in ("bash", "fish") else "\n"
    return {line.partition(separator)[2].partition("\t")[0] for line in done.stdout.splitlines() if line}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(fake: Fake, shell: str) -> None:
    fake.answers["GET /pods"] = [WEB, {**WEB, "name": "other"}]
    fake.answers["GET /containers"] = [{"name": "nginx", "pod": "web"}]
    assert complete(fake, shell, "star") == {"start"}
    assert complete(fake, shell, "start", "w") == {"web", "web/nginx"}
    assert complete(fake, shell, "volume", "sn") == {"snapshot"}
    assert complete(fake, shell, "list", "--no-") == {"--no-trunc"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_take_the_script(shell: str, tmp_path: Path) -> None:
    file = tmp_path / "script"
    file.write_text(script(shell))
    assert "_HYPERCTL_COMPLETE" in file.read_text()
    done = subprocess.run([need(shell), *(["--no-execute"] if shell == "fish" else ["-n"]), file], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_nothing_heavy_is_imported_for_a_plain_answer(fake: Fake) -> None:
    fake.answers["GET /version"] = {"version": "1"}
    fake.answers["GET /pods"] = [WEB]
    code = "import sys; from hyperctl.main import run; run(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    environ = os.environ | {"PYTHONPATH": str(ROOT), "HYPER_HOST": f"unix://{fake.socket}"}
    for argv in (["version"], ["list"]):
        done = subprocess.run([sys.executable, "-c", code, *argv], env=environ, capture_output=True, text=True, check=True)
        assert not {"rich", "websockets", "yaml", "asyncio", "hyperd", "aiohttp", "msgspec", "tomllib"} & set(done.stderr.split())
