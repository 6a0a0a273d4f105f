"""The tasks of Figure 1 within the stages: judged ratings set apart, their examples, their own measures."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ilm_lightning.data.errors import LeakError
from ilm_lightning.data.tables import Interactions, ItemCatalog
from ilm_lightning.engine.artifacts import Artifact
from ilm_lightning.engine.config import Config
from ilm_lightning.engine.stages.context import Context

if TYPE_CHECKING:
    from ilm_lightning.embeddings.vectors import ItemVectors

JUDGED = "judged.parquet"
"""File of ``prepare`` with the ratings that no vector knows."""


def task_names(config: Config) -> tuple[list[str], list[str]]:
    """Tasks of ELM and tasks of Figure 1 that a run has, by default all of ``tasks.kind``."""
    from ilm_lightning.tasks.elm import TASKS
    from ilm_lightning.tasks.figure1 import FIGURE1_TASKS

    names = config.tasks.names or (FIGURE1_TASKS if config.tasks.kind == "figure1" else TASKS)
    return [name for name in names if name in TASKS], [name for name in names if name in FIGURE1_TASKS]


def judged_settings(config: Config) -> dict[str, Any] | None:
    """What decides which ratings are judged; None where no task is about users."""
    from ilm_lightning.tasks.figure1 import TIMED_TASKS, USER_TASKS, VALUE_TASKS

    names = [name for name in task_names(config)[1] if name in USER_TASKS]
    if not names:
        return None
    needs = {"ratings": [n for n in names if n in VALUE_TASKS], "times": [n for n in names if n in TIMED_TASKS]}
    return {"users": config.tasks.users, "needs": needs}


def without_judged(interactions: Interactions, settings: Mapping[str, Any], name: str) -> tuple[Interactions, Any]:
    """Set the judged ratings apart, so that no later stage finds them among the interactions.

    Returns:
        What remains, and the judged ratings.

    Raises:
        DataError: the data say too little for the tasks about users.
    """
    from ilm_lightning.data.judged import check_values, set_judged_apart

    for need, tasks in settings["needs"].items():
        if tasks:
            check_values(interactions, tasks, name, ratings=need == "ratings", times=need == "times")
    parts = set_judged_apart(interactions, settings["users"])
    return parts.history, parts.judged


def figure1_examples(
    context: Context,
    prepared: Artifact,
    tables: tuple[Interactions, ItemCatalog, NDArray[np.str_]],
    names: Sequence[str],
    labels: Mapping[str, NDArray[np.str_]] | None,
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Build the examples of tasks of Figure 1.

    Args:
        context: the run.
        prepared: tables, judged ratings and genome scores.
        tables: interactions, catalogue and split, as read from it.
        names: the tasks.
        labels: each item task's own split under ``data.split=paper``.

    Returns:
        As ``build_figure1``.
    """
    from ilm_lightning.data.splits import split_keys
    from ilm_lightning.engine.stages.data import read_genome
    from ilm_lightning.tasks.figure1 import GENOME_TAGS, USER_TASKS, Ratings, build_figure1

    config = context.config
    history, catalog, split = tables
    ratings = None
    if asked := [name for name in names if name in USER_TASKS]:
        judged = Interactions.read(prepared.path / JUDGED, checked=True)
        assert_judged_unseen(history, judged)
        users = {
            name: split_keys(
                (f"{name}:user {key}" if config.data.split == "paper" else f"user {key}" for key in history.user_ids),
                config.data.split_seed,
            )
            for name in asked
        }
        ratings = Ratings(history, judged, users)
    return build_figure1(
        catalog,
        split,
        names,
        labels=labels,
        genome=read_genome(prepared) if GENOME_TAGS in names else None,
        ratings=ratings,
        length=config.tasks.user_history,
        candidates=config.tasks.candidates,
    )


def assert_judged_unseen(history: Interactions, judged: Interactions) -> None:
    """Check that no judged rating is among the interactions that vectors and phase 1 read.

    Raises:
        LeakError: names one.
    """
    known = judged.frame.join(history.frame, on=["user", "item"], how="semi")
    if known.height:
        user, item = known.select("user", "item").row(0)
        raise LeakError(
            f"{known.height} judged ratings are among the interactions that vectors are made from, as that of item row "
            f"{item} by user {history.user_ids[user]!r}: set them apart with set_judged_apart"
        )


def slot_vectors(vectors: "ItemVectors", frame: pl.DataFrame) -> dict[str, Any]:
    """What the slots of some examples point to: items, and users behind them where an example is about one."""
    about_users = "user" in frame.columns and frame["user"].drop_nulls().len() > 0
    return vectors.slot_tensors() if about_users else vectors.tensors()


def shuffled_rows(vectors: "ItemVectors", frame: pl.DataFrame) -> Any:
    """Another item for each item and another user for each user, for prompts that cannot be borrowed.

    Of items that are asked about another one that is asked about, as where texts are borrowed.
    """
    import torch

    from ilm_lightning.evaluation.controls import derangements

    n_items = vectors.n_items
    items = derangements(n_items, 1)[0]
    asked = frame["items"].list.first().unique(maintain_order=True).to_numpy()
    items[asked] = asked[derangements(len(asked), 1)[0]]
    rows = [items]
    if frame["user"].drop_nulls().len():
        rows.append(n_items + derangements(len(next(iter(vectors.user_sources.values()))), 1)[0])
    return torch.from_numpy(np.concatenate(rows))


def answer_columns(
    model: Any, tokenizer: Any, examples: Sequence[Any], frame: pl.DataFrame, bank: Any, label: str
) -> dict[str, Any]:
    """Bits of each candidate answer, where examples have candidates."""
    places = [row for row, own in enumerate(frame["candidates"].to_list()) if own]
    if not places:
        return {}
    from ilm_lightning.lm.candidates import candidate_bits

    texts = [frame["candidates"][row].to_list() for row in places]
    answers = iter(tokenizer.target_ids([text for own in texts for text in own]))
    ids = [[next(answers) for _ in own] for own in texts]
    bits = candidate_bits(model, [examples[row] for row in places], ids, bank.collator, f"{label}: candidates", bank)
    column: list[list[float] | None] = [None] * len(frame)
    for row, own in zip(places, bits, strict=True):
        column[row] = own.tolist()
    return {"candidate_bits": pl.Series("candidate_bits", column, dtype=pl.List(pl.Float64))}
