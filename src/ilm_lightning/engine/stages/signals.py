"""What phase 2 may learn from beside the targets: a teacher that reads texts (CD), weights of target tokens (RW)."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from ilm_lightning.engine.artifacts import Artifact
from ilm_lightning.engine.stages.context import Context

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ilm_lightning.data.tables import ItemCatalog
    from ilm_lightning.lm import ContextTeacher, LengthGroupedSampler, PromptTokenizer, TokenisedExample

RESIDUALS = "residuals.parquet"
"""Columns ``example_id`` and ``losses``: the blind model's loss on each target token, in nats."""


def rows_read(sampler: "LengthGroupedSampler", steps: int) -> list[int]:
    """Rows of the training examples that so many steps read, ascending: nothing need be made for the others."""
    return sorted({row for step in range(steps) for row in sampler.batch_at(step)})


def with_residual_weights(
    examples: "Sequence[TokenisedExample]", read: Sequence[int], residuals: Artifact, clip: Sequence[float]
) -> "list[TokenisedExample]":
    """Give the examples that training reads the weights of their target tokens.

    Args:
        examples: all training examples.
        read: rows of those that are read.
        residuals: the blind model's losses on them.
        clip: lowest and highest loss that counts.

    Returns:
        The same examples; those that are not read have no weights.
    """
    from ilm_lightning.lm import residual_weights

    table = pl.read_parquet(residuals.path / RESIDUALS)
    losses = [np.asarray(row, np.float32) for row in table["losses"].to_list()]
    weights = dict(zip(table["example_id"].to_list(), residual_weights(losses, *clip), strict=True))
    assert len(weights) == len(table), "example ids must be unique"
    weighted = list(examples)
    for row in read:
        found = weights[examples[row].example_id]
        assert len(found) == len(examples[row].target_ids)
        weighted[row] = replace(examples[row], token_weights=found)
    return weighted


def context_prompts(
    context: Context, frame: pl.DataFrame, read: Sequence[int], catalog: "ItemCatalog", tokenizer: "PromptTokenizer"
) -> "dict[str, NDArray[np.int32]]":
    """Tokenise the prompts that the teacher of context distillation reads: texts instead of soft tokens.

    Args:
        context: the run.
        frame: training examples.
        read: rows of those that training reads.
        catalog: the items.
        tokenizer: of the student's prompts.

    Returns:
        Ids by example id; examples with an item without text are left out.

    Raises:
        ValueError: none of the examples has texts.
    """
    from ilm_lightning.lm import context_prompt

    part = frame[list(read)]
    # rows behind the catalogue are users, who have no text
    items = {row for slots in part["slots"].to_list() for slot in slots for row in slot if row < len(catalog)}
    limit = context.config.tuning.distillation_tokens
    texts = {row: shortened(tokenizer.tokenizer, catalog.item_text(row), limit) for row in sorted(items)}
    rows: list[dict[str, Any]] = []
    for row in part.iter_rows(named=True):
        prompt = context_prompt(row["prompt"], row["slots"], texts) if row["slots"] else None
        if prompt is not None:
            rows.append({"example_id": row["example_id"], "prompt": prompt, "slots": []})
    if not rows:
        raise ValueError(
            "tuning.distillation_weight: no training item has a text (title, genres, tags or description) for the "
            "teacher to read; give data.items such columns, or set tuning.distillation_weight=0"
        )
    return {example.example_id: example.prompt_ids for example in tokenizer.encode(rows)}


def shortened(tokenizer: Any, text: str | None, limit: int) -> str | None:
    """Cut a text to at most ``limit`` tokens."""
    if text is None:
        return None
    ids = tokenizer(text, add_special_tokens=False).input_ids
    return text if len(ids) <= limit else str(tokenizer.decode(ids[:limit])).strip()


def context_teacher(context: Context, updates: Path | None) -> "ContextTeacher | None":
    """The teacher of context distillation where it is asked for; with full tuning it needs a model of its own.

    Args:
        context: the run.
        updates: what became part of the student's language model before phase 2, and of the teacher's likewise.
    """
    from ilm_lightning.lm import ContextTeacher, load_backbone

    tuning = context.config.tuning
    if not tuning.distillation_weight:
        return None
    if tuning.mode != "full":
        return ContextTeacher(tuning.distillation_weight)
    folder = context.asset(context.config.lm.name).path
    return ContextTeacher(
        tuning.distillation_weight, load_backbone(folder, "frozen", context.lm_dtype, updates=updates).lm
    )
