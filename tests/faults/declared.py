"""Faults declare themselves: what is done, what is expected, and, while the test runs, what was seen.

``docs/faults.md`` is written from these declarations (``make test-faults ARGS=--write-faults``), and each test compares
its line there with what it saw, so that the page cannot drift from the code.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"
HEAD = "| fault | expected | seen |"
LONGEST = 220
USER_ERRORS = (ValueError, OSError, RuntimeError, ArithmeticError)
"""What commands tell in one line; any other error would reach the user as a stack trace."""


@dataclass(frozen=True)
class Fault:
    """One line of the table.

    Attributes:
        area: its section.
        fault: what is done.
        expected: what must happen.
    """

    area: str
    fault: str
    expected: str


def fault(area: str, what: str, expected: str, quick: bool = True) -> Callable[[Any], Any]:
    """Declare that a test provokes a fault.

    Args:
        area: section of the table.
        what: what is done.
        expected: what must happen.
        quick: whether the test belongs to ``make test`` too.
    """

    def declare(test: Any) -> Any:
        for mark in marks(Fault(area, what, expected), quick):
            test = mark(test)
        return test

    return declare


def marks(declared: Fault, quick: bool = True) -> list[Any]:
    """The marks of a test that provokes a fault."""
    found = [pytest.mark.faults, pytest.mark.fault.with_args(declared)]
    return [*found, pytest.mark.quick] if quick else found


@dataclass
class Case:
    """A fault that a function provokes in an empty folder and that is told as an error.

    Attributes:
        what: what is done.
        provoke: does it; must raise one of `USER_ERRORS`.
        says: pattern that the message must hold.
        expected: what must happen.
    """

    what: str
    provoke: Callable[[Path], Any]
    says: str
    expected: str = "refused, with file and reason"

    def param(self, area: str, quick: bool = True) -> Any:
        """As a parameter of a test."""
        name = re.sub(r"\W+", "-", self.what)
        return pytest.param(self, id=name, marks=marks(Fault(area, self.what, self.expected), quick))


def told(case: Case, folder: Path) -> str:
    """Provoke a fault and return the message, which must name it."""
    with pytest.raises(USER_ERRORS) as caught:
        case.provoke(folder)
    message = str(caught.value)
    assert re.search(case.says, message), message
    assert "Traceback" not in message
    return message


def plain(text: str, *folders: Path) -> str:
    """What was seen, without what differs from run to run: folders, hashes, numbers of processes."""
    for folder in sorted({str(f) for f in folders}, key=len, reverse=True):
        text = text.replace(folder + "/", "").replace(folder, "FOLDER")
    text = re.sub(r"\bdamaged-\d+", "damaged-TIME", text)
    text = re.sub(r"(?<![\w.])/[^\s:;,')]*/(?=[^\s/])", "", text)
    text = re.sub(r"127\.0\.0\.1:\d+", "HOST", text)
    text = re.sub(r"\b[0-9a-f]{12,64}\b", "HASH", text)
    text = re.sub(r"\b\d+(\.\d+)? [MG]B\b", "N MB", text)
    text = " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
    return text if len(text) <= LONGEST else text[:LONGEST].rsplit(" ", 1)[0] + " …"


@dataclass
class Seen:
    """The lines that this session's tests have filled in."""

    declared: list[Fault] = field(default_factory=list)
    files: set[str] = field(default_factory=set)
    seen: dict[tuple[str, str], str] = field(default_factory=dict)

    def page(self, results: str) -> str:
        """The whole page.

        Args:
            results: its end, the sections of results that are kept in files.
        """
        parts = [_INTRODUCTION.format(count=len(set(self.declared)))]
        for area in dict.fromkeys(one.area for one in self.declared):
            rows = [one for one in dict.fromkeys(self.declared) if one.area == area]
            lines = [f"| {one.fault} | {one.expected} | {self.seen[area, one.fault]} |" for one in rows]
            parts.append("\n".join([f"## {area}\n", HEAD, "|---|---|---|", *lines]) + "\n")
        return "\n".join([*parts, results])


_INTRODUCTION = """# Faults, and what happens then

What users and machines do to a run, provoked by the tests: {count} faults. This page is written by
`make test-faults ARGS=--write-faults`; every test compares its line with what it sees. "Refused" and "told" mean one
line without a stack trace, and exit status 1.
"""
KILLS = "## Kills at random points\n"
"""What follows is of results that are kept in files."""


def rows_of(page: str) -> Iterator[tuple[Fault, str]]:
    """The declarations that a page holds, each with what was seen."""
    area = ""
    for line in page.split(KILLS)[0].splitlines():
        if line.startswith("## "):
            area = line[3:]
        elif line.startswith("| ") and line != HEAD:
            what, expected, seen = (cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:4])
            yield Fault(area, what, expected), seen
