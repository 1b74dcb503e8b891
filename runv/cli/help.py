"""Help, rendered by click from the table in ``options``."""

import click

from runv.cli.about import ABOUT, EXAMPLES
from runv.cli.options import COMMANDS, GLOBAL, Command, Flag

_WIDTH = 100


def print_help(name: str) -> None:
    """Prints the help of a command; of runv itself when ``name`` is empty."""
    command = next((entry for entry in COMMANDS if entry.name == name), None)
    formatter = click.HelpFormatter(width=_WIDTH)
    if command is None:
        _write_program(formatter)
    else:
        _write_command(formatter, command)
    click.echo(formatter.getvalue(), nl=False)


def _write_program(formatter: click.HelpFormatter) -> None:
    formatter.write_usage("runv", "[OPTIONS] COMMAND [ARGUMENTS]")
    formatter.write_paragraph()
    formatter.write_text(ABOUT)
    with formatter.section("Commands"):
        formatter.write_dl([(entry.name, entry.summary) for entry in COMMANDS])
    with formatter.section("Options"):
        formatter.write_dl([_row(flag) for flag in GLOBAL])
    formatter.write_paragraph()
    formatter.write("Examples:\n" + "".join(f"  {line}\n" for line in EXAMPLES.splitlines()))


def _write_command(formatter: click.HelpFormatter, command: Command) -> None:
    formatter.write_usage(f"runv {command.name}", f"[OPTIONS] {command.arguments}".strip())
    formatter.write_paragraph()
    formatter.write_text(command.summary[0].upper() + command.summary[1:] + ".")
    if command.details:
        formatter.write_paragraph()
        formatter.write_text(command.details)
    if command.flags:
        with formatter.section("Options"):
            formatter.write_dl([_row(flag) for flag in command.flags])


def _row(flag: Flag) -> tuple[str, str]:
    names = f"-{flag.short}, --{flag.name}" if flag.short else f"--{flag.name}"
    return (names if flag.kind == "switch" else f"{names} VALUE"), flag.help
