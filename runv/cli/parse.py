"""From an argument list to a command with its values, by the table in ``options``. Pure.

Not click: its import alone takes longer than ``runv state`` may. Help and completion, which nobody calls a thousand times, do use it.
"""

from runv.cli.options import COMMANDS, GLOBAL, Command, Flag
from runv.errors import UsageError

Value = str | bool | int | list[str]


class Parsed:
    """A command line: the command (None when only global flags were given), its flags and arguments. Flags not given have an empty value."""

    __slots__ = ("arguments", "command", "flags", "globals")

    def __init__(self, command: Command | None, flags: dict[str, Value], global_flags: dict[str, Value], arguments: list[str]) -> None:
        self.command = command
        self.flags = flags
        self.globals = global_flags
        self.arguments = arguments

    def text(self, name: str) -> str:
        """The value of a text flag; empty when it was not given."""
        return str(self.flags[name])

    def number(self, name: str) -> int:
        """The value of a number flag; 0 when it was not given."""
        value = self.flags[name]
        return value if isinstance(value, int) else 0

    def on(self, name: str) -> bool:
        """Whether a switch was given."""
        return bool(self.flags[name])

    def many(self, name: str) -> list[str]:
        """The values of a flag that may be repeated."""
        value = self.flags[name]
        return value if isinstance(value, list) else []


def parse(argv: list[str]) -> Parsed:
    """:raise UsageError: an unknown command or flag, a missing value, the wrong number of arguments"""
    global_flags, rest = _flags(GLOBAL, argv, "", stop_at_first=True)
    if not rest:
        return Parsed(None, {}, global_flags, [])
    command = next((entry for entry in COMMANDS if entry.name == rest[0]), None)
    if command is None:
        raise UsageError(f"no such command: {rest[0]}", hint="`runv --help` lists the commands")
    flags, arguments = _flags((*command.flags, _HELP), rest[1:], command.name, stop_at_first=command.rest)
    if flags["help"]:
        return Parsed(command, flags, global_flags, arguments)
    _check_count(command, arguments)
    return Parsed(command, flags, global_flags, arguments)


_HELP = next(flag for flag in GLOBAL if flag.name == "help")
_EMPTY: dict[str, Value] = {"switch": False, "text": "", "number": 0}


def _check_count(command: Command, arguments: list[str]) -> None:
    count = len(arguments)
    if command.least == command.most != count:
        raise UsageError(f'"{command.name}" requires exactly {command.least} argument(s)', command=command.name)
    if count < command.least:
        raise UsageError(f'"{command.name}" requires a minimum of {command.least} argument(s)', command=command.name)
    if 0 <= command.most < count:
        raise UsageError(f'"{command.name}" requires a maximum of {command.most} argument(s)', command=command.name)


def _flags(
    known: tuple[Flag, ...], argv: list[str], command: str, *, stop_at_first: bool
) -> tuple[dict[str, Value], list[str]]:
    values: dict[str, Value] = {flag.name: [] if flag.kind == "list" else _EMPTY[flag.kind] for flag in known}
    arguments: list[str] = []
    index = 0
    while index < len(argv):
        word = argv[index]
        index += 1
        if word == "--":
            return values, arguments + argv[index:]
        if not word.startswith("-") or word == "-":
            arguments.append(word)
            # After a command's first argument (exec, kill, ps) words that look like flags are the program's own.
            if stop_at_first:
                return values, arguments + argv[index:]
            continue
        flag, attached = _find(known, word, command)
        if flag.kind == "switch":
            values[flag.name] = attached not in ("false", "0")
            continue
        if attached is None:
            if index == len(argv):
                raise UsageError(f"flag needs an argument: {word}", command=command)
            attached = argv[index]
            index += 1
        _store(values, flag, attached, command)
    return values, arguments


def _find(known: tuple[Flag, ...], word: str, command: str) -> tuple[Flag, str | None]:
    """The flag that ``word`` names, and the value attached to it by ``=``. One dash or two, as Go's flags."""
    name, equals, value = word.lstrip("-").partition("=")
    for flag in known:
        if name == flag.name or (name == flag.short and flag.short):
            return flag, value if equals else None
    raise UsageError(f"flag provided but not defined: {word.partition('=')[0]}", command=command)


def _store(values: dict[str, Value], flag: Flag, text: str, command: str) -> None:
    held = values[flag.name]
    if isinstance(held, list):
        held.append(text)
    elif flag.kind == "number":
        if not text.isascii() or not text.isdigit():
            raise UsageError(f"invalid value {text!r} for flag --{flag.name}: not a number", command=command)
        values[flag.name] = int(text)
    else:
        values[flag.name] = text
