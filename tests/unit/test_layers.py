"""Imports point one way, only the command's entry exits, and only the command prints."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import runv

ROOT = Path(runv.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
NAMES = [str(path.relative_to(ROOT)) for path in FILES]

# A module may import those of lower levels and, within its own level, those of its own package or plain modules.
LEVELS = [
    {"errors", "files", "idmaps", "linux", "log", "processes", "quick"},
    {"settings", "state", "cgroups", "limits", "spec", "hooks"},
    {"vm", "agent", "storage", "sockets", "network"},
    {"sandbox"},
    {"cli"},
]
# Each forks children that must never come back.
MAY_EXIT = {"cli/main.py", "idmaps.py", "network/netns.py", "processes.py", "vm/namespace.py"}


def part(module: str) -> str:
    """``vm`` for ``runv.vm.qemu``; empty for ``runv`` itself."""
    return ([*module.split("."), ""])[1]


def level(name: str) -> int:
    return next(index for index, names in enumerate(LEVELS) if name in names)


def own_part(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").parts[0]


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every module of runv's that is imported, wherever in the file, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (
                (node.lineno, alias.name) for alias in node.names if part(alias.name + ".") or alias.name == "runv"
            )
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            if node.module == "runv":
                yield from ((node.lineno, f"runv.{alias.name}") for alias in node.names if not alias.name.isupper())
            elif node.module:
                yield node.lineno, node.module


def calls(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node.lineno, ast.unparse(node.func)


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_imports_point_downwards(path: Path) -> None:
    own = own_part(path)
    if own == "__init__":
        return
    for line, module in imported(ast.parse(path.read_text())):
        if module.split(".")[0] != "runv":
            continue
        other = part(module)
        assert level(other) <= level(own), f"line {line}: {own} imports {module}, which lies above it"
        if level(own) == 2 and other != own:
            assert level(other) < 2 or {own, other} != {"vm", "agent"}, f"line {line}: {own} imports {module}"


def test_every_module_has_a_level() -> None:
    known = set().union(*LEVELS)
    assert {own_part(path) for path in FILES} - {"__init__"} <= known


def test_the_exception_tree_imports_nothing_of_ours() -> None:
    assert not [name for _, name in imported(ast.parse((ROOT / "errors.py").read_text())) if name.startswith("runv")]


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_only_the_entry_exits(path: Path) -> None:
    if str(path.relative_to(ROOT)) in MAY_EXIT:
        return
    found = [
        f"line {line}: {name}"
        for line, name in calls(ast.parse(path.read_text()))
        if name in ("sys.exit", "os._exit", "exit", "quit", "os.abort")
    ]
    assert not found


@pytest.mark.parametrize(
    "path", [p for p in FILES if own_part(p) != "cli"], ids=[n for n in NAMES if not n.startswith("cli")]
)
def test_only_the_command_prints(path: Path) -> None:
    found = [
        f"line {line}: {name}"
        for line, name in calls(ast.parse(path.read_text()))
        if name == "print" or name.startswith("sys.stdout")
    ]
    assert not found
