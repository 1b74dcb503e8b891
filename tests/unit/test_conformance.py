"""The reading of TAP, and when a program counts as passed."""

import pytest

from tests.conformance.expected import BEYOND_THE_MACHINE, EXPECTED, RACES
from tests.conformance.tap import parse, passes

ERROR_BELOW = '  ---\n  {\n    "error": "exit status 1\\nand more",\n    "reference": "x"\n  }\n  ...\n'


def test_parse() -> None:
    text = "TAP version 13\nok 1 - first\nnot ok 2 - second\nok 3 # SKIP third\n" + ERROR_BELOW + "1..3\n"
    report = parse(text)
    assert (report.passed, report.skipped, report.failed, report.planned) == (1, 1, ("second",), 3)
    assert report.errors == ("exit status 1",)
    assert report.complete


def test_what_the_container_said_is_not_counted() -> None:
    text = 'ok 1 - outer\n  ---\n  {\n    "stdout": "not ok 1 - inner\\n"\n  }\n  ...\n1..1\n'
    assert passes(parse(text), 0)


@pytest.mark.parametrize(
    ("text", "status", "expected"),
    [
        ("ok 1 - a\n1..1\n", 0, True),
        ("ok 1 - a\n1..1\n", 1, False),
        ("ok 1 - a\nnot ok 2 - b\n1..2\n", 0, False),
        ("ok 1 - a\nnot ok 2 - b # TODO later\n1..2\n", 0, True),
        ("ok 1 - a\n", 0, False),  # it never came to its plan
        ("ok 1 - a\n1..2\n", 0, False),
        ("1..0\n", 0, True),
        (ERROR_BELOW + "1..0\n", 0, False),
        ("", 0, True),  # a program that only exits with an error when something is wrong
        ("", 1, False),
        ("ok 1 - refused as expected\n" + ERROR_BELOW + "1..1\n", 0, True),
        ('ok 1 - a\n  ---\n  {\n    "error": "",\n  }\n1..1\n', 0, True),
    ],
)
def test_passes(text: str, status: int, expected: bool) -> None:
    assert passes(parse(text), status) is expected


def test_the_lists_agree() -> None:
    assert not RACES & EXPECTED
    assert len(BEYOND_THE_MACHINE) == 20
