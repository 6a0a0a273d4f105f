"""The item head in the stages of recommendation: its batches, its training, its rankings."""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ilm_lightning.engine.config import Config
from ilm_lightning.engine.stages.context import Context
from ilm_lightning.ranks import rank, world_size
from ilm_lightning.tasks.openp5 import Example

if TYPE_CHECKING:
    from torch import Tensor

    from ilm_lightning.engine.stages.recommend import Bench
    from ilm_lightning.lm import ItemLanguageModel
    from ilm_lightning.lm.item_head import RankBatch
    from ilm_lightning.lm.recommendation import Renderer
    from ilm_lightning.lm.shared import SharedCollator

Ints = NDArray[np.int64]
log = logging.getLogger("ilm_lightning")


def head_settings(config: Config) -> dict[str, Any]:
    """What phase 2's artefact is known by beside the other settings; empty for text."""
    return {"head": "item", "head_sample": config.tasks.head_sample} if config.tasks.head == "item" else {}


def rank_batch(bench: "Bench", examples: Sequence[Example], shared: bool = False) -> "RankBatch":
    """Collate prompts without answers, and the items that are the answers.

    Args:
        bench: data and prompts.
        examples: of a batch of all processes, or of this one alone.
        shared: take this process's part; where there are too few, one example is read and does not count.

    Returns:
        The batch.
    """
    from ilm_lightning.lm.item_head import RankBatch

    mine = examples[rank() :: world_size()] if shared else examples
    counted, examples = len(mine), mine or examples[:1]
    prompts = bench.collator.prompts([bench.renderer(example, with_target=False) for example in examples])
    return RankBatch(prompts, target_rows(bench, examples), counted)


def shared_rank_batch(
    bench: "Bench", renderer: "Renderer", collate: "SharedCollator", groups: Sequence[Sequence[Example]]
) -> "RankBatch":
    """Collate this process's part of prompts that share what they begin with.

    Args:
        bench: data.
        renderer: of training, whose windows may be others than those of validation.
        collate: lays prompts out.
        groups: of a batch of all processes.
    """
    from ilm_lightning.lm.item_head import RankBatch
    from ilm_lightning.lm.shared import own_part

    mine = own_part(groups)
    counted, mine = sum(map(len, mine)), mine or [[groups[0][0]]]
    prompts = collate.prompts([[renderer(example, with_target=False) for example in group] for group in mine])
    return RankBatch(prompts, target_rows(bench, [example for group in mine for example in group]), counted)


def target_rows(bench: "Bench", examples: Sequence[Example]) -> "Tensor":
    """Catalogue rows of the examples' targets, int64."""
    import torch

    rows = [int(bench.sequences.items(example.user)[example.position]) for example in examples]
    return torch.tensor(rows, dtype=torch.long)


def step_flops(model: "ItemLanguageModel", config: Config, n_items: int) -> float:
    """Operations a step of the items' side of the softmax, which is also said on the screen."""
    drawn = config.tasks.head_sample if 0 < config.tasks.head_sample < n_items else 0
    sort = f"of {drawn:,} items drawn each step" if drawn else f"of all {n_items:,} items, exact"
    log.info("%-9s item head: softmax %s; an item is the mean of its %d soft tokens", "tune", sort, model.num_queries)
    weights = sum(parameter.numel() for parameter in model.adapter.parameters())
    # forward, twice that backward, and forward once more where chunks are computed again
    return 8.0 * (drawn or n_items) * model.num_queries * weights


def rank_all(
    context: Context, bench: "Bench", model: "ItemLanguageModel", examples: Sequence[Example], targets: Ints, label: str
) -> tuple[Ints, Ints]:
    """Rank the whole catalogue for every example.

    Args:
        context: the run.
        bench: data and prompts.
        model: with an item head.
        examples: one a user.
        targets: ``[U]`` catalogue rows.
        label: what the progress bar says.

    Returns:
        ``[U, top_k]`` the best catalogue rows, -1 where fewer may be recommended, and ``[U]`` the place of each target
        among all items, from 1, or 0 where it may not be recommended; equal scores go by catalogue row.
    """
    from ilm_lightning.evaluation.ranking import ranks_of_scores, top_items
    from ilm_lightning.lm.item_head import catalogue_scores

    settings = context.config.evaluation
    seen = bench.sequences.seen(settings.split)[[e.user for e in examples]] if settings.filter_seen else None
    rows = [bench.renderer(example, with_target=False) for example in examples]
    lists = np.empty((len(examples), settings.top_k), dtype=np.int64)
    ranks = np.empty(len(examples), dtype=np.int64)
    size = max(1, settings.batch_size // 3)
    for places, scores in catalogue_scores(model, rows, bench.collator, bench.sequences.n_items, size, label):
        hidden = None if seen is None else seen[places]
        ranks[places] = ranks_of_scores(scores, targets[places], hidden)
        lists[places] = top_items(scores, settings.top_k, hidden)
    return lists, ranks
