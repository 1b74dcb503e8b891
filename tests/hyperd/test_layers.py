"""Imports of the daemon point one way, the client knows nothing of it, and runv nothing of either."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import hyperctl
import hyperd
import runv

# A part may import those of lower levels, and itself. Parts of one level know nothing of each other.
LEVELS = [
    {"errors", "expansion", "signals"},
    {"spec", "config", "certificates", "journal", "sealing", "systemd"},
    {"manifests", "bundle", "images", "streams", "networks", "volumes", "store"},
    {"pods"},
    {"api"},
    {"daemon"},
    {"cli"},
    {"__main__", "manual"},
]


def sources(package: object) -> list[Path]:
    (folder,) = package.__path__  # type: ignore[attr-defined]
    return sorted(Path(folder).rglob("*.py"))


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Lines and modules; what is imported relatively lies in the module's own part: only the dots are told."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                yield node.lineno, "." * node.level
                continue
            names = [f"{node.module}.{alias.name}" for alias in node.names] if node.module in ("hyperd", "hyperctl", "runv") else [node.module or ""]
            yield from ((node.lineno, name) for name in names)


def level(part: str) -> int:
    return next((index for index, names in enumerate(LEVELS) if part in names), -1)


DAEMON = [path for path in sources(hyperd) if path.relative_to(Path(hyperd.__path__[0])).as_posix() != "__init__.py"]


@pytest.mark.parametrize("path", DAEMON, ids=lambda path: str(path.relative_to(Path(hyperd.__path__[0]))))
def test_imports_of_the_daemon_point_downwards(path: Path) -> None:
    own = path.relative_to(Path(hyperd.__path__[0])).with_suffix("").parts[0]
    assert level(own) >= 0, f"{own} has no level"
    for line, name in imported(path):
        if name.startswith("."):
            assert len(name) <= len(path.relative_to(Path(hyperd.__path__[0])).parts) - 1, f"line {line}: a relative import leads out of the part"
            continue
        package, _, rest = name.partition(".")
        assert package != "hyperctl", f"line {line}: the daemon imports the client"
        part = rest.partition(".")[0]
        if package != "hyperd" or not part or part == own or part.startswith("_"):
            continue
        assert 0 <= level(part) < level(own) or (level(own) < 2 and level(part) <= level(own)), f"line {line}: {own} imports {part}"


def test_the_client_knows_nothing_of_the_daemon() -> None:
    found = [f"{path}:{line}: {name}" for path in sources(hyperctl) for line, name in imported(path) if name.split(".")[0] == "hyperd"]
    assert not found


def test_the_runtime_knows_nothing_of_both() -> None:
    found = [f"{path}:{line}: {name}" for path in sources(runv) for line, name in imported(path) if name.split(".")[0] in ("hyperd", "hyperctl")]
    assert not found
