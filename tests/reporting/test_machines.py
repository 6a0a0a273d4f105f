"""Runs of several machines: precision keeps rows apart, processors and commits are told."""

from pathlib import Path
from typing import Any

import pytest
from synthetic import config_of, predictions_of, write_run

from ilm_lightning.reporting.claims import go_through
from ilm_lightning.reporting.columns import Column, columns_of, unlike
from ilm_lightning.reporting.decide import Verdict
from ilm_lightning.reporting.document import build
from ilm_lightning.reporting.machines import precision_of
from ilm_lightning.reporting.overrides import shared_overrides
from ilm_lightning.reporting.phase1 import phase_1_settings
from ilm_lightning.reporting.runs import Problem, Run

INTEL, AMD = "Intel Xeon", "AMD EPYC"


def on(processor: str, bf16: bool | None = True, **more: Any) -> dict[str, Any]:
    """What a run tells of its making."""
    return {
        "hardware": {"processor": processor, "cores": 2, "gpus": [], "bf16": bf16, **more},
        "built_with": {"tune": ("1" if processor == INTEL else "2") * 40},
    }


def run_of(seed: int, facts: dict[str, Any], name: str = "", **settings: Any) -> Run:
    name = name or f"run-{seed}"
    config = config_of("ilm_qformer", seed=seed, **settings)
    return Run(name, Path(name), config, {"protocol": {"seed": seed}, "run": facts}, None)


def sorted_in(*runs: Run) -> tuple[list[Column], list[Problem]]:
    return columns_of(runs, {})


def test_what_auto_became_keeps_rows_apart() -> None:
    found, problems = sorted_in(run_of(0, on(AMD)), run_of(1, on(AMD)), run_of(2, on(INTEL, bf16=False)))
    assert [(c.apart, c.seeds) for c in found] == [("", (0, 1)), ("trainer.precision=32-true", (2,))]
    assert unlike(*found) == "trainer.precision bf16-mixed against 32-true"
    assert "trainer.precision=bf16-mixed; run-2: trainer.precision=32-true" in problems[0].what
    # of phase 1 too
    assert phase_1_settings(run_of(0, on(AMD))) != phase_1_settings(run_of(0, on(AMD, bf16=False)))


@pytest.mark.parametrize(
    ("facts", "settings", "precision"),
    [
        (on(AMD), {"trainer__precision": "32-true"}, "32-true"),
        (on(AMD, precision="32-true"), {}, "32-true"),
        (on(AMD, bf16=False, gpus=["H200"]), {}, "bf16-mixed"),
        (on(AMD, bf16=False, gpus=["H200"]), {"trainer__accelerator": "cpu"}, "32-true"),
        (on(AMD, bf16=None), {}, "auto"),
        ({"hardware": "damaged"}, {}, "auto"),
    ],
)
def test_precision_is_what_a_run_computed_in(facts: dict[str, Any], settings: dict[str, Any], precision: str) -> None:
    assert precision_of(run_of(0, facts, **settings)) == precision


def test_auto_and_what_it_became_are_one_setting() -> None:
    found, problems = sorted_in(run_of(0, on(AMD)), run_of(1, on(AMD), trainer__precision="bf16-mixed"))
    assert ([c.seeds for c in found], problems) == ([(0, 1)], [])


def test_the_number_of_threads_is_part_of_a_row() -> None:
    runs = [run_of(seed, on(AMD, threads=threads)) for seed, threads in enumerate((1, 1, 2))]
    found, problems = sorted_in(*runs)
    assert [(c.apart, c.seeds) for c in found] == [("", (0, 1)), ("trainer.threads=2", (2,))]
    assert unlike(*found) == "trainer.threads 1 against 2"
    assert "trainer.threads=1; run-2: trainer.threads=2" in problems[0].what
    # phase 1 alone, too
    assert [dict(phase_1_settings(run))["trainer.threads"] for run in runs] == ["1", "1", "2"]
    # a missing row is asked for with as many
    assert [shared_overrides(some) for some in (runs[:2], runs)] == [" trainer.threads=1", ""]


@pytest.mark.parametrize("facts", [{}, {"gpus": ["H200"]}], ids=["older", "on a GPU"])
def test_threads_that_are_not_told_or_do_not_matter_keep_nothing_apart(facts: dict[str, Any]) -> None:
    told = [{"threads": 2}, {"threads": 16}] if facts else [{}, {}]
    found, _ = sorted_in(*(run_of(seed, on(AMD, **facts, **more)) for seed, more in enumerate(told)))
    assert [c.seeds for c in found] == [(0, 1)]


def test_a_copy_under_another_seed_is_told(tmp_path: Path) -> None:
    for seed in range(3):
        frame = predictions_of(55.0, 0 if seed == 2 else seed, movies=12)
        # as where it was scored anew, which rounds differently
        frame = frame.with_columns(sc=frame["sc"] + 0.001 * seed)
        write_run(tmp_path / f"run-{seed}", config_of("ilm_qformer", seed=seed), frame)
    (problem,) = build([tmp_path], 200).problems
    assert problem == Problem(
        "run-0, run-2",
        "seeds 0 and 2 gave the very same texts, as if one were a copy of the other: run seed 2 anew or take it out; "
        "until then the spread over seeds is not known and no claim on this row is decided",
    )


def test_seeds_of_one_row_from_two_processors_are_told() -> None:
    found, (problem,) = sorted_in(run_of(0, on(INTEL)), run_of(1, on(AMD)), run_of(2, on(AMD)))
    assert [c.seeds for c in found] == [(0, 1, 2)]
    assert problem.where == "ILM-QFormer, combined"
    assert problem.what == (
        "seeds of one row from several processors, so that their spread is not that of seeds alone: "
        "AMD EPYC: ILM-QFormer (seeds 1, 2); Intel Xeon: ILM-QFormer (seed 0)"
    )


def test_of_two_runs_with_one_seed_machines_and_commits_are_told() -> None:
    runs = (run_of(0, on(INTEL), "a"), run_of(0, on(AMD), "b"), run_of(1, on(AMD)), run_of(2, on(AMD)))
    (found,), (problem,) = sorted_in(*runs)
    # that of the row's other seeds, whatever its name
    assert found.runs[0].name == "b"
    assert problem == Problem(
        "a",
        "the same settings and seed as b; left out (this one: Intel Xeon, 2 cores, commit 111111111111; the one that "
        "counts: AMD EPYC, 2 cores, commit 222222222222)",
    )
    _, (same,) = sorted_in(run_of(0, on(AMD), "a"), run_of(0, on(AMD), "b"))
    assert same.what == "the same settings and seed as a; left out (both: AMD EPYC, 2 cores, commit 222222222222)"


def test_a_claim_across_processors_says_so(tmp_path: Path) -> None:
    for experiment, level in (("ilm_qformer", 55.0), ("ilm_mlp", 50.0)):
        for seed in range(3):
            frame = predictions_of(level, seed, movies=30, seed_noise=0.05, noise=1.0)
            facts = on(INTEL if (experiment, seed) == ("ilm_qformer", 0) else AMD)
            write_run(tmp_path / f"{experiment}-{seed}", config_of(experiment, seed=seed), frame, run=facts)
    document = build([tmp_path], 400)
    part = go_through(document.main)[1].parts["SC"][0]
    told = "AMD EPYC: {}ILM-QFormer{} (seeds 1, 2){}; Intel Xeon: ILM-QFormer{} (seed 0)"
    row = " (combined)"
    assert part.verdict == Verdict.CONFIRMED
    assert part.text == (
        "ILM-QFormer (combined) above ILM-MLP (combined); on several processors: "
        + told.format("", row, f", ILM-MLP{row}", row)
    )
    beside = "processors differ, and one seed gives other numbers on another: " + told.format("ILM-MLP, ", "", "", "")
    assert beside in next(table for table in document.sections[0].tables["sc"] if table.number == "3").notes
