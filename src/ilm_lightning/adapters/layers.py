"""Transformer blocks with LayerNorm after the residual sum, as in BERT; used by the query path and the text branch.

Notation: n items, l positions, k keys, h hidden, a heads.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LAYER_NORM_EPS = 1e-12
INIT_STD = 0.02


def init_bert_(module: nn.Module) -> None:
    """Draws weights of linear maps and embeddings below `module` from N(0, 0.02) and zeroes biases, as BERT does."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.normal_(part.weight, std=INIT_STD)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)


def layer_norm(hidden_size: int) -> nn.LayerNorm:
    """Makes a LayerNorm with BERT's epsilon."""
    return nn.LayerNorm(hidden_size, eps=LAYER_NORM_EPS)


class _Attention(nn.Module):
    """What self- and cross-attention share: heads, scaled dot products, output map, residual and LayerNorm."""

    def __init__(self, hidden_size: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.output = nn.Linear(hidden_size, hidden_size)
        self.norm = layer_norm(hidden_size)

    def split(self, fused: Tensor, parts: int) -> tuple[Tensor, ...]:
        """Splits [n, l, parts * h] into `parts` tensors of [n, a, l, h / a]."""
        rows, length, width = fused.shape
        heads = (parts, self.num_heads, width // (parts * self.num_heads))
        return fused.view(rows, length, *heads).permute(2, 0, 3, 1, 4).unbind(0)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """Attention of [n, a, l, h / a] over k keys; mask is bool, broadcast to [n, a, l, k], True = visible.

        Returns:
            Context [n, l, h].
        """
        dropout = self.dropout if self.training else 0.0
        context = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        return context.transpose(1, 2).flatten(2)

    def finish(self, context: Tensor, residual: Tensor) -> Tensor:
        """Output map, dropout, residual sum, LayerNorm; both arguments [..., h]."""
        projected = F.dropout(self.output(context), self.dropout, self.training)
        result: Tensor = self.norm(projected + residual)
        return result


class SelfAttention(_Attention):
    """Self-attention whose three input maps are one: `qkv` gives [query; key; value] of width 3h."""

    def __init__(self, hidden_size: int, num_heads: int, dropout: float) -> None:
        super().__init__(hidden_size, num_heads, dropout)
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)

    def forward(self, hidden: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Lets all positions of [n, l, h] see each other.

        Returns:
            New hidden states [n, l, h] and the keys and values, each [n, a, l, h / a].
        """
        query, key, value = self.split(self.qkv(hidden), 3)
        return self.finish(self.attend(query, key, value, None), hidden), (key, value)


class CrossAttention(_Attention):
    """Cross-attention of the queries to the source tokens.

    With a single key the softmax over it is 1 and the context is the key's value for every query. The query and key
    maps could never receive a gradient, so they do not exist then, and the result is computed once an item; attention
    dropout, which would drop the item itself, does not apply.
    """

    def __init__(self, hidden_size: int, num_heads: int, dropout: float, num_keys: int) -> None:
        super().__init__(hidden_size, num_heads, dropout)
        self.single_key = num_keys == 1
        if self.single_key:
            self.value = nn.Linear(hidden_size, hidden_size)
        else:
            self.query = nn.Linear(hidden_size, hidden_size)
            self.key_value = nn.Linear(hidden_size, 2 * hidden_size)

    def forward(self, hidden: Tensor, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Lets [n, q, h] look at source tokens [n, k, h]; mask bool [n, 1, 1, k], True = visible; returns [n, q, h]."""
        if self.single_key:
            projected = self.output(self.value(tokens)).expand(-1, hidden.shape[1], -1)
            result: Tensor = self.norm(F.dropout(projected, self.dropout, self.training) + hidden)
            return result
        (query,) = self.split(self.query(hidden), 1)
        key, value = self.split(self.key_value(tokens), 2)
        return self.finish(self.attend(query, key, value, mask), hidden)


class FeedForward(nn.Module):
    """Linear, GELU, Linear, dropout, residual sum, LayerNorm on [..., h]."""

    def __init__(self, hidden_size: int, ffn_size: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.up = nn.Linear(hidden_size, ffn_size)
        self.down = nn.Linear(ffn_size, hidden_size)
        self.norm = layer_norm(hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        """Maps [..., h] to [..., h]."""
        inner = self.down(F.gelu(self.up(hidden)))
        result: Tensor = self.norm(F.dropout(inner, self.dropout, self.training) + hidden)
        return result


def causal_mask(length: int, prefix: int, device: torch.device) -> Tensor:
    """Bool [length, prefix + length]: position i sees the whole prefix and positions 0..i.

    >>> causal_mask(2, 1, torch.device("cpu")).int().tolist()
    [[1, 1, 0], [1, 1, 1]]
    """
    return torch.ones(length, prefix + length, dtype=torch.bool, device=device).tril(diagonal=prefix)
