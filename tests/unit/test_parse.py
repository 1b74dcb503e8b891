"""The command line, read as runc reads it."""

import pytest

from runv.cli.parse import parse
from runv.errors import UsageError


def test_nothing_is_no_command() -> None:
    assert parse([]).command is None


def test_global_flags_come_first() -> None:
    found = parse(["--root", "/r", "--debug", "--log-format=json", "state", "one"])
    assert found.command is not None
    assert (found.command.name, found.arguments) == ("state", ["one"])
    assert found.globals["root"] == "/r"
    assert found.globals["debug"] is True
    assert found.globals["log-format"] == "json"


@pytest.mark.parametrize("words", [["--bundle", "/b"], ["--bundle=/b"], ["-b", "/b"], ["-b=/b"], ["-bundle", "/b"]])
def test_a_value_is_attached_or_follows(words: list[str]) -> None:
    assert parse(["create", *words, "one"]).text("bundle") == "/b"


def test_flags_may_follow_the_id() -> None:
    found = parse(["delete", "one", "--force"])
    assert found.on("force")
    assert found.arguments == ["one"]


def test_a_value_may_hold_an_equals_sign_or_be_empty() -> None:
    assert parse(["exec", "--env", "A=b=c", "-e=X=", "one", "sh"]).many("env") == ["A=b=c", "X="]
    assert parse(["create", "--pid-file=", "one"]).text("pid-file") == ""


def test_a_value_may_look_like_a_flag() -> None:
    assert parse(["create", "--bundle", "--force", "one"]).text("bundle") == "--force"


@pytest.mark.parametrize(
    ("word", "value"), [("--force", True), ("--force=true", True), ("--force=false", False), ("-f=0", False)]
)
def test_switches(word: str, value: bool) -> None:
    assert parse(["delete", word, "one"]).on("force") is value


def test_exec_stops_at_the_first_argument() -> None:
    found = parse(["exec", "-t", "one", "ls", "-l", "--tty", "--"])
    assert found.arguments == ["one", "ls", "-l", "--tty", "--"]
    assert found.on("tty")


def test_two_dashes_end_the_flags() -> None:
    assert parse(["exec", "--", "one", "ls"]).arguments == ["one", "ls"]
    assert parse(["delete", "--", "-one"]).arguments == ["-one"]


def test_a_negative_looking_signal_is_an_argument() -> None:
    assert parse(["kill", "one", "-9"]).arguments == ["one", "-9"]
    assert parse(["kill", "--all", "one", "KILL"]).on("all")


def test_help_needs_no_arguments() -> None:
    assert parse(["create", "--help"]).flags["help"] is True
    assert parse(["-h"]).globals["help"] is True


def test_numbers() -> None:
    assert parse(["create", "--preserve-fds", "3", "one"]).flags["preserve-fds"] == 3
    assert parse(["create", "one"]).flags["preserve-fds"] == 0


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["frobnicate"], "no such command: frobnicate"),
        (["--nosuch"], "flag provided but not defined: --nosuch"),
        (["state", "-x=1", "one"], "flag provided but not defined: -x"),
        (["state", "--force", "one"], "flag provided but not defined: --force"),
        (["create", "--bundle"], "flag needs an argument: --bundle"),
        (["create", "--preserve-fds", "-1", "one"], "not a number"),
        (["create", "--preserve-fds=\u00b2", "one"], "not a number"),
        (["create", "--preserve-fds=", "one"], "not a number"),
        (["state"], '"state" requires exactly 1 argument(s)'),
        (["state", "one", "two"], '"state" requires exactly 1 argument(s)'),
        (["kill"], '"kill" requires a minimum of 1 argument(s)'),
        (["kill", "one", "KILL", "three"], '"kill" requires a maximum of 2 argument(s)'),
        (["exec"], '"exec" requires a minimum of 1 argument(s)'),
        (["list", "one"], '"list" requires exactly 0 argument(s)'),
    ],
)
def test_errors(argv: list[str], message: str) -> None:
    with pytest.raises(UsageError) as failure:
        parse(argv)
    assert message in str(failure.value)
