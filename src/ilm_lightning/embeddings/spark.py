"""Behavioral vectors by Spark's ALS (``pyspark.ml.recommendation``), for interactions beyond one machine."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from ilm_lightning.data.tables import Interactions
from ilm_lightning.embeddings.behavioral import ALPHA, REGULARIZATION
from ilm_lightning.embeddings.vectors import Floats
from ilm_lightning.hardware import missing_for_spark

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

log = logging.getLogger(__name__)


def fit_spark(
    interactions: Interactions,
    factors: int = 64,
    regularization: float = REGULARIZATION,
    alpha: float = ALPHA,
    iterations: int = 15,
    seed: int = 0,
    num_threads: int = 0,
    *,
    folder: Path,
    master: str = "",
) -> tuple[Floats, Floats]:
    """Factorise who rated what with Spark.

    The objective is that of ``fit_als`` but for its penalty: Spark multiplies a row's by the number of its
    interactions. ``regularization`` is the mean over all rows here and there.

    Args:
        interactions: who rated what; the ratings' values are not used.
        factors: width ``k``.
        regularization: mean weight of the squared norms.
        alpha: confidence of an interaction relative to a missing one, at least 1.
        iterations: sweeps over users and items.
        seed: of the random start.
        num_threads: of Spark on this machine; 0 takes all cores.
        folder: for tables that pass to Spark and its checkpoints; a cluster's machines must all see it.
        master: address of a cluster, as ``spark://HOST:7077`` or ``yarn``; empty: this machine.

    Returns:
        Item factors ``[I, k]`` and user factors ``[U, k]``, float32; zero for an item or user without interactions.

    Raises:
        ValueError: Spark cannot run here, or there are no interactions.
    """
    rows = interactions.frame.height
    _check(rows, alpha)
    from pyspark.ml.recommendation import ALS

    n_users, n_items = interactions.n_users, interactions.n_items
    folder.mkdir(parents=True, exist_ok=True)
    pairs = interactions.frame.select(pl.col("user", "item").cast(pl.Int32), rating=pl.lit(1.0, pl.Float32))
    pairs.write_parquet(folder / "pairs.parquet")
    # as many rows as users and items with interactions share twice the number of interactions
    present = interactions.frame["user"].n_unique() + interactions.frame["item"].n_unique()
    with _session(master or f"local[{num_threads or '*'}]", folder) as spark:
        model = ALS(
            rank=factors,
            maxIter=iterations,
            regParam=regularization * present / (2 * rows),
            implicitPrefs=True,
            # Spark counts from 1
            alpha=alpha - 1.0,
            userCol="user",
            itemCol="item",
            ratingCol="rating",
            seed=seed,
        ).fit(spark.read.parquet(str(folder / "pairs.parquet")))
        items, users = _rows(model.itemFactors, n_items, factors), _rows(model.userFactors, n_users, factors)
    log.info("ALS (Spark): %d users, %d items, %d interactions, %d factors", n_users, n_items, rows, factors)
    return items, users


def _check(interactions: int, alpha: float) -> None:
    if lacking := missing_for_spark():
        raise ValueError(f"ALS by Spark needs {lacking}")
    if alpha < 1:
        raise ValueError(f"alpha={alpha:g}: Spark takes no confidence below that of a missing interaction, 1")
    if interactions == 0:
        raise ValueError(
            "no interactions: behavioral vectors need ratings; choose encoder=semantic for data without any"
        )


@contextmanager
def _session(master: str, folder: Path) -> "Iterator[SparkSession]":
    from pyspark.sql import SparkSession

    builder: Any = SparkSession.builder
    spark = builder.master(master).appName("ilm_lightning ALS").config("spark.ui.enabled", "false").getOrCreate()
    try:
        spark.sparkContext.setLogLevel("ERROR")
        # cuts the lineage, which would else grow with every sweep
        spark.sparkContext.setCheckpointDir(str(folder / "spark"))
        yield spark
    finally:
        spark.stop()


def _rows(table: "DataFrame", count: int, width: int) -> Floats:
    """Factors in the rows of their ids; zero where Spark knows none."""
    found = np.zeros((count, width), dtype=np.float32)
    for row in table.toLocalIterator():
        found[row["id"]] = row["features"]
    return found
