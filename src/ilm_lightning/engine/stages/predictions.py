"""Rows of the controls that need no model: other movies' texts, one constant text, copies of training targets."""

from typing import Any

import numpy as np
import polars as pl

from ilm_lightning.embeddings.vectors import ItemVectors
from ilm_lightning.engine.config import EvaluationConfig

DROPPED = ("loss", "bits")
"""Measures of the own vector that a borrowed text does not have."""


def shuffled(own: pl.DataFrame, catalog: Any, config: EvaluationConfig) -> list[pl.DataFrame]:
    """Texts from other movies' vectors, scored against the movie's own target.

    All examples of a task share one prompt, so the text that a shuffled vector gives is the other movie's own text.

    Args:
        own: rows of condition ``own``.
        catalog: the items, for genre and decade.
        config: which conditions, how many derangements.

    Returns:
        One table per condition and derangement.
    """
    from ilm_lightning.evaluation.controls import derangements, hard_derangement

    tables: list[pl.DataFrame] = []
    for (_,), part in own.group_by("task", maintain_order=True):
        if len(part) < 2:
            continue
        if "shuffled" in config.conditions:
            for order in derangements(len(part), config.derangements, seed=0):
                tables.append(_borrowed(part, np.asarray(order), "shuffled"))
        # users have no genre and decade
        if "hard_shuffled" in config.conditions and part["movie"].min() >= 0:  # type: ignore[operator]
            groups = [_group(catalog[movie]) for movie in part["movie"].to_list()]
            found = hard_derangement(groups, seed=0)
            borrowed = _borrowed(part, np.asarray(found.partner), "hard_shuffled")
            tables.append(borrowed.with_columns(pl.Series("hard", found.hard.tolist())))
    return tables


def _borrowed(part: pl.DataFrame, order: np.ndarray[Any, Any], condition: str) -> pl.DataFrame:
    texts = part["generated"].to_list()
    return part.drop(*DROPPED, strict=False).with_columns(
        pl.Series("generated", [texts[i] for i in order]), pl.lit(condition).alias("condition")
    )


def _group(item: Any) -> tuple[str, int]:
    genre = item.genres[0] if item.genres else "none"
    return genre, (item.year or 0) // 10 * 10


def constant(own: pl.DataFrame, constants: dict[str, str]) -> pl.DataFrame:
    """The same text for every movie of a task."""
    return own.drop(*DROPPED, "cut_off", strict=False).with_columns(
        pl.col("task").replace_strict(constants).alias("generated"), pl.lit("constant").alias("condition")
    )


def knn_copied(own: pl.DataFrame, train: pl.DataFrame, vectors: ItemVectors) -> pl.DataFrame:
    """The target of the nearest training movie of the same task, by the variant's own vectors.

    Args:
        own: rows of condition ``own``.
        train: training examples, as ``training_examples`` let them through.
        vectors: the encoder's item vectors.

    Returns:
        Rows of condition ``knn_copy``; a pair is represented by its first movie.
    """
    from ilm_lightning.evaluation.controls import knn_copy

    texts = []
    keyed = train.with_columns(movie=pl.col("items").list.first())
    by_task = {str(task): part for (task,), part in keyed.group_by("task", maintain_order=True)}
    rows: list[tuple[str, str]] = []
    for (task,), part in own.group_by("task", maintain_order=True):
        candidates = by_task[str(task)]
        known, wanted = candidates["movie"].to_numpy(), part["movie"].to_numpy()
        nearest = knn_copy(
            {name: table[known] for name, table in vectors.sources.items()},
            {name: table[wanted] for name, table in vectors.sources.items()},
        )
        texts = candidates["target"].to_list()
        rows += [(key, texts[i]) for key, i in zip(part["example_id"].to_list(), nearest, strict=True)]
    copied = pl.DataFrame(rows, schema={"example_id": pl.String, "generated": pl.String}, orient="row")
    return (
        own.drop(*DROPPED, "generated", "cut_off", strict=False)
        .join(copied, on="example_id")
        .with_columns(pl.lit("knn_copy").alias("condition"))
    )
