"""The words before a batch's first soft token: behind a frozen language model nothing in them is learned.

Their keys and values are computed once without a graph, and the rest of the batch reads them: a forward pass as before,
but no backward pass through these words.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ilm_lightning.lm.attention import GROUPED
from ilm_lightning.lm.backbone import Tuning, causal_lm
from ilm_lightning.lm.batch import PLACEHOLDER_ID, PromptBatch
from ilm_lightning.lm.checkpointing import checkpoints_activations

if TYPE_CHECKING:
    from ilm_lightning.lm.model import ItemLanguageModel

LEAST = 12
"""Words from which a pass of their own pays: it reads all weights once more. OpenP5's prompts begin with 14 and more,
those of the language tasks with about 7."""


def lead(model: "ItemLanguageModel", batch: PromptBatch, places: Tensor) -> int:
    """Count the leading columns in which no row holds a soft token and none is asked for its hidden state.

    Args:
        model: the model.
        batch: prompts padded on the right.
        places: ``[n]``; what is asked for, as ``row * T + column``.

    Returns:
        The count; 0 where reading them apart gains nothing or is not known to: with a trained language model, without
        a graph, on a GPU, and with activation checkpointing.
    """
    alone = model.tuning is Tuning.FROZEN and model.attention == GROUPED and torch.is_grad_enabled()
    # trees have no common columns, and layers that are computed again must not write to a cache
    if not alone or type(batch) is not PromptBatch or not len(places) or checkpoints_activations(model.lm):
        return 0
    width = batch.input_ids.shape[1]
    soft = (batch.input_ids == PLACEHOLDER_ID).any(0).nonzero()
    first = min(int(soft[0]) if len(soft) else width, int((places % width).min()))
    return first if first >= LEAST else 0


def hidden_after(model: "ItemLanguageModel", embeddings: Tensor, mask: Tensor, first: int) -> Tensor:
    """Return the hidden states of all tokens from column ``first`` on ``[B, T - first, d]``.

    Args:
        model: the model; call within its ``lm_precision``.
        embeddings: ``[B, T, d]``.
        mask: ``[B, T]``.
        first: the columns before are read without a graph.
    """
    from transformers.cache_utils import DynamicCache

    cache = DynamicCache(config=causal_lm(model.lm).get_decoder().config)
    with torch.no_grad():
        model.run_lm(embeddings[:, :first], mask[:, :first], cache=cache)
    hidden: Tensor = model.run_lm(embeddings[:, first:], mask, cache=cache).last_hidden_state
    return hidden
