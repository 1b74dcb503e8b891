"""What manual pages of click's commands are put together from. Pure: roff as man(7) has it."""

import click

from runv import VERSION
from runv.cli.manual import escape


def head(name: str, section: int, summary: str) -> list[str]:
    """Title and name."""
    return [f'.TH "{escape(name.upper())}" "{section}" "" "runv {VERSION}"', ".SH NAME", f"{escape(name)} \\- {escape(summary)}"]


def paragraphs(text: str) -> list[str]:
    """Text whose paragraphs are parted by empty lines."""
    lines: list[str] = []
    for number, part in enumerate(text.split("\n\n")):
        lines += [*([".PP"] if number else []), escape(" ".join(part.split()))]
    return lines


def rows(entries: tuple[tuple[str, str], ...]) -> list[str]:
    """Words and what each means."""
    return [line for name, text in entries for line in (".TP", f"\\fB{escape(name)}\\fR", escape(text))]


def options(context: click.Context, heading: str = ".SH OPTIONS") -> list[str]:
    """A command's options below ``heading``, which may be empty; nothing where it has none."""
    lines: list[str] = []
    for option in context.command.get_params(context):
        record = option.get_help_record(context) if isinstance(option, click.Option) else None
        if record is None:
            continue
        names, value = _split(record[0], option)
        again = " May be given more than once." if option.multiple else ""
        lines += [".TP", ", ".join(f"\\fB{escape(name)}\\fR" for name in names) + (f" \\fI{escape(value)}\\fR" if value else ""), escape(record[1] + again)]
    return [heading, *lines] if lines and heading else lines


def _split(shown: str, option: click.Parameter) -> tuple[list[str], str]:
    """The names of an option, and what stands for its value."""
    names = [*option.opts, *option.secondary_opts]
    last = max(shown.rfind(name) + len(name) for name in names)
    return names, shown[last:].strip()


def examples(text: str) -> list[str]:
    """Command lines as they are typed; nothing where there are none."""
    shown = "\n".join(line.strip() for line in text.strip().splitlines())
    return [".SH EXAMPLES", ".nf", escape(shown), ".fi"] if shown else []
