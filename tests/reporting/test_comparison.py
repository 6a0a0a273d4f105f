"""What a comparison says of single tasks."""

import csv
import io
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from synthetic import config_of, predictions_of, write_run

from ilm_lightning.evaluation.components import components
from ilm_lightning.evaluation.resampling import SharedDraws
from ilm_lightning.reporting import csvs
from ilm_lightning.reporting.comparison import Comparison
from ilm_lightning.reporting.document import Document, build
from ilm_lightning.reporting.tables import Table

N_RUNS, N_MOVIES, N_TASKS = 3, 40, 24
COUNTS = np.ones((N_MOVIES, N_TASKS))
DRAWS = SharedDraws(COUNTS, [f"t{place:02d}" for place in range(N_TASKS)], 1000)


def compared(sums: np.ndarray) -> Comparison:
    return Comparison((0, 1, 2), *DRAWS.difference(sums), components(sums, COUNTS))


def spread(rng: np.random.Generator) -> np.ndarray:
    """No difference: each training has a level of its own in each task, each movie and text too."""
    shape = (N_RUNS, N_MOVIES, N_TASKS)
    level = rng.normal(0, 1.5, (N_RUNS, 1, N_TASKS))
    return level + rng.normal(0, 2, (1, N_MOVIES, N_TASKS)) + rng.normal(0, 4, shape)


@pytest.mark.parametrize("others", [0.0, 6.0], ids=["nothing is there", "the other tasks differ"])
def test_trainings_that_differ_by_task_make_no_task_stand_apart(others: float) -> None:
    rng = np.random.default_rng(0)
    gains = np.repeat([0.0, others], N_TASKS // 2)
    found = [compared(gains + spread(rng)) for _ in range(40)]
    wrong = [any(not one.task_noise(task) for task in DRAWS.tasks[: N_TASKS // 2]) for one in found]
    assert np.mean([one.noise for one in found]) == pytest.approx(1.0 if others == 0 else 0.0, abs=0.1)
    assert np.mean(wrong) <= 0.05


def test_tasks_that_differ_in_every_training_stand_apart() -> None:
    gains = np.zeros(N_TASKS)
    gains[:12] = 8.0
    gains[12] = -8.0
    rng = np.random.default_rng(1)
    found = compared(gains + 0.2 * spread(rng))
    assert (found.significant(1), found.significant(-1)) == (12, 1)
    assert found.task_p["t00"] < 0.05 <= found.task_p["t20"]


def test_no_task_is_read_where_their_mean_may_be_noise() -> None:
    gains = np.tile([8.0, -8.0], N_TASKS // 2)
    found = compared(gains + 0.2 * spread(np.random.default_rng(1)))
    assert max(found.task_p.values()) < 0.05
    assert found.noise
    assert (found.significant(1), found.significant(-1)) == (0, 0)


def test_the_pages_tables_and_files_say_the_same_of_a_task(tmp_path: Path) -> None:
    def up_and_down(frame: pl.DataFrame) -> pl.DataFrame:
        own, places = pl.col("condition") == "own", pl.col("task").rank("dense").cast(pl.Int64)
        return frame.with_columns(sc=pl.col("sc") + pl.when(own).then(10.0 * (2 * (places % 2) - 1)).otherwise(0.0))

    for seed in range(3):
        write_run(tmp_path / f"a{seed}", config_of("ilm_qformer", seed=seed), up_and_down(predictions_of(50.0, seed)))
        write_run(tmp_path / f"b{seed}", config_of("ilm_mlp", seed=seed), predictions_of(50.0, seed))
    document = build([tmp_path], 500)
    (pair,) = table_of(document).pairs
    assert (pair.found.noise, pair.found.significant(1), pair.found.significant(-1)) == (True, 0, 0)
    assert all(cell.noise for _, cells in table_of(document).rows for cell in cells if cell.rank == 1)
    rows = list(csv.DictReader(io.StringIO(csvs.write(document)["differences.csv"])))
    assert {row["noise"] for row in rows if row["measure"].startswith("SC")} == {"True"}


def table_of(document: Document) -> Table:
    return next(made for made in document.sections[0].tables["sc"] if made.number == "3")
