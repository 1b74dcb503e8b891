#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the manual pages and the completion scripts, which are made of the commands' own tables, or removes them.

It is run by a Python that finds what hyperctl depends on.

manual.py install SHARE      SHARE is PREFIX/share; what is unchanged stays
manual.py uninstall SHARE
"""

import contextlib
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import hyperctl.completion  # noqa: E402
import hyperctl.manual  # noqa: E402
import hyperd.cli  # noqa: E402
import hyperd.manual  # noqa: E402
import runv.cli.completion  # noqa: E402
import runv.cli.manual  # noqa: E402

COMPLETIONS = {
    "bash": "bash-completion/completions/{}",
    "zsh": "zsh/site-functions/_{}",
    "fish": "fish/vendor_completions.d/{}.fish",
}


def files() -> dict[str, str]:
    """Every file below SHARE, with its text."""
    found = {f"man/man{runv.cli.manual.SECTION}/{name}": text for name, text in runv.cli.manual.pages().items()}
    found |= {f"man/man{hyperctl.manual.SECTION}/{name}": text for name, text in hyperctl.manual.pages().items()}
    found |= {f"man/man{hyperd.manual.SECTION}/{name}": text for name, text in hyperd.manual.pages().items()}
    for shell, path in COMPLETIONS.items():
        found[path.format("runv")] = runv.cli.completion.script(shell)
        found[path.format("hyperd")] = hyperd.cli.completion_script(shell)
        found[path.format("hyperctl")] = hyperctl.completion.script(shell)
    return found


def install(share: Path) -> None:
    """Writes what is missing or changed, and never into a file that somebody may be reading."""
    for name, text in files().items():
        path = share / name
        if path.is_file() and path.read_text() == text:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f"{path.name}.new")
        new.write_text(text)
        new.chmod(0o644)
        new.rename(path)


def uninstall(share: Path) -> None:
    """Removes the files, and the folders that are empty then."""
    for name in files():
        (share / name).unlink(missing_ok=True)
        for folder in (share / name).parents:
            if folder == share:
                break
            with contextlib.suppress(OSError):  # others have something there, or it is gone
                folder.rmdir()


def main() -> int:
    """Entry point."""
    actions = {"install": install, "uninstall": uninstall}
    if len(sys.argv) != 3 or sys.argv[1] not in actions:
        print(f"usage: {sys.argv[0]} install|uninstall SHARE", file=sys.stderr)
        return 2
    os.umask(0o022)
    actions[sys.argv[1]](Path(sys.argv[2]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
