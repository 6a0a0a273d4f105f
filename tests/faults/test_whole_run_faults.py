"""Whole runs on tiny models: killed in every stage, and with one bit of an artefact of a stage changed."""

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from faults.declared import Fault, marks

AREA = "Whole runs"
SAME = "the same command completes it: same metrics, texts and weights"
LANGUAGE = (
    *("prepare", "als", "encode", "embed", "teach", "tasks", "pretrain", "residuals", "tune", "generate", "evaluate"),
    "export",
)
SHOP = ("prepare", "baselines", "embed", "pretrain", "recommend", "rank", "export")
DAMAGED = ("prepare", "als", "encode", "embed", "tasks", "pretrain", "tune", "generate", "evaluate")
LIMIT_S = 1800
Rows = dict[tuple[str, ...], dict[str, Any]]


def point(run: str, stage: str) -> str:
    """The number from which the harness draws kind and place of a kill."""
    return str(random.Random(f"{run} {stage}").randrange(10_000))


@pytest.fixture(scope="module")
def rows(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """What became of every run that a chosen test asks for, by run and stage, or stage alone for a changed bit.

    One process of its own does all of them, which loads the libraries once; forking this one, whose libraries have
    started threads, is not safe.
    """
    work = tmp_path_factory.mktemp("whole")
    chosen = [item.callspec.params for item in request.session.items if item.path == Path(__file__)]  # type: ignore[attr-defined]
    asked: list[str] = []
    for one in chosen:
        run, stage = one.get("run"), one["stage"]
        asked += ["--only", run, stage, point(run, stage)] if run else ["--damage", stage]
    command = [sys.executable, str(Path(__file__).with_name("kills.py")), "--work", str(work / "runs")]
    out = work / "kills.json"
    done = subprocess.run(
        [*command, "--out", str(out), *asked], capture_output=True, text=True, check=False, timeout=LIMIT_S
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    kills = {(row["run"], row["stage"]): row for row in found["kills"]}
    return {**kills, **{(row["stage"],): row for row in found["damages"]}}


@pytest.mark.parametrize(
    ("run", "stage"),
    [
        pytest.param(
            run, stage, id=f"{run}-{stage}",
            marks=marks(Fault(AREA, f"kill -9 in stage {stage} of the {run} run, at a drawn point", SAME), False),
        )
        for run, stages in (("language", LANGUAGE), ("shop", SHOP))
        for stage in stages
    ],
)  # fmt: skip
def test_killed(run: str, stage: str, rows: Rows, seen: Callable[[str], None]) -> None:
    row = rows[run, stage]
    # a point in time may lie behind the stage's end where the machine has become faster; all else holds then too
    assert row["killed"] or row["kind"] == "time", row
    assert row["completed"], row
    assert row["damaged"] == []
    assert row["different"] == []
    seen("completed, nothing damaged, nothing different")


@pytest.mark.parametrize(
    "stage",
    [
        pytest.param(
            stage, id=f"bit-{stage}",
            marks=marks(Fault(AREA, f"a bit of what stage {stage} made is flipped, the command repeated", SAME), False),
        )
        for stage in DAMAGED
    ],
)  # fmt: skip
def test_damaged(stage: str, rows: Rows, seen: Callable[[str], None]) -> None:
    row = rows[stage,]
    assert row["completed"], row
    assert row["named"], row
    assert row["different"] == []
    seen("named, built again, nothing different")
