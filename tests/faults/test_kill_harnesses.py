"""The two harnesses that kill runs at drawn points: that they draw, kill, go on and compare as they say."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from faults.kill_points import KINDS, Counter, install
from faults.kills_of_make_train import PHASES, RESULTS, ROOT, Seen, Whole, drawn, last_step, texts
from faults.pretended_train import KEY, PIECES, STAGES
from faults.run_results import unequal

HARNESS = Path(__file__).with_name("kills_of_make_train.py")
TRAIN = Path(__file__).with_name("pretended_train.py")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder whose ``make train`` pretends."""
    (tmp_path / "clone").mkdir()
    (tmp_path / "clone" / "Makefile").write_text(f"train:\n\t{sys.executable} {TRAIN} $(ARGS)\n")
    return tmp_path / "clone"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a pretended run that nobody killed."""
    return pretended(tmp_path_factory.mktemp("whole"))


def pretended(folder: Path, *settings: str) -> Path:
    """Make a pretended run; returns its folder."""
    places = [f"artifacts={folder / 'artifacts'}", f"outputs={folder / 'outputs'}"]
    environment = {"PYTHONPATH": str(ROOT / "src"), "PATH": ""}
    subprocess.run([sys.executable, str(TRAIN), *places, *settings], check=True, capture_output=True, env=environment)
    return folder / "outputs" / "pretended"


def kill(clone: Path, whole: Path, work: Path, *more: str) -> tuple[int, dict[str, Any]]:
    """Run the harness; returns its status and what it found."""
    command = [sys.executable, str(HARNESS), str(whole), "--clone", str(clone), "--work", str(work)]
    done = subprocess.run([*command, *more], capture_output=True, text=True, check=False, timeout=120)
    assert (work / RESULTS).is_file(), done.stderr
    return done.returncode, json.loads((work / RESULTS).read_text())


@pytest.mark.slow
def test_kills_of_make_train(clone: Path, whole: Path, tmp_path: Path) -> None:
    status, found = kill(clone, whole, tmp_path / "work")
    assert status == 0, found
    assert found["equal"]
    assert found["different"] == []
    assert [row["stage"] for row in found["kills"]] == [*PHASES, "evaluate"]
    assert [row["in"] for row in found["kills"]] == [*PHASES, "evaluate"]
    assert found["starts"] == len(found["kills"]) + 1 == len(found["seconds"])
    for row in found["kills"]:
        assert row["half_done"] == [f"{row['stage']}/{KEY}.part"]
        assert any(line.startswith("prepare") and "there already" in line for line in row["next_start_said"])
    for row in found["kills"][:-1]:
        # not before its point, and the next start went on from there
        assert row["share"] * row["of"] - 2 <= row["on_disk"] <= row["of"]
        if row["unit"] == "steps":
            assert f"{row['stage']} continues from step {row['on_disk']}" in row["next_start_said"]


@pytest.mark.slow
def test_a_killed_run_that_ends_otherwise_is_told(clone: Path, whole: Path, tmp_path: Path) -> None:
    status, found = kill(clone, whole, tmp_path / "work", "--stages", "tune", "--args", "score=2 text=z weights=v")
    assert status == 1
    assert not found["equal"]
    assert found["different"] == [
        "metrics.all.sc.own: 1.0, not 2.0",
        "predictions: 1 of 2 rows differ",
        "weights: model/model.safetensors: other bytes",
    ]


@pytest.mark.slow
def test_a_run_that_fails_is_told(clone: Path, whole: Path, tmp_path: Path) -> None:
    (clone / "Makefile").write_text("train:\n\tfalse\n")
    status, found = kill(clone, whole, tmp_path / "work")
    assert status == 1
    assert found["status"] != 0
    assert found["kills"] == []


def test_a_whole_run_without_its_artefacts_is_refused(clone: Path, whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "outputs" / "pretended")
    command = [sys.executable, str(HARNESS), str(tmp_path / "outputs" / "pretended"), "--clone", str(clone), "--plan"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "is missing: the artefacts of the whole run must be there" in done.stderr


@pytest.mark.slow
def test_other_settings_are_another_experiment(clone: Path, whole: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    fresh = dict.fromkeys(("args", "seed", "points", "commit", "whole"))
    (work / RESULTS).write_text(json.dumps(fresh))
    assert kill(clone, whole, work)[0] == 2


def test_points_are_a_function_of_the_seed(whole: Path) -> None:
    run = Whole.read(whole)
    assert drawn(3, run) == drawn(3, run) != drawn(4, run)
    points = drawn(3, run)
    assert [p.stage for p in points] in (["prepare", *PHASES], [*PHASES, "evaluate"])
    assert [p.share for p in points if p.stage == "tune"] == sorted(p.share for p in points if p.stage == "tune")
    assert all(0 <= point.share <= 1 for point in points)
    assert {p.stage for p in drawn(3, run, ["tune", "prepare"])} == {"tune", "prepare"}
    assert [run.work(stage)[0] for stage in STAGES] == ["seconds", "steps", "steps", "texts", "seconds"]
    assert [run.work(stage)[1] for stage in ("tune", "generate")] == [PIECES, 2 * PIECES]


def test_what_is_done_is_read_while_it_is_written(tmp_path: Path) -> None:
    journal = tmp_path / "texts.jsonl"
    journal.write_bytes(b'00000000 {"a": 1, "b": 2}\n00000000 {"c": 1}\n00000000 {"d": ')
    assert texts(journal) == 3
    assert texts(tmp_path / "none") == 0
    history = tmp_path / "history.csv"
    history.write_text("step,seconds,name,value\n20,1.0,train/loss,2.0\n40,1.0,train/loss,2.0\n4")
    assert last_step(history) == 40
    assert last_step(tmp_path / "none") == 0


def test_the_pace_of_a_stage_counts_between_its_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    log, history = tmp_path / "log", tmp_path / "tune" / f"{KEY}.part" / "checkpoints" / "tune" / "history.csv"
    history.parent.mkdir(parents=True)
    # from before the kill: 60 steps, of which 40 are in the checkpoint
    history.write_text("60,0,a,1\n")
    log.write_text(f"embed     {KEY} (there already)\nprepare   {KEY}\nprepare   done in 3s\ntune      {KEY}\nembed ")
    seen = Seen(log, tmp_path)
    seen.look()
    assert seen.begun == {"tune": (KEY, 100.0)}
    assert seen.ended == {"embed", "prepare"}
    for at, step, expected in (
        (100, 60, 60.0), (105, 40, 40.0), (110, 40, 40.0), (115, 60, 60.0), (120, 60, 70.0), (125, 60, 80.0),
        # never further than one report
        (160, 60, 80.0), (165, 80, 80.0),
    ):  # fmt: skip
        now[0] = float(at)
        history.write_text(f"{step},0,a,1\n")
        assert seen.done("tune", "steps") == expected, at
    assert seen.done("tune", "seconds") == 65.0
    # a stage within another ends before it
    log.write_text(log.read_text() + f"done\ninner     {KEY}\n")
    seen.look()
    assert list(seen.begun) == ["tune", "inner"]
    log.write_text(log.read_text() + "inner     done in 2s\ntune      done in 9s\n")
    seen.look()
    assert (seen.begun, seen.ended) == ({}, {"embed", "prepare", "inner", "tune"})


def test_the_work_of_a_stage_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ilm_lightning.engine.artifacts import Store
    from ilm_lightning.engine.stages import export, recommend_export

    # put back afterwards
    monkeypatch.setattr(Store, "_build", Store._build)
    for module in (export, recommend_export):
        monkeypatch.setattr(module, "export", module.export)
    counter = Counter()
    install(counter)

    def build(folder: Path) -> dict[str, str]:
        (folder / "a.txt").write_text("a")
        inner = store.get("inner", {}, {}, lambda to: {})
        return {"inner": inner.id}

    store = Store(tmp_path)
    made = store.get("outer", {}, {}, build)
    # a stage within another is the other's work
    assert counter.order == [("outer", made.id)]
    assert counter.counts.keys() == {"outer"}
    assert all(count > 0 for count in counter.counts["outer"].values())
    assert counter.counts["outer"]["call"] > counter.counts["outer"]["write"]


def test_stages_with_too_few_kills_are_killed_further() -> None:
    from faults.kills import Whole as Killed
    from faults.kills import wanting, where

    counts = dict.fromkeys(KINDS, 9)
    both, alone = ("a", "embed"), ("b", "rank")
    wholes = {
        "a": Killed([], Path(), {"embed": counts}, []),
        "b": Killed([], Path(), {"embed": counts, "rank": counts}, []),
    }
    assert [where(number, wholes) for number in range(4)] == [both, alone, ("b", "embed"), alone]
    rows = [{"run": run, "stage": stage, "killed": True} for run, stage in (both, both, alone)]
    assert wanting(rows, wholes, kills=4, each=0) == {both, alone, ("b", "embed")}
    assert wanting(rows, wholes, kills=3, each=0) == set()
    assert wanting(rows, wholes, kills=0, each=2) == {alone, ("b", "embed")}
    # one that was not killed does not count
    missed = {"run": "b", "stage": "rank", "killed": False}
    assert wanting([*rows, missed], wholes, kills=4, each=0) == {both, alone, ("b", "embed")}


def test_equal_runs_are_equal(whole: Path, tmp_path: Path) -> None:
    assert unequal(whole, pretended(tmp_path)) == []
