import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ilm_lightning import report
from ilm_lightning.engine.composition import composed
from ilm_lightning.reporting import expected
from ilm_lightning.reporting.expected import ExpectedError, committed, read_experiment, read_experiments, run_anew

ROOT = Path(__file__).resolve().parents[2]
CHECK: dict[str, Any] = {
    "file": "results/a.json", "value": "all.sc.own", "expected": 60.0, "tolerance": 1.0, "source": "seed 0, two cores"
}  # fmt: skip
PLAIN: dict[str, Any] = {
    "title": "t", "cost": "cheap", "minutes": 2, "command": ["experiment=x", "budget=tiny"], "checks": [CHECK]
}  # fmt: skip


def experiment(root: Path, value: object = 60.4, **changes: Any) -> Path:
    folder = root / "first"
    (folder / "results").mkdir(parents=True)
    (folder / "results" / "a.json").write_text(json.dumps({"all": {"sc": {"own": value}}}))
    (folder / "expected.json").write_text(json.dumps(PLAIN | changes))
    return folder / "expected.json"


def test_within_tolerance_passes_and_beyond_fails(tmp_path: Path) -> None:
    (within,) = committed(read_experiment(experiment(tmp_path / "a", 60.9)))
    (beyond,) = committed(read_experiment(experiment(tmp_path / "b", 61.2)))
    assert within.passed
    assert within.line.startswith("ok     first/results/a.json (committed): all.sc.own 60.9; expected 60 ± 1, seed 0")
    assert not beyond.passed
    assert beyond.line.startswith("FAILED")


@pytest.mark.parametrize("value", [None, "60", True, float("nan")])
def test_what_is_no_number_fails(tmp_path: Path, value: object) -> None:
    (outcome,) = committed(read_experiment(experiment(tmp_path, value)))
    assert not outcome.passed


def test_a_missing_file_and_a_missing_value_are_named(tmp_path: Path) -> None:
    path = experiment(tmp_path, checks=[CHECK | {"value": "all.bc.own"}, CHECK | {"file": "results/b.json"}])
    lines = [outcome.line for outcome in committed(read_experiment(path))]
    assert "a.json has no all.bc.own" in lines[0]
    assert "b.json cannot be read" in lines[1]


def test_a_cheap_one_is_run_from_nothing(tmp_path: Path) -> None:
    seen: list[str] = []

    def train(arguments: Sequence[str]) -> int:
        seen.extend(arguments)
        outputs = next(a.partition("=")[2] for a in arguments if a.startswith("outputs="))
        folder = Path(outputs) / "check"
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text(json.dumps({"all": {"sc": {"own": 62.5}}}))
        return 0

    (outcome,) = run_anew(read_experiment(experiment(tmp_path)), train)
    assert seen[:2] == ["experiment=x", "budget=tiny"]
    assert any(a.startswith("artifacts=") for a in seen)
    assert (outcome.where, outcome.found, outcome.passed) == ("run anew", 62.5, False)
    (broken,) = run_anew(read_experiment(experiment(tmp_path / "c")), lambda _: 3)
    assert "ended with status 3" in broken.line
    assert not broken.passed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cost": "free"}, "choose one of cheap, expensive"),
        ({"command": "train"}, "list of arguments"),
        ({"checks": []}, "at least one entry"),
        ({"colour": 1}, "colour is not known"),
        ({"checks": [CHECK | {"tolerance": -1}]}, r"checks\[0\].tolerance is -1"),
        ({"checks": [CHECK | {"expected": "high"}]}, r"checks\[0\].expected must be a number"),
        ({"checks": [CHECK | {"source": ""}]}, "say where the value was measured"),
        ({"checks": [{k: v for k, v in CHECK.items() if k != "source"}]}, r"checks\[0\].source is missing"),
        ({"checks": [3]}, "must be an object"),
    ],
)
def test_a_wrong_file_names_the_key(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ExpectedError, match=message):
        read_experiment(experiment(tmp_path, **changes))


def test_a_damaged_file_and_no_file(tmp_path: Path) -> None:
    path = experiment(tmp_path)
    path.write_text("{")
    with pytest.raises(ExpectedError, match="cannot be read"):
        read_experiments(tmp_path)
    path.unlink()
    with pytest.raises(ExpectedError, match=r"has an expected\.json"):
        read_experiments(tmp_path)
    with pytest.raises(ExpectedError, match="no such folder"):
        read_experiments(tmp_path / "x")


def test_one_experiment_or_the_folder_of_all(tmp_path: Path) -> None:
    path = experiment(tmp_path)
    assert read_experiments(path.parent) == read_experiments(tmp_path) == [read_experiment(path)]


def test_the_command_counts_what_failed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment(tmp_path)
    assert report.main([str(tmp_path), "--expected"]) == 0
    assert "1 of 1 values as expected" in caplog.text
    monkeypatch.setattr(expected, "run_anew", lambda e: expected.committed(e))
    assert report.main([str(tmp_path), "--expected", "--rerun"]) == 0
    assert "2 of 2 values as expected" in caplog.text
    (tmp_path / "first" / "results" / "a.json").write_text("{}")
    assert report.main([str(tmp_path), "--expected"]) == 1
    assert "0 of 1 values" in caplog.text


def test_the_projects_own_results_are_as_expected() -> None:
    experiments = read_experiments(ROOT / "experiments")
    outcomes = [outcome for found in experiments for outcome in committed(found)]
    assert [outcome.line for outcome in outcomes if not outcome.passed] == []


def test_at_least_one_experiment_is_run_anew() -> None:
    cheap = [found for found in read_experiments(ROOT / "experiments") if found.cost == "cheap"]
    assert "tiny" in [found.folder.name for found in cheap]
    assert sum(found.minutes for found in cheap) <= 10


def test_commands_of_experiments_compose(monkeypatch: pytest.MonkeyPatch) -> None:

    from ilm_lightning.engine.validate import validate

    there = "ILM_DATA" in os.environ
    if not there:
        monkeypatch.setenv("ILM_DATA", "/data")
    for found in read_experiments(ROOT / "experiments"):
        config = composed(*found.command)
        # files of one's own are looked for
        if there or config.data.kind != "openp5":
            validate(config)
