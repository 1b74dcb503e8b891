"""The manual: a page for hyperctl and one for each command, made of the commands themselves. Pure: roff as man(7) has it."""

import inspect
from collections.abc import Iterator

import click

from hyperctl.app import Command, Group
from hyperctl.main import COMMANDS, EXAMPLES, GROUPS, cli
from hyperctl.settings import DEFAULT_DETACH_KEYS, DEFAULT_HOST, DEFAULT_TIMEOUT_S
from runv.cli.manual import escape
from runv.cli.roff import examples, head, options, paragraphs, rows

SECTION = 1

_SETTINGS = (
    ("host", "HYPER_HOST", f"The daemon: unix:///path/of/socket or tcp://name:port. Default: {DEFAULT_HOST}."),
    ("tlscacert", "HYPER_TLSCACERT", "The authority that the daemon's certificate must be of, in PEM."),
    ("tlscert", "HYPER_TLSCERT", "The certificate that the daemon is shown."),
    ("tlskey", "HYPER_TLSKEY", "Its key."),
    ("detach_keys", "HYPER_DETACH_KEYS", f"What to press to leave a container running: letters, and ctrl- with a letter, with commas between. Default: {DEFAULT_DETACH_KEYS}."),
    ("timeout_s", "HYPER_TIMEOUT_S", f"How long to wait for an answer, in seconds. Default: {DEFAULT_TIMEOUT_S:g}."),
)  # fmt: skip
_FILES = (
    ("~/.config/hyperctl/config.toml", "Settings, in TOML: host = \"tcp://node:8446\". HYPER_CONFIG names another file."),
    ("~/.docker/config.json", "Passwords of registries, and credential helpers, as Docker keeps them. DOCKER_CONFIG names another folder."),
)  # fmt: skip
_STATUS = (
    ("0", "It was done."),
    ("1", "It was not, and one line on the standard error says why."),
    ("2", "The command line is wrong."),
    ("125", "run and exec: the container or process could not be started, or their command line is wrong."),
    ("126", "run and exec: the program cannot be run."),
    ("127", "run and exec: there is no such program."),
    ("130", "It was interrupted."),
    ("other", "run, exec and attach end as the process in the container does: with its status, or with 128 and the number of the signal that ended it. 0 after the detach keys."),
)  # fmt: skip
_FORMATS = """\
--format json and yaml print what the daemon says. Anything with {{ is a template, printed once for each record: {{.Name}} is a field, {{.Labels.app}} one within,
{{json .Labels}} a field as JSON, {{len .Containers}} how many, {{join .Addresses ", "}} a list as text, {{upper .State}} and {{lower .State}} what they say. \\t and
\\n are a tab and a new line. Case and underscores in names do not count. The word table before it makes columns, with headings, of what tabs part.

Times are written as 10m or 1h30m (ago), as 2026-01-31T12:00:00Z, or as seconds since 1970; sizes as 4096, 64k, 512m or 1.5g, in powers of 1024.

POD is a name, an id, or the beginning of an id that is no other's; so is CONTAINER, and POD/CONTAINER as well. Where a container is wanted and a pod is named, its first one
is meant."""


def pages() -> dict[str, str]:
    """Every page by its file name: ``hyperctl.1``, ``hyperctl-run.1``, ``hyperctl-volume-create.1``, ..."""
    found = {f"hyperctl.{SECTION}": _main()}
    for words, context in _contexts():
        found[f"hyperctl-{'-'.join(words)}.{SECTION}"] = _command(words, context)
    return found


def commands() -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command with the words that call it."""
    for words, context in _contexts():
        yield words, context.command


def _contexts() -> Iterator[tuple[tuple[str, ...], click.Context]]:
    top = click.Context(cli, info_name="hyperctl")
    for name in COMMANDS:
        yield from _below((name,), cli.get_command(top, name), top)


def _below(words: tuple[str, ...], command: click.Command | None, parent: click.Context) -> Iterator[tuple[tuple[str, ...], click.Context]]:
    if command is None:
        return
    context = click.Context(command, info_name=words[-1], parent=parent)
    yield words, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            yield from _below((*words, name), command.get_command(context, name), context)


def _main() -> str:
    context = click.Context(cli, info_name="hyperctl")
    lines = [*head("hyperctl", SECTION, "the client of hyperd"), ".SH SYNOPSIS", ".B hyperctl", "[\\fIoptions\\fR] \\fIcommand\\fR [\\fIarguments\\fR]", ".SH DESCRIPTION"]
    lines += paragraphs(inspect.cleandoc(cli.help or ""))
    lines.append(".SH COMMANDS")
    for title, entries in GROUPS:
        lines.append(f".SS {escape(title)}")
        for entry in entries:
            lines += [".TP", f"\\fBhyperctl\\-{escape(entry.name)}\\fR({SECTION})", escape(entry.summary[0].upper() + entry.summary[1:] + ".")]
    lines += options(context)
    lines += [".SH WORDS", *paragraphs(_FORMATS)]
    lines += [".SH SETTINGS", *paragraphs("An option goes before the environment, that before the file, and that before the default.")]
    for name, variable, text in _SETTINGS:
        lines += [".TP", f"\\fB{escape(name)}\\fR, \\fB{escape(variable)}\\fR", escape(text)]
    for heading, words in (("FILES", _FILES), ("EXIT STATUS", _STATUS)):
        lines += [f".SH {heading}", *rows(words)]
    lines += examples(EXAMPLES)
    return "\n".join([*lines, ".SH SEE ALSO", ".BR hyperd (8)", ".BR runv (8)"]) + "\n"


def _command(words: tuple[str, ...], context: click.Context) -> str:
    command = context.command
    text = inspect.cleandoc(command.help or "")
    summary = text.partition("\n")[0].partition(". ")[0].partition(":")[0].rstrip(".").replace("`", "")
    lines = head(f"hyperctl-{'-'.join(words)}", SECTION, summary[0].lower() + summary[1:])
    pieces = " ".join(command.collect_usage_pieces(context))
    lines += [".SH SYNOPSIS", f".B hyperctl {escape(' '.join(words))}", f"\\fI{escape(pieces)}\\fR", ".SH DESCRIPTION", *paragraphs(text)]
    if isinstance(command, click.Group):
        lines.append(".SH COMMANDS")
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            lines += [".TP", f"\\fBhyperctl\\-{escape('-'.join((*words, name)))}\\fR({SECTION})", escape((inner.help or "").strip().partition("\n")[0]) if inner else ""]
    lines += options(context)
    if isinstance(command, Command | Group):
        lines += examples(command.examples)
    return "\n".join([*lines, ".SH SEE ALSO", f".BR hyperctl ({SECTION})"]) + "\n"
