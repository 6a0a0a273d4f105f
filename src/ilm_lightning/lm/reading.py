"""The beginning of every answer: what the language model reads first, and the cache in which reading goes on."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PretrainedConfig
from transformers.cache_utils import Cache, DynamicCache

from ilm_lightning.lm.backbone import causal_lm
from ilm_lightning.lm.batch import PromptBatch
from ilm_lightning.lm.model import ItemLanguageModel
from ilm_lightning.lm.seq2seq import ReadPrompts, encode, is_encoder_decoder, start_id

CacheMaker = Callable[[PretrainedConfig], Cache]


@dataclass(frozen=True)
class Beginning:
    """What ``ItemLanguageModel.run_lm`` takes first; its last hidden state predicts the answer's first token.

    Attributes:
        embeddings: ``[B, T, d]``: the prompt; where an encoder has read it, the token that answers begin after.
        mask: ``[B, T]``.
        cache: empty, or with what the encoder made of the prompts.
    """

    embeddings: Tensor
    mask: Tensor
    cache: Cache

    @property
    def positions(self) -> Tensor:
        """``[B, T]``, counted without padding."""
        return (self.mask.cumsum(1) - 1).clamp_min(0)


def plain_cache(config: PretrainedConfig) -> Cache:
    """Make transformers' own growing cache."""
    return DynamicCache(config=config)


def begin(
    model: ItemLanguageModel, batch: PromptBatch, soft: Tensor | None = None, make_cache: CacheMaker = plain_cache
) -> Beginning:
    """Prepare the reading of prompts; an encoder runs here, once.

    Args:
        model: the model; call within its ``lm_precision``.
        batch: prompts padded on the left.
        soft: soft tokens of the batch's distinct slots ``[u, q, d]``; computed if None.
        make_cache: makes the empty cache.

    Returns:
        The beginning.
    """
    lm = causal_lm(model.lm)
    embeddings, cache = model.embed(batch, soft), make_cache(lm.get_decoder().config)
    if not is_encoder_decoder(lm):
        return Beginning(embeddings, batch.attention_mask, cache)
    states = encode(lm, embeddings, batch.attention_mask)
    first = torch.full((len(batch), 1), start_id(lm), device=states.device)
    words = lm.get_input_embeddings()(first)
    return Beginning(words, torch.ones_like(first), ReadPrompts(cache, states, batch.attention_mask))
