"""What every command is made of: its class with examples, the settings and the client it gets, options that several have, and completion of names."""

import functools
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from hyperctl import settings
from hyperctl.client import Client
from hyperctl.errors import FAILED, CtlError

F = TypeVar("F", bound=Callable[..., Any])

_COMPLETION_TIMEOUT_S = "5"
SIGNALS = ("HUP", "INT", "QUIT", "KILL", "USR1", "USR2", "TERM", "CONT", "STOP", "WINCH")


class App:
    """Made anew for each run of the command."""

    def __init__(self, options: dict[str, Any], environ: dict[str, str]) -> None:
        self._options = options
        self._environ = environ

    @functools.cached_property
    def settings(self) -> settings.Settings:
        return settings.load({name: self._options.get(name) for name in settings.VARIABLES}, self._environ)

    @functools.cached_property
    def client(self) -> Client:
        return Client(self.settings)


pass_app = click.make_pass_decorator(App)


class Command(click.Command):
    """With examples in its help. ``failure``: the status it ends with where an error brings none."""

    def __init__(self, *args: Any, examples: str = "", failure: int = FAILED, **rest: Any) -> None:
        super().__init__(*args, **rest)
        self.examples = examples.strip()
        self.failure = failure

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except CtlError as error:
            if error.exit_code is None:
                error.exit_code = self.failure
            raise

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_examples(formatter, self.examples)


def write_examples(formatter: click.HelpFormatter, examples: str) -> None:
    if examples:
        formatter.write_paragraph()
        formatter.write("Examples:\n" + "".join(f"  {line.strip()}\n" for line in examples.strip().splitlines()))


def command(name: str, *, examples: str = "", failure: int = FAILED, **rest: Any) -> Callable[[Callable[..., Any]], Command]:
    """Like click.command. Options after the first argument are the program's own where ``stop_at_argument`` is true."""
    flags: dict[str, Any] = {"help_option_names": ["--help"], "max_content_width": 110}
    if rest.pop("stop_at_argument", False):
        flags["allow_interspersed_args"] = False
    return click.command(name, cls=Command, examples=examples, failure=failure, context_settings=flags, **rest)


class Group(click.Group):
    """With examples in its help."""

    def __init__(self, *args: Any, examples: str = "", **rest: Any) -> None:
        super().__init__(*args, **rest)
        self.examples = examples.strip()

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_examples(formatter, self.examples)

    def sub(self, name: str, **rest: Any) -> Callable[[Callable[..., Any]], Command]:
        """A command of the group: like ``command``."""

        def add(function: Callable[..., Any]) -> Command:
            made = command(name, **rest)(function)
            self.add_command(made)
            return made

        return add


def group(name: str, *, examples: str = "") -> Callable[[Callable[..., Any]], Group]:
    """Like click.group."""
    flags = {"help_option_names": ["--help"], "max_content_width": 110}
    return click.group(name, cls=Group, examples=examples, context_settings=flags)


def now() -> datetime:
    return datetime.now(UTC)


# --- options ---


def options(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    """Several as one, in the order of the help."""

    def apply(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


class Format(click.ParamType[str]):
    """``table``, ``json``, ``yaml`` or a template."""

    name = "format"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(kind) for kind in ("table", "json", "yaml") if kind.startswith(incomplete)]


format_option = click.option(
    "--format", "kind", type=Format(), metavar="FORMAT", help="json, yaml, or a template such as '{{.Name}}' or 'table {{.ID}}\\t{{.Name}}'."
)
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Only names or ids, one a line.")
no_trunc_option = click.option("--no-trunc", is_flag=True, help="Whole ids and texts, however wide the table gets.")


# --- names ---


class Name(click.ParamType[str]):
    """The name of something that hyperd has; a shell can complete it. ``kinds`` are the lists of the API where it may be."""

    def __init__(self, *kinds: str) -> None:
        self.kinds = kinds
        self.name = " or ".join(kind.removesuffix("s") for kind in kinds)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        import os

        app = App(ctx.find_root().params | {"timeout_s": _COMPLETION_TIMEOUT_S}, dict(os.environ))
        found: list[CompletionItem] = []
        for kind in self.kinds:
            try:
                rows = app.client.get(f"/{kind}")
            except CtlError:
                return []  # a shell that is completing has no room for an error
            found += [CompletionItem(name) for row in rows for name in _names(kind, row) if name.startswith(incomplete)]
        return found


def _names(kind: str, row: dict[str, Any]) -> list[str]:
    if kind == "images":
        return [str(name) for name in row.get("names", [])]
    if kind == "containers":
        return [f"{row.get('pod', '')}/{row.get('name', '')}"]
    return [str(row.get("name") or row.get("id") or "")]


POD, CONTAINER, IMAGE, VOLUME, NETWORK, VM = (Name(kind) for kind in ("pods", "containers", "images", "volumes", "networks", "vms"))
POD_OR_CONTAINER = Name("pods", "containers")


class Signal(click.ParamType[str]):
    """A name, with or without SIG, or a number."""

    name = "signal"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        import signal

        text = str(value).upper().removeprefix("SIG")
        if text.isdecimal() and 0 < int(text) <= 64:
            return text
        if text in {number.name.removeprefix("SIG") for number in signal.Signals} or text.startswith(("RTMIN+", "RTMAX-")):
            return text
        return self.fail(f"{value!r} is no signal: write TERM, SIGTERM or 15", param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(name) for name in SIGNALS if name.startswith(incomplete.upper().removeprefix("SIG"))]
