import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from synthetic import TASKS, config_of, planted, predictions_of, write_run

from ilm_lightning import report
from ilm_lightning.engine.composition import composed_node
from ilm_lightning.evaluation.statistics import nested_bootstrap
from ilm_lightning.reporting import csvs, latex, markdown, page_tables
from ilm_lightning.reporting.controls import CONTROLS
from ilm_lightning.reporting.document import Document, build
from ilm_lightning.reporting.runs import Problem, RunError
from ilm_lightning.reporting.scores import read_scores
from ilm_lightning.reporting.tables import Table
from impossible_parquet import impossible

LEVELS = {
    ("elm", "combined"): 55.0,
    ("ilm_mlp", "combined"): 50.0,
    ("ilm_qformer_random", "combined"): 54.9,
    ("ilm_qformer", "combined"): 55.1,
    ("ilm_qformer_full", "combined"): 60.0,
    ("ilm_qformer_full", "semantic"): 58.0,
    ("ilm_qformer_full", "behavioral"): 52.0,
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Document:
    return build([planted(tmp_path_factory.mktemp("runs"), LEVELS)], resamples=1000)


def table(document: Document, number: str, measure: str = "sc") -> Table:
    return next(t for t in document.sections[0].tables[measure] if t.number == number)


def test_one_protocol_and_nothing_left_out(found: Document) -> None:
    assert (found.runs, len(found.sections), found.problems) == (21, 1, ())
    assert [t.number for t in found.sections[0].tables["sc"]] == ["2", "3", "9", "10"]


def test_cells_are_means_and_spread_over_seeds_beside_the_papers(found: Document) -> None:
    made = table(found, "3")
    assert [h.label for h in made.headings] == [
        "ELM", "ILM-MLP", "ILM-QFormer-random", "ILM-QFormer", "ILM-QFormer-fullyfinetune"
    ]  # fmt: skip
    column = made.headings[1].column
    assert column is not None
    means = [pl.read_parquet(run.path / "predictions.parquet").filter(pl.col("condition") == "own")
             .group_by("task").agg(pl.col("sc").mean())["sc"].mean() for run in column.runs.values()]  # fmt: skip
    cell = dict(made.rows)["all"][1]
    assert cell.mean == pytest.approx(np.mean(means))
    assert cell.sd == pytest.approx(np.std(means, ddof=1))
    # six of the paper's 24 tasks: its mean over all of them is no neighbour of ours
    assert (cell.seeds, cell.paper) == (3, None)
    assert "ours of 'all': 6 of the paper's 24 tasks, so the paper's does not stand beside it" in made.notes
    assert [dict(made.rows)["summary"][place].paper for place in (1, 4)] == [78.44, 82.66]


def test_the_papers_mean_stands_beside_ours_of_all_tasks(tmp_path: Path) -> None:
    planted(tmp_path, {("ilm_mlp", "combined"): 50.0}, seeds=[0], tasks=TASKS, movies=10)
    made = table(build([tmp_path], 200), "3")
    assert dict(made.rows)["all"][1].paper == 80.27
    assert not any("of the paper's 24 tasks" in note for note in made.notes)


def test_few_movies_lead_to_nothing(tmp_path: Path) -> None:
    rows = {("ilm_qformer", "combined"): 60.0, ("ilm_mlp", "combined"): 50.0}
    few, enough = (
        table(build([planted(tmp_path / str(movies), rows, seeds=range(3), movies=movies)], 2000), "3")
        for movies in (9, 10)
    )
    assert [(pair.found.noise, pair.found.significant(-1)) for pair in few.pairs] == [(True, 0)]
    assert all(cell.noise for _, cells in few.rows for cell in cells if cell.rank == 1)
    assert "too few movies for a verdict (9 of at least 10): every lead is marked as noise" in few.notes
    assert [(pair.found.noise, pair.found.significant(-1)) for pair in enough.pairs] == [(False, 6)]
    assert not any(cell.noise for _, cells in enough.rows for cell in cells if cell.rank == 1)


def test_best_and_next_best_are_computed_and_a_close_lead_is_noise(found: Document) -> None:
    cells = dict(table(found, "3").rows)["all"]
    means = [cell.mean or 0.0 for cell in cells]
    order = sorted(range(5), key=lambda place: -means[place])
    assert (cells[order[0]].rank, cells[order[1]].rank) == (1, 2)
    assert sum(cell.rank for cell in cells) == 3
    assert order[0] == 4
    assert not cells[4].noise
    pairs = {(p.first, p.second): p.found for p in table(found, "3").pairs}
    assert not pairs["ILM-MLP", "ILM-QFormer"].noise
    assert pairs["ELM", "ILM-QFormer"].noise
    assert pairs["ILM-MLP", "ILM-QFormer"].significant(-1) == 6


def test_a_lead_that_is_noise_is_marked(tmp_path: Path) -> None:
    levels = {("ilm_qformer", "combined"): 55.1, ("ilm_qformer_random", "combined"): 55.0}
    text = markdown.write(build([planted(tmp_path, levels, seed_noise=0.5)], 1000))
    rows = [line for line in text.splitlines() if line.startswith("| all |")]
    assert "** ≈" in rows[1]


def test_a_lead_that_the_test_on_common_seeds_contradicts_is_marked(tmp_path: Path) -> None:
    # 56 in the mean of three seeds, and 2 below the other on the seed that both have
    for seed, level in enumerate((53.0, 57.5, 57.5)):
        frame = predictions_of(level, seed, noise=1.0, seed_noise=0.02)
        write_run(tmp_path / f"q{seed}", config_of("ilm_qformer", seed=seed), frame)
    write_run(tmp_path / "m", config_of("ilm_mlp"), predictions_of(55.0, 0, noise=1.0, seed_noise=0.02))
    made = table(build([tmp_path], 500), "3")
    (pair,) = made.pairs
    assert (pair.first, pair.found.noise) == ("ILM-MLP", False)
    assert pair.found.low > 0
    best = [next(cell for cell in cells if cell.rank == 1) for _, cells in made.rows]
    assert all(cell.seeds == 3 and cell.noise for cell in best)


def test_intervals_are_the_nested_bootstraps(found: Document) -> None:
    made = table(found, "3")
    pair = next(p for p in made.pairs if (p.first, p.second) == ("ELM", "ILM-MLP"))
    rows = []
    for seed in range(3):
        frames = [
            pl.read_parquet(h.column.runs[seed].path / "predictions.parquet").filter(pl.col("condition") == "own")
            for h in made.headings[:2]
            if h.column
        ]
        both = frames[0].join(frames[1], on="example_id", suffix="_b")
        rows.append(both.select("movie", "task", d=pl.col("sc") - pl.col("sc_b"), seed=pl.lit(seed)))
    frame = pl.concat(rows)
    plain = nested_bootstrap(frame["d"], frame["seed"].to_list(), frame["movie"].to_list(), frame["task"].to_list())
    assert pair.found.difference.mean == pytest.approx(plain.mean)
    assert (pair.found.difference.low, pair.found.difference.high) == pytest.approx((plain.low, plain.high), abs=0.15)


def test_table_2_takes_its_columns_from_three_encoders(found: Document) -> None:
    made = table(found, "2")
    labels = [h.label for h in made.headings if h.ours]
    assert labels == [
        "ELM (combined)", "ILM-Semantic", "ILM-Behavioral", "ILM-Combined", "ILM-Combined, frozen"
    ]  # fmt: skip
    papers = dict(zip([h.label for h in made.headings], [c.paper for c in dict(made.rows)["summary"]], strict=True))
    assert papers["ILM-Combined"] == 82.66
    assert papers["ILM-Combined, frozen"] == 81.45
    assert "ILM-Semantic, frozen: python -m ilm_lightning.train experiment=ilm_qformer encoder=semantic" in made.missing


def test_missing_cells_are_named_with_the_command_that_makes_them(found: Document) -> None:
    made = table(found, "9")
    assert [h.label for h in made.headings if not h.ours] == ["ELM", "ILM-MLP", "ILM-QFormer-random", "ILM-QFormer"]
    assert "ILM-MLP: python -m ilm_lightning.train experiment=ilm_mlp encoder=semantic" in made.missing
    assert dict(made.rows)["all"][0].mean is None


def test_item_specific_is_own_minus_blind_without_the_papers_numbers(found: Document) -> None:
    made = table(found, "3", "item")
    cells = dict(made.rows)["all"]
    assert cells[1].mean == pytest.approx(10.0, abs=0.5)
    assert {cell.paper for cell in cells} == {None}


def test_other_protocols_stand_apart_and_are_named(tmp_path: Path) -> None:
    root = planted(tmp_path / "a", {("ilm_qformer", "combined"): 55.0})
    write_run(tmp_path / "a" / "other", config_of("ilm_qformer", seed=7), predictions_of(70.0, 7, teacher="llm"),
              protocol={"teacher": "llm"})  # fmt: skip
    write_run(tmp_path / "a" / "fewer", config_of("ilm_qformer", seed=8), predictions_of(70.0, 8, movies=20))
    document = build([root], 200)
    assert [len(s.group.columns[0].runs) for s in document.sections] == [3, 1, 1]
    assert dict(table(document, "3").rows)["all"][3].mean == pytest.approx(55.0, abs=1)
    told = {p.where: p.what for p in document.problems}
    assert "teacher 'llm', not 'facts-1'" in told["other"]
    assert "20 movies" in told["fewer"]


def test_the_same_row_with_other_settings_is_not_averaged(tmp_path: Path) -> None:
    root = planted(tmp_path, {("ilm_qformer", "combined"): 55.0}, seeds=(0, 1))
    long = config_of("ilm_qformer", seed=2, tuning__steps=900)
    write_run(root / "long", long, predictions_of(65.0, 2))
    document = build([root], 200)
    labels = [h.label for h in table(document, "3").headings if h.ours]
    assert labels == ["ILM-QFormer", "ILM-QFormer (tuning.steps=900)"]
    assert "runs with different settings, not averaged" in document.problems[0].what
    assert any("budgets differ" in note for note in table(document, "3").notes)


def test_settings_that_do_nothing_do_not_split_a_row(tmp_path: Path) -> None:
    root = planted(tmp_path, {("ilm_mlp", "combined"): 50.0}, seeds=(0,))
    other = config_of("ilm_mlp", seed=1, pretraining__steps=7, tuning__lora_rank=4, tuning__lm_lr=1.0)
    write_run(root / "b", other, predictions_of(50.0, 1))
    document = build([root], 200)
    assert document.problems == ()
    assert document.sections[0].group.columns[0].seeds == (0, 1)


def test_of_two_runs_with_one_seed_the_fuller_is_taken(tmp_path: Path) -> None:
    write_run(tmp_path / "a", config_of("ilm_qformer"), predictions_of(55.0, 0, blind=None))
    write_run(tmp_path / "b", config_of("ilm_qformer"), predictions_of(55.0, 0))
    document = build([tmp_path], 200)
    assert document.sections[0].group.columns[0].runs[0].name == "b"
    assert "the same settings and seed as b; left out" in document.problems[0].what


def test_what_is_damaged_is_named_and_the_rest_reported(tmp_path: Path) -> None:
    planted(tmp_path, {("ilm_qformer", "combined"): 55.0})
    for name, state in (("dead", "failed"), ("busy", "running")):
        write_run(tmp_path / name, config_of("ilm_mlp"), predictions_of(50.0, 0), state=state)
    for name, status in (
        ("broken", {"state": "failed", "error": "no room"}),
        ("stopped", {"state": "interrupted", "error": "KeyboardInterrupt"}),
    ):
        write_run(tmp_path / name, config_of("ilm_mlp"), predictions_of(50.0, 0))
        (tmp_path / name / "status.json").write_text(json.dumps(status))
    for name in ("torn", "short", "noconfig", "nopreds", "badpreds", "deadly", "listed", "empty", "ranks", "noprose"):
        write_run(tmp_path / name, config_of("ilm_mlp", seed=len(name)), predictions_of(50.0, len(name)))
    (tmp_path / "torn" / "metrics.json").write_text('{"all": {"sc"')
    (tmp_path / "short" / "metrics.json").write_text('{"all": {}}')
    (tmp_path / "listed" / "metrics.json").write_text("[]")
    (tmp_path / "ranks" / "metrics.json").write_text('{"ranking": {}, "protocol": {}}')
    (tmp_path / "noprose" / "metrics.json").write_text('{"all": {}, "tasks": {}, "protocol": {}}')
    (tmp_path / "noconfig" / "config.yaml").write_text("a: [1\nb: }")
    (tmp_path / "nopreds" / "predictions.parquet").unlink()
    (tmp_path / "badpreds" / "predictions.parquet").write_bytes(b"PAR1 not really")
    deadly = tmp_path / "deadly" / "predictions.parquet"
    deadly.write_bytes(impossible(deadly.read_bytes()))
    (tmp_path / "empty" / "metrics.json").unlink()
    document = build([tmp_path], 200)
    told = {Path(p.where).name: p.what for p in document.problems}
    assert "unfinished run (state failed)" in told["dead"]
    assert "unfinished run (state failed): no room; once that is mended, resume=broken" in told["broken"]
    assert "unfinished run (state interrupted): resume=stopped" in told["stopped"]
    assert "resume=busy continues it" in told["busy"]
    assert "metrics.json is damaged" in told["torn"]
    assert "all.sc is missing" in told["short"]
    assert "no JSON object" in told["listed"]
    assert "baselines is missing" in told["ranks"]
    assert "no semantic consistency" in told["noprose"]
    assert "config.yaml cannot be read" in told["noconfig"]
    assert "nothing can be tested" in told["nopreds"]
    assert "predictions.parquet is damaged" in told["badpreds"]
    assert "predictions.parquet is damaged (damaged inside" in told["deadly"]
    assert "no metrics.json" in told["empty"]
    assert dict(table(document, "3").rows)["all"][3].seeds == 3
    assert len(document.sections) == 2  # means without predictions stand apart


def one_of_three_with(folder: Path, key: str, value: object) -> tuple[Document, Problem]:
    """A report on three seeds, one of whose metrics have another part, and what it says of that."""
    planted(folder, {("ilm_qformer", "combined"): 55.0})
    file = next(folder.iterdir()) / "metrics.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    document = build([folder], 200)
    (problem,) = document.problems
    return document, problem


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("retrieval", {"own": {"all": {"r1": 0.3}}}, "retrieval.own.all.chance_r1 is missing"),
        ("differences", {"sc": {"best_control": {"mean": 1.0}}}, "differences.sc.best_control.low is missing"),
        ("claims", ["confirmed"], "claims is ['confirmed'], not a mapping"),
    ],
)
def test_a_part_of_another_version_is_left_out_and_the_run_stays(
    key: str, value: object, said: str, tmp_path: Path
) -> None:
    document, problem = one_of_three_with(tmp_path, key, value)
    assert Path(problem.where).name == "metrics.json"
    assert problem.what.startswith(f"a part of it is damaged or of another version and left out: {said}")
    assert dict(table(document, "3").rows)["all"][3].seeds == 3


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("tasks", {"summary": {"sc": 60.0}}, "tasks.summary.sc is 60.0, not a mapping"),
        ("all", {"sc": {"own": "60"}}, "all.sc.own is '60', not a number"),
        ("protocol", {"seed": "first"}, "protocol.seed is 'first', not a number"),
    ],
)
def test_a_run_of_another_version_is_named_and_the_others_reported(
    key: str, value: object, said: str, tmp_path: Path
) -> None:
    document, problem = one_of_three_with(tmp_path, key, value)
    assert problem.what.startswith(f"metrics.json is damaged or of another version: {said}; the training command")
    assert dict(table(document, "3").rows)["all"][3].seeds == 2


def test_a_configuration_of_another_version_is_named(tmp_path: Path) -> None:
    write_run(tmp_path / "a", config_of("ilm_mlp", adapter__num_queries="eight"), predictions_of(50.0, 0))
    assert "config.yaml cannot be read (adapter.num_queries is 'eight'" in build([tmp_path], 200).problems[0].what


def test_artefacts_below_the_folder_are_no_runs(tmp_path: Path) -> None:
    planted(tmp_path / "outputs", {("ilm_mlp", "combined"): 50.0}, seeds=[0])
    artefact = tmp_path / "artifacts" / "evaluate" / "0123456789abcdef"
    artefact.mkdir(parents=True)
    for name in ("manifest.json", "metrics.json"):
        (artefact / name).write_text("{}")
    document = build([tmp_path], 200)
    assert (document.runs, document.problems) == (1, ())


def test_a_folder_without_runs_and_one_that_is_not_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert "holds no run" in build([tmp_path]).problems[0].what
    with pytest.raises(RunError, match="no such folder"):
        build([tmp_path / "nowhere"])
    assert report.main([str(tmp_path / "nowhere"), "--out", str(tmp_path / "o")]) == 1
    assert "no such folder" in caplog.text
    assert report.main([str(tmp_path), "--resamples", "3"]) == 1
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "report.md").write_text("an earlier report")
    assert report.main([str(tmp_path), "--out", str(tmp_path / "o")]) == 1
    assert f"no finished run in {tmp_path}; nothing was written" in caplog.text
    assert (tmp_path / "o" / "report.md").read_text() == "an earlier report"
    assert report.main([str(tmp_path), "--out", "/proc/x"]) == 1
    assert "--out=/proc/x cannot be written" in caplog.text
    with pytest.raises(SystemExit):
        report.main([str(tmp_path), "--rerun"])


def test_an_interruption_is_told_without_a_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ilm_lightning.reporting.document.build", interrupted)
    assert report.main([str(tmp_path), "--out", str(tmp_path / "o")]) == 130
    assert "interrupted: nothing was written" in caplog.text


def test_missing_rows_ask_for_what_the_runs_that_are_there_share(tmp_path: Path) -> None:
    shared = "budget=tiny 'tuning.lr_trials=[1e-3,3e-3]' data=custom data.interactions=events.csv"
    for seed in range(2):
        own = f"seed={seed} trainer.threads={seed + 1} encoder=combined adapter.num_queries=8 tuning=frozen"
        # as a sweep's jobs name it
        command = f"python -m ilm_lightning.train experiment=ilm_mlp sweep=table3 {shared} {own} ++teacher.body.key=***"
        write_run(
            tmp_path / str(seed), config_of("ilm_mlp", seed=seed), predictions_of(50.0, seed), run={"command": command}
        )
    made = table(build([tmp_path], 200), "3")
    row = "ILM-QFormer: python -m ilm_lightning.train experiment=ilm_qformer encoder=combined"
    assert f"{row} {shared}" in made.missing


def test_missing_rows_ask_for_the_budget_of_one_main_column(tmp_path: Path) -> None:
    def put(name: str, experiment: str, steps: int, seeds: int, encoder: str = "combined") -> None:
        for seed in range(seeds):
            command = f"python -m ilm_lightning.train budget=tiny tuning.steps={steps} experiment={experiment}"
            config = config_of(experiment, encoder, seed, tuning__steps=steps)
            write_run(tmp_path / f"{name}-{seed}", config, predictions_of(50.0, seed), run={"command": command})

    put("main", "ilm_mlp", 120, 3)
    put("other", "ilm_qformer_random", 240, 2, "semantic")
    # the budgets of all rows together have nothing in common
    put("long", "ilm_mlp", 318, 1)
    document = build([tmp_path], 200)
    command = "python -m ilm_lightning.train experiment"
    missing = table(document, "3").missing
    assert f"ELM: {command}=elm encoder=combined budget=tiny tuning.steps=120" in missing
    # of the same row with other vectors
    row = "ILM-QFormer-random"
    assert f"{row}: {command}=ilm_qformer_random encoder=combined budget=tiny tuning.steps=240" in missing


def test_of_protocols_with_as_many_runs_the_one_with_most_movies_comes_first(tmp_path: Path) -> None:
    for name, movies in (("a", 8), ("b", 30), ("c", 12)):
        write_run(tmp_path / name, config_of("ilm_mlp"), predictions_of(50.0, 0, movies=movies))
    groups = [section.group for section in build([tmp_path], 200).sections]
    counts = [next(iter(group.columns[0].runs.values())).metrics["n_movies"] for group in groups]
    assert (counts, [group.letter for group in groups]) == ([30, 12, 8], ["A", "B", "C"])


def test_an_unscored_text_is_told(tmp_path: Path) -> None:
    frame = predictions_of(55.0, 0).with_columns(
        sc=pl.when(pl.col("example_id") == "summary:3").then(None).otherwise(pl.col("sc"))
    )
    write_run(tmp_path / "a", config_of("ilm_qformer"), frame)
    assert read_scores(tmp_path / "a" / "predictions.parquet").counts["sc"].sum() == 239
    assert any("1 of 240 texts" in p.what for p in build([tmp_path], 200).problems)


def test_slot_accuracy_stands_in_and_knows_where_nothing_is_asked(tmp_path: Path) -> None:
    # as the evaluation leaves it: null where a target names no fact
    for name, level in (("ilm_qformer", 60.0), ("ilm_mlp", 50.0)):
        for seed in range(3):
            frame = predictions_of(level, seed).with_columns(
                slot_accuracy=pl.when(pl.col("task") == "summary")
                .then(None)
                .when(pl.col("movie") % 3 == 0)
                .then(None)
                .otherwise(pl.col("sc") + pl.col("movie"))
            )
            write_run(tmp_path / f"{name}-{seed}", config_of(name, seed=seed), frame)
    document = build([tmp_path], 500)
    made = table(document, "3", "third")
    frame = pl.read_parquet(tmp_path / "ilm_mlp-0" / "predictions.parquet").filter(pl.col("condition") == "own")
    asked = frame.drop_nulls("slot_accuracy").group_by("task").agg(pl.col("slot_accuracy").mean())
    mean = asked["slot_accuracy"].mean()
    column = next(h.column for h in made.headings if h.label == "ILM-MLP")
    assert column is not None
    assert column.values("third")[0] == pytest.approx(mean)
    assert dict(made.rows)["summary"][0].mean is None
    pair = next(p for p in made.pairs if p.second == "ILM-QFormer")
    assert pair.found.difference.mean == pytest.approx(-10, abs=1)
    assert "summary" not in pair.found.difference.tasks
    assert "### Table 3: language tasks, combined vectors; slot accuracy" in markdown.write(document)


def test_tasks_that_the_paper_does_not_have_stay_out_of_its_tables(tmp_path: Path) -> None:
    frame = predictions_of(55.0, 0, tasks=("summary", "pitch"))
    other = predictions_of(5.0, 1, tasks=("haiku",))
    write_run(tmp_path / "a", config_of("ilm_qformer"), pl.concat([frame, other]))
    document = build([tmp_path], 200)
    assert [name for name, _ in table(document, "3").rows] == ["summary", "pitch", "all"]
    assert dict(table(document, "3").rows)["all"][3].mean == pytest.approx(55, abs=4)
    assert "left out of them: haiku" in document.problems[0].what


def test_a_partial_blind_control_gives_no_item_specific_number(tmp_path: Path) -> None:
    frame = predictions_of(55.0, 0).filter((pl.col("condition") == "own") | (pl.col("movie") < 5))
    write_run(tmp_path / "a", config_of("ilm_qformer"), frame)
    document = build([tmp_path], 200)
    assert "item" not in document.sections[0].tables
    assert any("only a part of the examples" in p.what for p in document.problems)


def test_a_best_control_of_fewer_controls_says_of_which(tmp_path: Path) -> None:
    every = ["shuffled", "blind", "constant"]
    for name, told in (("ilm_qformer", every), ("ilm_mlp", ["shuffled", "constant"]), ("ilm_qformer_random", None)):
        folder = write_run(tmp_path / name, config_of(name), predictions_of(50.0, 0))
        metrics = json.loads((folder / "metrics.json").read_text())
        metrics["differences"]["sc"]["best_control"]["low"] = -1.0
        if told is None:
            # an older run: what was generated was there
            metrics["all"]["sc"] = {"own": 50.0, "shuffled": 30.0, "constant": 40.0}
            del metrics["controls"]
        else:
            metrics["controls"] = {"best_control": told}
        (folder / "metrics.json").write_text(json.dumps(metrics))
    section = build([tmp_path], 200).sections[0]
    few = "shuffled and constant"
    assert {row.label.partition(" ")[0]: row.of for row in section.controls} == {
        "ILM-QFormer": "", "ILM-MLP": few, "ILM-QFormer-random": few,
    }  # fmt: skip
    text = markdown.write(build([tmp_path], 200))
    assert text.count(f"+5.00 (of {few} alone), above 0 in 0 of 1 seeds") == 2
    assert f"in every seed: ILM-MLP (combined) (of {few} alone), ILM-QFormer (combined), " in text
    page = page_tables.controls_table(section.controls)
    assert page.count(f"<small>of {few} alone; above 0") == 2
    assert set(CONTROLS) == set(every)


def test_figure_3_is_a_curve_over_soft_tokens(tmp_path: Path) -> None:
    for experiment in ("ilm_qformer_random", "ilm_mlp"):
        for q in (1, 2, 4, 8, 16, 32):
            config = config_of(experiment, adapter__num_queries=q)
            write_run(tmp_path / f"{experiment}-{q}", config, predictions_of(50.0 - abs(np.log2(q) - 3), 0))
    document = build([tmp_path], 200)
    curves = {s.label: s for s in document.sections[0].figure if s.measure == "sc"}
    assert set(curves) == {"ILM-QFormer-random, combined", "ILM-MLP, combined"}
    assert [p.queries for p in curves["ILM-MLP, combined"].points] == [1, 2, 4, 8, 16, 32]
    best = max(curves["ILM-MLP, combined"].points, key=lambda p: p.mean)
    assert best.queries == 8
    labels = [h.label for h in table(document, "3").headings if h.ours]
    assert labels == ["ILM-MLP", "ILM-QFormer-random", "ILM-MLP (1 token)"]


def test_files_of_the_command(tmp_path: Path) -> None:
    planted(tmp_path / "runs", {("ilm_qformer", "combined"): 55.0, ("ilm_mlp", "combined"): 50.0})
    out = tmp_path / "out"
    command = [sys.executable, "-m", "ilm_lightning.report", str(tmp_path / "runs"), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "6 finished runs, 1 protocol:" in done.stderr
    text = (out / "report.md").read_text()
    assert "| ILM-MLP − ILM-QFormer | -5." in text
    rows = list(csv.DictReader((out / "tables.csv").open()))
    mine = next(r for r in rows if r["task"] == "all" and r["column"] == "ILM-QFormer" and r["table"] == "3")
    assert float(mine["mean"]) == pytest.approx(55, abs=1)
    assert mine["paper"] == ""
    other = next(r for r in rows if r["task"] == "summary" and r["column"] == "ILM-QFormer" and r["table"] == "3")
    assert other["paper"] == "81.45"
    tex = (out / "report.tex").read_text()
    assert tex.count(r"\begin{tabular}") == tex.count(r"\end{tabular}") == 4
    assert r"\textbf{" in tex


def test_nothing_hostile_and_no_secret_gets_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "f" * 40)
    folder = tmp_path / "a|b<img src=x> =cmd"
    config = config_of("ilm_qformer")
    write_run(folder, config, predictions_of(55.0, 0), protocol={"teacher": "llm api_key=topsecret99 \n| x |"})
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone" / "status.json").write_text(json.dumps({"state": "failed", "error": f"401 for {'f' * 40}"}))
    assert report.main([str(tmp_path), "--out", str(tmp_path / "out"), "--resamples", "200"]) == 0
    for path in (tmp_path / "out").iterdir():
        text = path.read_text()
        assert "f" * 40 not in text, path
        assert "topsecret99" not in text, path
    text = (tmp_path / "out" / "report.md").read_text()
    assert "<img" not in text
    assert "llm api_key=*** \\| x \\|" in text


def test_variants_are_read_off_the_real_experiments() -> None:
    from omegaconf import OmegaConf

    from ilm_lightning.reporting.runs import Run
    from ilm_lightning.reporting.variants import COMMANDS, variant_of

    for name, arguments in COMMANDS.items():
        config = yaml.safe_load(OmegaConf.to_yaml(composed_node(arguments.split())))
        run = Run("x", Path("x"), config, {"protocol": {}})
        assert variant_of(run).name == name, arguments


def test_the_report_needs_no_torch() -> None:
    modules = "ilm_lightning.reporting.document, ilm_lightning.reporting.claims_page"
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_conditions_are_those_of_the_evaluation() -> None:
    from ilm_lightning.evaluation import summary
    from ilm_lightning.reporting import controls

    assert controls.CONDITIONS == summary.CONDITIONS
    assert summary.BEST["best_control"] == controls.CONTROLS


def test_latex_and_csv_escape(found: Document) -> None:
    assert r"five pos char. &" in latex.write(found)
    assert set(csvs.write(found)) == {"tables.csv", "differences.csv", "figure3.csv"}
