"""Attention for CPUs: keys and values that several heads share are read where they are, not copied for each head."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PretrainedConfig

GROUPED = "ilm_grouped"
"""Name under which transformers finds ``grouped_attention``."""

PLAIN_ATTENTION = frozenset({"llama", "mistral", "qwen2", "qwen3"})
"""Architectures whose attention is softmax(scaling q kᵀ + mask) v and nothing else."""


@dataclass(frozen=True)
class Branches:
    """Trunks of tokens with branches: a branch sees the first tokens of its trunk and, causally, itself.

    Trees of similar size are read together as one stack. Padding repeats place 0; nothing real sees it.

    Attributes:
        trunks: of each stack ``[G, T]``, int64; place of each trunk's tokens in the row.
        branches: of each stack ``[G, n, L]``, int64; place of each branch's tokens; n and L are 0 where there is none.
        cuts: of each stack ``[G, n, T]``; added to a branch's scores on its trunk: 0 where it sees, -inf where not.
        back: ``[N]``, int64; where each token of the row lies among all stacks' trunks and branches, stack by stack.
    """

    trunks: tuple[Tensor, ...]
    branches: tuple[Tensor, ...]
    cuts: tuple[Tensor, ...]
    back: Tensor

    def map(self, change: Callable[[Tensor], Tensor]) -> "Branches":
        """Return the same with every tensor changed."""
        trunks, branches, cuts = (tuple(map(change, part)) for part in (self.trunks, self.branches, self.cuts))
        return Branches(trunks, branches, cuts, change(self.back))

    def to_dtype(self, dtype: torch.dtype) -> "Branches":
        """Return the same with cuts for scores of a dtype."""
        return replace(self, cuts=tuple(cut.to(dtype) for cut in self.cuts))


def branched_attention(query: Tensor, key: Tensor, value: Tensor, branches: Branches, scaling: float) -> Tensor:
    """Attend along trunks and branches without scores for pairs of tokens that never see each other.

    Args:
        query: ``[1, H, N, d]``.
        key: ``[1, K, N, d]``; ``H`` is a multiple of ``K``.
        value: ``[1, K, N, d]``.
        branches: who sees whom.
        scaling: factor on the scores.

    Returns:
        ``[1, N, H, d]``.
    """
    heads, groups, length, width = query.shape[1], key.shape[1], query.shape[2], query.shape[3]
    # [N, K, H / K, d]: tokens are picked as whole rows
    tokens = (query[0].transpose(0, 1) * scaling).reshape(length, groups, heads // groups, width)
    keys, values = key[0].transpose(0, 1).contiguous(), value[0].transpose(0, 1).contiguous()
    parts = []
    for trunks, forks, cut in zip(branches.trunks, branches.branches, branches.cuts, strict=True):
        trunk_keys, trunk_values = (_pick(rows, trunks).transpose(1, 2) for rows in (keys, values))
        parts.append(_trunks(tokens, trunk_keys, trunk_values, trunks))
        if forks.numel():
            parts.append(_branches(tokens, keys, values, trunk_keys, trunk_values, forks, cut))
    return torch.cat(parts).index_select(0, branches.back)[None]


def _trunks(tokens: Tensor, trunk_keys: Tensor, trunk_values: Tensor, trunks: Tensor) -> Tensor:
    """What trunks' tokens read ``[G * T, H, d]``; queries ``[N, K, H / K, d]``, keys and values ``[G, K, T, d]``."""
    (trees, span), (groups, shared, width) = trunks.shape, tokens.shape[1:]
    asked = _pick(tokens, trunks).permute(0, 2, 3, 1, 4).reshape(trees, groups, shared * span, width)
    scores = torch.matmul(asked, trunk_keys.transpose(2, 3)).view(trees, groups, shared, span, span)
    weights = torch.softmax(scores.add_(_causal(scores)), dim=-1).view(trees, groups, shared * span, span)
    mixed = torch.matmul(weights, trunk_values).view(trees, groups, shared, span, width)
    return mixed.permute(0, 3, 1, 2, 4).reshape(trees * span, groups * shared, width)


def _branches(
    tokens: Tensor,
    keys: Tensor,
    values: Tensor,
    trunk_keys: Tensor,
    trunk_values: Tensor,
    branches: Tensor,
    cut: Tensor,
) -> Tensor:
    """What branches' tokens read ``[G * n * L, H, d]``; queries ``[N, K, H / K, d]``, trunks' keys ``[G, K, T, d]``."""
    trees, count, span = branches.shape
    groups, shared, width = tokens.shape[1:]
    asked = _pick(tokens, branches).permute(0, 3, 1, 4, 2, 5).contiguous()
    own_keys, own_values = (_pick(rows, branches).permute(0, 3, 1, 2, 4) for rows in (keys, values))
    # [G, K, n, H / K * L, T] and the same with L
    trunk = torch.matmul(asked.view(trees, groups, -1, width), trunk_keys.transpose(2, 3))
    trunk = trunk.view(trees, groups, count, shared * span, -1).add_(cut[:, None, :, None])
    own = torch.matmul(asked.view(trees, groups, count, shared * span, width), own_keys.transpose(3, 4))
    own.view(trees, groups, count, shared, span, span).add_(_causal(own))
    weights = torch.softmax(torch.cat([trunk, own], dim=-1), dim=-1)
    on_trunk, on_own = weights[..., :-span], weights[..., -span:]
    mixed = torch.matmul(on_own, own_values)
    mixed = mixed + torch.matmul(on_trunk.flatten(2, 3), trunk_values).view_as(mixed)
    mixed = mixed.view(trees, groups, count, shared, span, width).permute(0, 2, 4, 1, 3, 5)
    return mixed.reshape(trees * count * span, groups * shared, width)


def _pick(rows: Tensor, places: Tensor) -> Tensor:
    """Rows ``[N, ...]`` at places ``[a, b, ...]``: ``[a, b, ..., ...]``."""
    return rows.flatten(1).index_select(0, places.flatten()).view(*places.shape, *rows.shape[1:])


def _causal(scores: Tensor) -> Tensor:
    """``[L, L]`` to be added to scores ``[..., L]``: -inf on the tokens after each."""
    length = scores.shape[-1]
    return torch.full((length, length), float("-inf"), dtype=scores.dtype, device=scores.device).triu(1)


def grouped_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    branches: Branches | None = None,
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
        branches: who sees whom, in the place of the mask; there is one row then, and no dropout.
        kwargs: what other attention functions take; not used.

    Returns:
        ``[B, T, H, d]`` and None.
    """
    batch, heads, length, width = query.shape
    scaling = width**-0.5 if scaling is None else scaling
    if branches is not None:
        return branched_attention(query, key, value, branches, scaling), None
    groups, seen = key.shape[1], key.shape[2]
    shared = heads // groups
    scaled = query.reshape(batch, groups, shared * length, width) * scaling
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
