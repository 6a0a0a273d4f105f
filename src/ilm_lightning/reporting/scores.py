"""A run's predictions as sums per movie and task, ready for paired tests."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ilm_lightning.data.files import UNREADABLE, first_line
from ilm_lightning.data.probe import check_parquet
from ilm_lightning.reporting.paper import TASK_ROWS
from ilm_lightning.reporting.runs import RunError

Floats = NDArray[np.float64]
SC, SECOND, THIRD = "sc", "second", "third"
ITEM, ITEM_SECOND, ITEM_THIRD = "item", "item_second", "item_third"
ITEM_OF = {SC: ITEM, SECOND: ITEM_SECOND, THIRD: ITEM_THIRD}
MEASURES = (SC, ITEM, SECOND, ITEM_SECOND, THIRD, ITEM_THIRD)
SECOND_SCORER = "sc_second"
INSTEAD = {SECOND: "rouge_l", THIRD: "slot_accuracy"}
"""Without a second scorer these stand in for it."""
TEXT = "generated"
_KEYS = ("example_id", "task", "movie", "condition", "target")


@dataclass(frozen=True, eq=False)
class Scores:
    """One run's scores.

    Attributes:
        movies: ``M`` ids, sorted.
        tasks: ``T`` names, sorted.
        counts: measure -> ``[M, T]`` number of examples; slot accuracy has none where a target names no fact.
        sums: measure -> ``[M, T]`` sum over the examples.
        fingerprint: hash of examples and targets.
        second_scorer: whether a second sentence encoder scored the texts.
        remarks: what is missing in the predictions.
        texts: condition -> hash of what was generated, of own vectors and of the blind control; empty without texts.
    """

    movies: tuple[Any, ...]
    tasks: tuple[str, ...]
    counts: Mapping[str, Floats]
    sums: Mapping[str, Floats]
    fingerprint: str
    second_scorer: bool
    remarks: tuple[str, ...]
    texts: Mapping[str, str]

    def task_means(self, measure: str) -> Floats:
        """Means ``[T]`` over examples; NaN for a task without any."""
        n = self.counts[measure].sum(0)
        means: Floats = np.divide(self.sums[measure].sum(0), n, out=np.full_like(n, np.nan), where=n > 0)
        return means

    def mean(self, measure: str) -> float:
        """Unweighted mean of task means."""
        return float(np.nanmean(self.task_means(measure)))


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
        check_parquet(path)
        schema = pl.read_parquet_schema(path)
        missing = [name for name in (*_KEYS, SC) if name not in schema]
        if missing:
            raise RunError(f"{path.name} lacks the columns {', '.join(missing)}; the training command writes it anew")
        seconds = {SECOND: SECOND_SCORER} if SECOND_SCORER in schema else INSTEAD
        names = {SC: SC} | {measure: name for measure, name in seconds.items() if name in schema}
        frame = (
            pl.scan_parquet(path)
            .filter(pl.col("condition").is_in(["own", "blind"]))
            .select(
                *_KEYS,
                *({TEXT} & set(schema)),
                *(pl.col(name).cast(pl.Float64).fill_nan(None) for name in names.values()),
            )
            .collect()
        )
    except UNREADABLE as error:
        raise RunError(f"{path.name} is damaged ({first_line(error)}); the training command writes it anew") from error
    own = frame.filter((pl.col("condition") == "own") & pl.col(SC).is_not_null()).sort("example_id")
    if own.is_empty():
        raise RunError(f"{path.name} holds no scored text of an own vector")
    return _scores(frame, own, names)


def _scores(frame: pl.DataFrame, own: pl.DataFrame, names: Mapping[str, str]) -> Scores:
    remarks = []
    printed = own.filter(pl.col("task").is_in(list(TASK_ROWS)))
    if 0 < printed.height < own.height:
        others = sorted(set(own["task"].to_list()) - set(TASK_ROWS))
        remarks.append(f"tasks that the paper's tables do not have are left out of them: {', '.join(others)}")
        own = printed
    # tasks that are not answered in prose have no semantic consistency at all
    missing = (pl.col("condition") == "own") & pl.col(SC).is_null() & pl.col("task").is_in(own["task"].unique())
    unscored = frame.filter(missing).height
    if unscored:
        remarks.append(f"{unscored} of {unscored + own.height} texts of own vectors have no score")
    if own["example_id"].n_unique() != own.height:
        remarks.append("some examples stand twice with their own vector; they are counted as they stand")
    movies, unit = np.unique(own["movie"].to_numpy(), return_inverse=True)
    tasks, column = np.unique(own["task"].to_numpy().astype(str), return_inverse=True)
    place = unit * len(tasks) + column

    def table(values: NDArray[Any], kept: NDArray[np.bool_]) -> Floats:
        flat = np.bincount(place[kept], values[kept], minlength=len(movies) * len(tasks))
        return flat.astype(np.float64).reshape(len(movies), len(tasks))

    measured = {measure: own[name].to_numpy() for measure, name in names.items()}
    blind = frame.filter((pl.col("condition") == "blind") & pl.col(SC).is_not_null())
    if blind.height:
        measured |= _item_specific(own, blind, names, remarks)
    known = {measure: np.isfinite(values) for measure, values in measured.items()}
    full = {measure: kept for measure, kept in known.items() if kept.any()}
    return Scores(
        movies=tuple(movies.tolist()),
        tasks=tuple(str(task) for task in tasks),
        counts={measure: table(np.ones(len(place)), kept) for measure, kept in full.items()},
        sums={measure: table(measured[measure], kept) for measure, kept in full.items()},
        fingerprint=_fingerprint(own),
        second_scorer=SECOND_SCORER in names.values(),
        remarks=tuple(remarks),
        texts={"own": _hash(own[TEXT]), "blind": _hash(blind.sort("example_id")[TEXT])} if TEXT in frame else {},
    )


def _item_specific(
    own: pl.DataFrame, blind: pl.DataFrame, names: Mapping[str, str], remarks: list[str]
) -> dict[str, NDArray[Any]]:
    """Own minus blind, example by example; NaN where one of both has no value."""
    means = blind.group_by("example_id").agg(pl.col(list(names.values())).mean())
    both = own.join(means, on="example_id", how="left", suffix="_blind", maintain_order="left")
    if both[f"{SC}_blind"].null_count():
        remarks.append("the blind control covers only a part of the examples: no item-specific SC")
        return {}
    return {ITEM_OF[measure]: (both[name] - both[f"{name}_blind"]).to_numpy() for measure, name in names.items()}


def _fingerprint(own: pl.DataFrame) -> str:
    """Runs are compared on the same examples with the same targets only."""
    return _hash((f"{key}\x1f{target}" for key, target in own.select("example_id", "target").iter_rows()), 4)


def _hash(texts: Iterable[object], size: int = 16) -> str:
    return hashlib.blake2b("\x1e".join(map(str, texts)).encode(), digest_size=size).hexdigest()
