"""A run's predictions as sums per movie and task, ready for paired tests."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ilm_lightning.reporting.runs import RunError

Floats = NDArray[np.float64]
SC, ITEM, SECOND, ITEM_SECOND = "sc", "item", "second", "item_second"
MEASURES = (SC, ITEM, SECOND, ITEM_SECOND)
SECOND_COLUMNS = ("sc_second", "sc2", "rouge_l")
"""Where the second scorer's values stand, the first that is there."""
SECOND_NAMES = {"rouge_l": "ROUGE-L"}
_KEYS = ("example_id", "task", "movie", "condition", "target")


@dataclass(frozen=True, eq=False)
class Scores:
    """One run's scores.

    Attributes:
        movies: ``M`` ids, sorted.
        tasks: ``T`` names, sorted.
        counts: ``[M, T]`` number of examples.
        sums: measure -> ``[M, T]`` sum over the examples.
        fingerprint: hash of examples and targets.
        second: name of the second scorer, None where there is none.
        remarks: what is missing in the predictions.
    """

    movies: tuple[Any, ...]
    tasks: tuple[str, ...]
    counts: Floats
    sums: Mapping[str, Floats]
    fingerprint: str
    second: str | None
    remarks: tuple[str, ...]

    def task_means(self, measure: str) -> Floats:
        """Means ``[T]`` over examples."""
        means: Floats = self.sums[measure].sum(0) / self.counts.sum(0)
        return means

    def mean(self, measure: str) -> float:
        """Unweighted mean of task means."""
        return float(self.task_means(measure).mean())


def read_scores(path: Path) -> Scores:
    """Read what the report needs of a run's predictions; other columns stay on disk.

    Args:
        path: ``predictions.parquet``.

    Returns:
        Scores of the own vector, and own minus blind where the blind control was run.

    Raises:
        RunError: the file is damaged or holds no scored text of an own vector.
    """
    try:
        schema = pl.read_parquet_schema(path)
        missing = [name for name in (*_KEYS, SC) if name not in schema]
        if missing:
            raise RunError(f"{path.name} lacks the columns {', '.join(missing)}; the training command writes it anew")
        second = next((name for name in SECOND_COLUMNS if name in schema), None)
        values = [SC, second] if second else [SC]
        frame = (
            pl.scan_parquet(path)
            .filter(pl.col("condition").is_in(["own", "blind"]))
            .select(*_KEYS, *(pl.col(name).cast(pl.Float64).fill_nan(None) for name in values))
            .collect()
        )
    except (pl.exceptions.PolarsError, OSError) as error:
        raise RunError(f"{path.name} is damaged ({error}); the training command writes it anew") from error
    own = frame.filter((pl.col("condition") == "own") & pl.col(SC).is_not_null()).sort("example_id")
    if own.is_empty():
        raise RunError(f"{path.name} holds no scored text of an own vector")
    return _scores(frame, own, second)


def _scores(frame: pl.DataFrame, own: pl.DataFrame, second: str | None) -> Scores:
    remarks = []
    unscored = frame.filter((pl.col("condition") == "own") & pl.col(SC).is_null()).height
    if unscored:
        remarks.append(f"{unscored} of {unscored + own.height} texts of own vectors have no score")
    if own["example_id"].n_unique() != own.height:
        remarks.append("some examples stand twice with their own vector; they are counted as they stand")
    movies, unit = np.unique(own["movie"].to_numpy(), return_inverse=True)
    tasks, column = np.unique(own["task"].to_numpy().astype(str), return_inverse=True)
    shape = (len(movies), len(tasks))
    place = unit * len(tasks) + column

    def table(values: NDArray[Any] | None) -> Floats:
        return np.bincount(place, values, minlength=shape[0] * shape[1]).astype(np.float64).reshape(shape)

    names = {SC: SC} | ({SECOND: second} if second and own[second].null_count() == 0 else {})
    sums = {measure: table(own[name].to_numpy()) for measure, name in names.items()}
    blind = frame.filter((pl.col("condition") == "blind") & pl.col(SC).is_not_null())
    if blind.height:
        sums |= _item_specific(own, blind, names, table, remarks)
    return Scores(
        movies=tuple(movies.tolist()),
        tasks=tuple(str(task) for task in tasks),
        counts=table(None),
        sums=sums,
        fingerprint=_fingerprint(own),
        second=SECOND_NAMES.get(second, second) if second and SECOND in names else None,
        remarks=tuple(remarks),
    )


def _item_specific(
    own: pl.DataFrame, blind: pl.DataFrame, names: Mapping[str, str], table: Any, remarks: list[str]
) -> dict[str, Floats]:
    """Own minus blind, example by example."""
    columns = [name for name in names.values() if blind[name].null_count() == 0]
    means = blind.group_by("example_id").agg(pl.col(columns).mean())
    both = own.join(means, on="example_id", how="left", suffix="_blind", maintain_order="left")
    if both[f"{SC}_blind"].null_count():
        remarks.append("the blind control covers only a part of the examples: no item-specific SC")
        return {}
    found = {ITEM: SC, ITEM_SECOND: names.get(SECOND, "")}
    return {
        measure: table((both[name] - both[f"{name}_blind"]).to_numpy())
        for measure, name in found.items()
        if name in columns
    }


def _fingerprint(own: pl.DataFrame) -> str:
    """Runs are compared on the same examples with the same targets only."""
    text = "\x1e".join(f"{key}\x1f{target}" for key, target in own.select("example_id", "target").iter_rows())
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
