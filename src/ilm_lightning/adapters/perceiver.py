"""Perceiver: learned latents that read a sequence of vectors by cross-attention, as User-LLM reads a user's history.

Notation: n items or users, l places of a history, s sources, h hidden, q latents = soft tokens, d output width.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ilm_lightning.adapters.base import (
    Adapter,
    check_attention,
    check_source_mask,
    check_sources,
    require_positive,
)
from ilm_lightning.adapters.layers import INIT_STD, CrossAttention, FeedForward, SelfAttention, init_bert_, layer_norm

PRESENT = "present"
"""Key of the mask ``[n, l]`` beside a history's sources: 1 where there is an item."""


class PerceiverLayer(nn.Module):
    """Latents look at the history, then at each other."""

    def __init__(self, hidden_size: int, num_heads: int, ffn_size: int, dropout: float) -> None:
        super().__init__()
        # more than one key: the token of an empty history is always there
        self.cross_attention = CrossAttention(hidden_size, num_heads, dropout, num_keys=2)
        self.self_attention = SelfAttention(hidden_size, num_heads, dropout)
        self.ffn = FeedForward(hidden_size, ffn_size, dropout)

    def forward(self, latents: Tensor, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Maps latents [n, q, h] that read tokens [n, k, h] to [n, q, h]."""
        latents, _ = self.self_attention(self.cross_attention(latents, tokens, mask))
        result: Tensor = self.ffn(latents)
        return result


class PerceiverAdapter(Adapter, kind="perceiver"):
    """Cross-attention from learned latents to the items of a history (User-LLM, arXiv 2402.13598).

    A source is one vector ``[n, d_s]``, or a history ``[n, l, d_s]``, the latest item last, with a mask `PRESENT`
    ``[n, l]`` where histories differ in length. Places are told apart by sinusoids of the distance from the end, so
    that a history may have any length. A learned token stands for the empty history.

    Args:
        source_dims: Width of each source.
        output_dim: d.
        num_queries: q.
        hidden_size: h.
        num_layers: Blocks of cross-attention, self-attention and feed-forward.
        num_heads: Heads, a divisor of h.
        ffn_size: Inner width of the feed-forward networks.
        dropout: Of hidden states and attention weights.

    Raises:
        ValueError: If a size is below 1, `hidden_size` is odd or no multiple of `num_heads`, or dropout is not in
            [0, 1).
    """

    def __init__(
        self,
        source_dims: Mapping[str, int],
        output_dim: int,
        num_queries: int = 8,
        hidden_size: int = 384,
        num_layers: int = 2,
        num_heads: int = 12,
        ffn_size: int = 1536,
        dropout: float = 0.1,
    ) -> None:
        require_positive(hidden_size=hidden_size, num_layers=num_layers, num_heads=num_heads, ffn_size=ffn_size)
        check_attention(hidden_size, num_heads, dropout)
        if hidden_size % 2:
            raise ValueError(f"hidden_size={hidden_size} must be even: a place is told by pairs of sine and cosine")
        settings: dict[str, Any] = {
            "hidden_size": hidden_size,
            "num_layers": num_layers,
            "num_heads": num_heads,
            "ffn_size": ffn_size,
            "dropout": dropout,
        }
        super().__init__(source_dims, output_dim, num_queries, **settings)
        self.hidden_size, self.dropout = hidden_size, dropout
        self.latents = nn.Parameter(torch.empty(num_queries, hidden_size))
        self.empty = nn.Parameter(torch.empty(1, hidden_size))
        self.source_embedding = nn.Parameter(torch.empty(len(self.source_dims), hidden_size))
        self.latent_norm, self.token_norm = layer_norm(hidden_size), layer_norm(hidden_size)
        self.input_maps = nn.ModuleDict({name: nn.Linear(dim, hidden_size) for name, dim in self.source_dims.items()})
        self.layers = nn.ModuleList(
            PerceiverLayer(hidden_size, num_heads, ffn_size, dropout) for _ in range(num_layers)
        )
        self.output_projection = nn.Linear(hidden_size, output_dim)
        init_bert_(self)
        for parameter in (self.latents, self.empty, self.source_embedding):
            nn.init.normal_(parameter, std=INIT_STD)
        for name, dim in self.source_dims.items():
            # a vector whose entries have mean square 1 gives a token of that size
            nn.init.normal_(self.get_submodule(f"input_maps.{name}").weight, std=dim**-0.5)  # type: ignore[arg-type]

    def forward(self, sources: Mapping[str, Tensor], source_mask: Tensor | None = None) -> Tensor:
        """Soft tokens [n, q, d] as in `Adapter.forward`; of a history as the class says.

        Raises:
            ValueError: As in `Adapter.forward`, or sources of one history differ in length.
        """
        vectors, present = self._histories(sources)
        rows, places = vectors[0].shape[:2]
        if source_mask is not None:
            check_source_mask(source_mask, rows, len(vectors))
        tokens, masks = [], []
        for i, (linear, vector) in enumerate(zip(self.input_maps.values(), vectors, strict=True)):
            tokens.append(linear(vector.to(self.latents.dtype)) + self.source_embedding[i])
            masks.append(present if source_mask is None else present & source_mask[:, i, None])
        known = torch.cat([token + self._distances(places, token) for token in tokens], dim=1)
        read = self.token_norm(torch.cat([self.empty.expand(rows, -1, -1), known], dim=1))
        always = present.new_ones(rows, 1)
        mask = torch.cat([always, *masks], dim=1)[:, None, None, :]
        latents = F.dropout(self.latent_norm(self.latents).expand(rows, -1, -1), self.dropout, self.training)
        for layer in self.layers:
            latents = layer(latents, read, mask)
        result: Tensor = self.output_projection(latents)
        return result

    def _histories(self, sources: Mapping[str, Tensor]) -> tuple[list[Tensor], Tensor]:
        """Sources as [n, l, d_s] and the mask [n, l] of what is there."""
        shapes = {name: sources[name].shape for name in self.source_dims if name in sources}
        lengths = {shape[1] if len(shape) == 3 else 1 for shape in shapes.values()}
        if len(lengths) > 1:
            raise ValueError(f"sources of one history differ in length: { ({k: list(v) for k, v in shapes.items()}) }")
        flat = {name: one.flatten(0, 1) if one.ndim == 3 else one for name, one in sources.items()}
        length = lengths.pop() if lengths else 1
        vectors = [one.view(-1, length, one.shape[-1]) for one in check_sources(flat, self.source_dims)]
        present = sources.get(PRESENT)
        if present is None or vectors[0].shape[:2] != present.shape:
            if present is not None and length > 1:
                raise ValueError(f"{PRESENT} has shape {list(present.shape)}, expected {list(vectors[0].shape[:2])}")
            return vectors, vectors[0].new_ones(vectors[0].shape[:2], dtype=torch.bool)
        return vectors, present > 0

    def _distances(self, places: int, like: Tensor) -> Tensor:
        """Sinusoids [l, h] of the distance from the end, the latest item's first."""
        half = self.hidden_size // 2
        distance = torch.arange(places - 1, -1, -1, device=like.device, dtype=torch.float32)[:, None]
        rates = torch.exp(torch.arange(half, device=like.device) * (-math.log(10000.0) / half))
        return torch.cat([torch.sin(distance * rates), torch.cos(distance * rates)], dim=1).to(like.dtype)
