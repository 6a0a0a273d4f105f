"""Attention for CPUs: keys and values that several heads share are read where they are, not copied for each head."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PretrainedConfig

GROUPED = "ilm_grouped"
"""Name under which transformers finds ``grouped_attention``."""

PLAIN_ATTENTION = frozenset({"llama", "mistral", "qwen2", "qwen3"})
"""Architectures whose attention is softmax(scaling q kᵀ + mask) v and nothing else."""


def grouped_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: object,
) -> tuple[Tensor, None]:
    """Attend with heads in groups that share keys and values (transformers' interface for attention functions).

    Args:
        module: the attention layer.
        query: ``[B, H, T, d]``.
        key: ``[B, K, S, d]``; ``H`` is a multiple of ``K``.
        value: ``[B, K, S, d]``.
        attention_mask: added to the scores, ``[B, 1, T, S]``; None for none.
        scaling: factor on the scores; by default ``d ** -0.5``.
        dropout: dropout on the attention weights.
        kwargs: what other attention functions take; not used.

    Returns:
        ``[B, T, H, d]`` and None.
    """
    batch, heads, length, width = query.shape
    groups, seen = key.shape[1], key.shape[2]
    shared = heads // groups
    scaled = query.reshape(batch, groups, shared * length, width) * (width**-0.5 if scaling is None else scaling)
    scores = torch.matmul(scaled, key.transpose(2, 3)).view(batch, groups, shared, length, seen)
    if attention_mask is not None:
        scores = scores + attention_mask[:, :, None]
    weights = nn.functional.dropout(torch.softmax(scores, dim=-1), dropout, module.training)
    mixed = torch.matmul(weights.view(batch, groups, shared * length, seen), value)
    return mixed.view(batch, heads, length, width).transpose(1, 2).contiguous(), None


def choose_attention(config: "PretrainedConfig") -> str:
    """Name the fastest attention of transformers for this machine and architecture.

    PyTorch's fused kernel is slower on a CPU for sequences of about 100 tokens, and slowest where tokens come one at
    a time.

    Returns:
        ``sdpa`` where there is a GPU; else grouped attention, or ``eager`` for architectures that add to it.
    """
    if torch.cuda.is_available():
        return "sdpa"
    if config.model_type not in PLAIN_ATTENTION:
        return "eager"
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, eager_mask

    AttentionInterface.register(GROUPED, grouped_attention)
    AttentionMaskInterface.register(GROUPED, eager_mask)
    return GROUPED
