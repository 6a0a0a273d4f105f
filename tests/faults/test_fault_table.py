"""``docs/faults.md`` lists exactly the faults that the tests of this folder declare."""

import json
from collections import Counter
from pathlib import Path

import pytest

from faults.declared import PAGE, Seen, rows_of
from faults.kept_results import FUZZED, MAKE_TRAIN, RESULTS, fuzz_section, make_train_section, results_sections

AT_LEAST = 60
EACH = 10


def test_the_page_is_of_these_tests(collected: Seen) -> None:
    if collected.files != {path.name for path in Path(__file__).parent.glob("test_*.py")}:
        pytest.skip("needs all tests of this folder")
    rows = list(rows_of(PAGE.read_text(encoding="utf-8")))
    assert {one for one, _ in rows} == set(collected.declared), "make test-faults ARGS=--write-faults"
    assert len(rows) >= AT_LEAST
    assert not [one for one, line in rows if line == "(not run)"]


def test_the_page_ends_with_the_results() -> None:
    assert PAGE.read_text(encoding="utf-8").endswith(results_sections()), (
        "pytest tests/faults/test_fault_table.py --write-faults"
    )
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))["kills"]
    assert not [row for row in rows if not row["completed"] or row["damaged"] or row["different"]]
    killed = Counter(row["stage"] for row in rows if row["killed"])
    assert min(killed.values()) >= EACH
    if MAKE_TRAIN.is_file():
        assert json.loads(MAKE_TRAIN.read_text(encoding="utf-8"))["equal"]
    if FUZZED.is_file():
        assert all(row["sound"] for row in json.loads(FUZZED.read_text(encoding="utf-8"))["rows"])


def test_kills_of_make_train_as_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kill = {"share": 0.5, "unit": "steps", "of": 600, "seconds_into_it": 9.0, "on_disk": 280}
    found = {
        "commit": "abc", "whole": {"commit": "abcdef0123"}, "seconds": [60, 120], "equal": True, "different": [],
        "machine": {"cores": 2, "cpu": "one", "torch": "2"},
        "kills": [
            {**kill, "stage": "tune", "in": "tune",
             "next_start_said": ["embed 0123 (there already)", "tune continues from step 260"]},
            {**kill, "stage": "tune", "in": "generate", "next_start_said": []},
            {**kill, "stage": "evaluate", "in": "evaluate", "unit": "seconds", "of": 41.9, "next_start_said": []},
        ],
    }  # fmt: skip
    monkeypatch.setattr("faults.kept_results.MAKE_TRAIN", tmp_path / "kills.json")
    assert "| stage |" not in make_train_section()
    (tmp_path / "kills.json").write_text(json.dumps(found))
    text = make_train_section()
    assert (
        "3 kills of commit abc, 3 minutes on 2 cores of one, torch 2; RUN is of commit abcdef0. The end: all equal."
        in text
    )
    assert text.splitlines()[-3:] == [
        "| tune | 300 of 600 steps, 280 on disk | there already: embed; tune continues from step 260 |",
        "| tune | behind its end, in generate | nothing |",
        "| evaluate | 9 s of 42 | nothing |",
    ]
    (tmp_path / "kills.json").write_text(json.dumps({**found, "equal": False, "different": ["a: 1, not 2"]}))
    assert "The end: **different**: a: 1, not 2." in make_train_section()


def test_a_fuzz_run_as_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"reader": "zip", "executions": 1500, "coverage": 20, "corpus": 3, "seconds": 60, "sound": True},
        {"reader": "tar", "executions": 500, "coverage": 10, "corpus": 1, "seconds": 60, "sound": False},
    ]
    found = {
        "command": "fuzz",
        "machine": {"cpu": "one", "load": 3.0},
        "rows": [{**row, "commit": "abc"} for row in rows],
    }
    monkeypatch.setattr("faults.kept_results.FUZZED", tmp_path / "fuzz.json")
    assert fuzz_section() == ""
    (tmp_path / "fuzz.json").write_text(json.dumps(found))
    text = fuzz_section()
    assert "2,000 calls in 2 minutes, 2 readers of commit abc, one with a load of 3:" in text
    assert text.splitlines()[-2:] == ["| zip | 60 | 1,500 | 20 | 3 | none |", "| tar | 60 | 500 | 10 | 1 | found |"]
