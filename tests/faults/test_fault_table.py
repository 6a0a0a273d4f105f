"""``docs/faults.md`` lists exactly the faults that the tests of this folder declare."""

import json
from pathlib import Path

import pytest

from faults.declared import PAGE, RESULTS, Seen, kills_section, rows_of

AT_LEAST = 60


def test_the_page_is_of_these_tests(collected: Seen) -> None:
    if collected.files != {path.name for path in Path(__file__).parent.glob("test_*.py")}:
        pytest.skip("needs all tests of this folder")
    rows = list(rows_of(PAGE.read_text(encoding="utf-8")))
    assert {one for one, _ in rows} == set(collected.declared), "make test-faults ARGS=--write-faults"
    assert len(rows) >= AT_LEAST
    assert not [one for one, line in rows if line == "(not run)"]


def test_the_kills_are_of_the_results() -> None:
    assert PAGE.read_text(encoding="utf-8").endswith(kills_section())
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))["kills"]
    assert not [row for row in rows if not row["completed"] or row["damaged"] or row["different"]]
