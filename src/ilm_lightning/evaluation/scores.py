"""Scores of single predictions, as columns beside them: what ``summarise`` averages and compares."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ilm_lightning.evaluation.semantic import cosine_rows, rouge_l
from ilm_lightning.evaluation.slots import Facts, Mentions, text_slots

Floats = NDArray[np.float32]


class Scorer(Protocol):
    """What is needed of a scorer."""

    name: str

    def embed(self, texts: Sequence[str]) -> Floats:
        """Embed ``n`` texts to ``[n, d]`` of unit length."""

    def semantic_consistency(self, generated: Sequence[str], targets: Sequence[str]) -> NDArray[np.float64]:
        """Score ``n`` texts against their targets, times 100."""


def score(frame: pl.DataFrame, scorer: Scorer, second: Scorer | None = None) -> pl.DataFrame:
    """Score every prediction against its target.

    Args:
        frame: predictions with at least ``target`` and ``generated``.
        scorer: embeds texts.
        second: a second opinion, of another family.

    Returns:
        The frame with ``sc`` and ``rouge_l``, and with a second scorer ``sc_second``, all times 100; rows without a
        generated text (null) stay null.
    """
    texts = frame.filter(pl.col("generated").is_not_null())
    generated, targets = texts["generated"].to_list(), texts["target"].to_list()
    columns = {"sc": scorer.semantic_consistency(generated, targets), "rouge_l": rouge_l(generated, targets)}
    if second is not None:
        columns["sc_second"] = second.semantic_consistency(generated, targets)
    return _with(frame, columns)


def score_input(frame: pl.DataFrame, encoder: Scorer, vectors: Floats, known: NDArray[np.bool_]) -> pl.DataFrame:
    """Score every prediction against the semantic vector of its own item (ELM's semantic consistency).

    Args:
        frame: predictions with at least ``items`` (lists of catalogue rows) and ``generated``.
        encoder: the text encoder that the item vectors were made with.
        vectors: ``[I, d]`` semantic vectors in the encoder's own units; of several items the mean is taken.
        known: ``[I]``, items whose vector comes from their own text.

    Returns:
        The frame with ``sc_input``: cosine times 100; null without a generated text or items, and where an
        item has no text.
    """
    texts = frame.filter(pl.col("generated").is_not_null())
    items = texts["items"].to_list()
    own = np.zeros((len(items), vectors.shape[1]), dtype=np.float32)
    has_text = np.zeros(len(items), dtype=np.bool_)
    for place, rows in enumerate(items):
        if rows:
            own[place], has_text[place] = vectors[rows].mean(0), known[rows].all()
    cosines = 100.0 * cosine_rows(encoder.embed(texts["generated"].to_list()), own)
    return _with(frame, {"sc_input": np.where(has_text, cosines, np.nan)})


def score_slots(
    frame: pl.DataFrame, mentions: Mentions, truth: Mapping[str, Facts] | None = None, seen: Collection[str] = ()
) -> pl.DataFrame:
    """Score the facts of every prediction.

    Args:
        frame: predictions with at least ``example_id``, ``target`` and ``generated``.
        mentions: finds the facts that a text names.
        truth: per example id what is true of its items; None takes what the target names.
        seen: kinds of facts that the item's vector was made from.

    Returns:
        The frame with ``slot_accuracy`` (mean over the kinds of fact that the target names, times 100), ``slot_seen``
        and ``slot_unseen`` (over kinds that the encoder saw or did not see); null where nothing is asked for.
    """
    texts = frame.filter(pl.col("generated").is_not_null())
    facts = None if truth is None else [truth[key] for key in texts["example_id"].to_list()]
    slots = text_slots(texts["generated"].to_list(), texts["target"].to_list(), mentions, facts, seen)
    return _with(frame, {"slot_accuracy": slots.all, "slot_seen": slots.seen, "slot_unseen": slots.unseen})


def _with(frame: pl.DataFrame, columns: Mapping[str, NDArray[np.float64]]) -> pl.DataFrame:
    """Add columns that hold one value for each row with a generated text; not-a-number becomes null."""
    rows = frame.with_row_index("row").filter(pl.col("generated").is_not_null())["row"]
    scores = pl.DataFrame({"row": rows, **{name: np.asarray(values) for name, values in columns.items()}})
    scores = scores.with_columns(pl.col(name).cast(pl.Float64).fill_nan(None) for name in columns)
    plain = frame.drop(*columns, strict=False).with_row_index("row")
    return plain.join(scores, on="row", how="left", maintain_order="left").drop("row")
