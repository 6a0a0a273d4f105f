"""The user's own tasks within the stages."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from ilm_lightning.data.tables import ItemCatalog
from ilm_lightning.engine.artifacts import Artifact
from ilm_lightning.engine.config import Config

if TYPE_CHECKING:
    from ilm_lightning.tasks.elm.own import OwnTasks

log = logging.getLogger("ilm_lightning")


def own_tasks(config: Config) -> "OwnTasks | None":
    """Read the run's task file; None where it has none."""
    if config.tasks.file is None:
        return None
    from ilm_lightning.tasks.elm.own import read_own_tasks

    return read_own_tasks(Path(config.tasks.file))


def with_own_tasks(
    config: Config,
    embedded: Artifact,
    tables: tuple[ItemCatalog, np.ndarray[Any, Any]],
    made: tuple[pl.DataFrame, dict[str, Any]],
    own: "OwnTasks",
    labels: dict[str, np.ndarray[Any, Any]] | None,
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Add the user's tasks and phrasings to examples.

    Args:
        config: of the run.
        embedded: vectors, for nearest neighbours.
        tables: the items and their split.
        made: examples of the built-in tasks and their report.
        own: the user's.
        labels: per task its own split, under the ``paper`` rule.

    Returns:
        All examples, and the report of all tasks.
    """
    from ilm_lightning.tasks.elm import nearest_neighbours
    from ilm_lightning.tasks.elm.own_examples import own_examples, with_phrasings

    (catalog, split), (frame, report), names = tables, made, config.tasks.names
    neighbours = None
    if any(task.partner == "nearest" for task in own.tasks.values()):
        # brings torch, which preparing data does without
        from ilm_lightning.embeddings.vectors import ItemVectors

        space = ItemVectors.load(embedded.path).sources[config.tasks.neighbour_space]
        neighbours = nearest_neighbours(space, split, catalog.frame["group"].to_list())
    theirs, told = own_examples(own, catalog, split, neighbours, 0, names, labels)
    for task, count in told["examples"].items():
        reasons = ", ".join(f"{number} {reason}" for reason, number in told["left_out"][task].items())
        log.info("own task %s: %d examples%s", task, count, f"; left out: {reasons}" if reasons else "")
    merged: dict[str, Any] = {key: {**report.get(key, {}), **told[key]} for key in told}
    # stands beside every number: the file's targets are not the teacher's
    merged["teacher"] = f"{report['teacher']} and {own.path.name}" if theirs.height else report["teacher"]
    return pl.concat([with_phrasings(frame, own), theirs], how="diagonal_relaxed"), {**report, **merged}
