"""What a validation program says: TAP, version 13, with YAML (which here is JSON) below the assertions. Pure."""

import re
from dataclasses import dataclass

_LINE = re.compile(r"(not )?ok\b(?: (\d+))?(?: -)?\s*(.*)")
_DIRECTIVE = re.compile(r"#\s*(skip|todo)\b", re.IGNORECASE)
_PLAN = re.compile(r"1\.\.(\d+)")
_ERROR = re.compile(r'\s+"?error"?: ?"(.*)",?')


@dataclass(frozen=True)
class Report:
    """What a program's assertions came to. ``errors`` are those it only wrote below an assertion, or below none."""

    passed: int
    skipped: int
    failed: tuple[str, ...]
    errors: tuple[str, ...]
    planned: int | None

    @property
    def complete(self) -> bool:
        """Whether it got to its plan, and made as many assertions as that says."""
        return self.planned == self.passed + self.skipped + len(self.failed)


def parse(text: str) -> Report:
    """Reads a program's standard output."""
    passed = skipped = 0
    planned: int | None = None
    failed: list[str] = []
    errors: list[str] = []
    for line in text.splitlines():
        if found := _LINE.fullmatch(line):
            if _DIRECTIVE.search(line):
                skipped += 1
            elif found[1]:
                failed.append(found[3])
            else:
                passed += 1
        elif found := _PLAN.match(line):
            planned = int(found[1])
        elif found := _ERROR.fullmatch(line):
            errors.append(found[1].partition("\\n")[0])
    return Report(passed, skipped, tuple(failed), tuple(error for error in errors if error), planned)


def passes(report: Report, status: int) -> bool:
    """Whether the program as a whole passed.

    Some programs make no assertion but write an error where one failed, and others fail without a plan; an error below an
    assertion that holds is the one that was expected.
    """
    if status != 0 or report.failed:
        return False
    if report.passed + report.skipped == 0:
        return not report.errors
    return report.complete
