"""The Q-Former's query path: learned queries read an item's vectors and become soft tokens.

The block is BLIP-2's (arXiv 2301.12597): self-attention among the queries, cross-attention to the item in every
`cross_attention_every`-th block, a feed-forward network. Text exists in phase 1 only, see `qformer_text`.

Notation: n items, q queries, h hidden, a heads, S source tokens a source, k = S * number of sources keys,
d_s width of source s, d output width.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ilm_lightning.adapters.base import (
    Adapter,
    check_attention,
    check_source_mask,
    check_sources,
    count_parameters,
    require_positive,
    side_by_side,
    sorted_source_dims,
)
from ilm_lightning.adapters.layers import INIT_STD, CrossAttention, FeedForward, SelfAttention, init_bert_, layer_norm

KeysValues = tuple[tuple[Tensor, Tensor], ...]


class QueryOutput(NamedTuple):
    """Result of the query path.

    Attributes:
        hidden: Query states after the last layer [n, q, h].
        keys_values: For each layer the keys and values of its self-attention over the queries, each [n, a, q, h / a];
            they are what a text decoder sees of the item.
    """

    hidden: Tensor
    keys_values: KeysValues


class SourceTokens(NamedTuple):
    """What cross-attention reads.

    Attributes:
        tokens: Keys of all sources side by side [n, k, h].
        mask: Bool [n, 1, 1, k], True = visible, or None where all are.
    """

    tokens: Tensor
    mask: Tensor | None


class QFormerLayer(nn.Module):
    """One block; `self_attention` is shared with the text branch."""

    def __init__(
        self, hidden_size: int, num_heads: int, ffn_size: int, dropout: float, num_keys: int, cross: bool
    ) -> None:
        super().__init__()
        self.self_attention = SelfAttention(hidden_size, num_heads, dropout)
        self.cross_attention = CrossAttention(hidden_size, num_heads, dropout, num_keys) if cross else None
        self.query_ffn = FeedForward(hidden_size, ffn_size, dropout)

    def after_self_attention(self, queries: Tensor, keys: SourceTokens) -> Tensor:
        """Cross-attention, where this layer has one, and the query FFN; [n, q, h] to [n, q, h]."""
        if self.cross_attention is not None:
            queries = self.cross_attention(queries, keys.tokens, keys.mask)
        result: Tensor = self.query_ffn(queries)
        return result


class QFormer(nn.Module):
    """The query path, which is all that phase 2 runs.

    New weights are BERT's N(0, 0.02), except the input maps: a vector whose entries have mean square 1 gives source
    tokens of that size, so that an item is heard beside the queries from the first step.

    Args:
        source_dims: Width of each source; one input map and one source embedding each.
        num_queries: q.
        hidden_size: h.
        num_layers: Blocks.
        num_heads: a, a divisor of h.
        ffn_size: Inner width of the feed-forward networks.
        cross_attention_every: Cross-attention in layers 0, c, 2c, …; 1 = in every block.
        source_tokens: S, key/value tokens that each source is expanded to; 1 = the paper's.
        dropout: Of hidden states and attention weights.
        concatenate: Read the sources as one vector, side by side, through one input map; a hidden source is zero.

    Raises:
        ValueError: If a size is below 1, `num_heads` does not divide `hidden_size`, or dropout is not in [0, 1).
    """

    def __init__(
        self,
        source_dims: Mapping[str, int],
        num_queries: int = 8,
        hidden_size: int = 384,
        num_layers: int = 6,
        num_heads: int = 12,
        ffn_size: int = 1536,
        cross_attention_every: int = 2,
        source_tokens: int = 1,
        dropout: float = 0.1,
        concatenate: bool = False,
    ) -> None:
        super().__init__()
        require_positive(
            num_queries=num_queries,
            hidden_size=hidden_size,
            num_layers=num_layers,
            num_heads=num_heads,
            ffn_size=ffn_size,
            cross_attention_every=cross_attention_every,
            source_tokens=source_tokens,
        )
        check_attention(hidden_size, num_heads, dropout)
        self.source_dims = sorted_source_dims(source_dims)
        self.num_queries, self.hidden_size, self.num_layers = num_queries, hidden_size, num_layers
        self.num_heads, self.ffn_size, self.source_tokens, self.dropout = num_heads, ffn_size, source_tokens, dropout

        self.concatenate = concatenate and len(self.source_dims) > 1

        self.queries = nn.Parameter(torch.empty(num_queries, hidden_size))
        self.embedding_norm = layer_norm(hidden_size)
        self.read_dims = {"joint": sum(self.source_dims.values())} if self.concatenate else self.source_dims
        self.input_maps = nn.ModuleDict(
            {name: nn.Linear(width, source_tokens * hidden_size) for name, width in self.read_dims.items()}
        )
        self.source_embedding = nn.Parameter(torch.empty(len(self.read_dims), hidden_size))
        num_keys = source_tokens * len(self.read_dims)
        self.layers = nn.ModuleList(
            QFormerLayer(hidden_size, num_heads, ffn_size, dropout, num_keys, cross=i % cross_attention_every == 0)
            for i in range(num_layers)
        )
        self._init_weights()

    def _init_weights(self) -> None:
        init_bert_(self)
        nn.init.normal_(self.queries, std=INIT_STD)
        nn.init.normal_(self.source_embedding, std=INIT_STD)
        for name, width in self.read_dims.items():
            nn.init.normal_(cast("nn.Linear", self.input_maps[name]).weight, std=width**-0.5)

    @property
    def blocks(self) -> list[QFormerLayer]:
        """The layers, first to last."""
        return cast("list[QFormerLayer]", list(self.layers))

    def embed_queries(self, rows: int) -> Tensor:
        """Query embeddings [rows, q, h]: LayerNorm and dropout, no positions."""
        embedded = self.embedding_norm(self.queries).expand(rows, -1, -1)
        return F.dropout(embedded, self.dropout, self.training)

    def embed_sources(self, sources: Mapping[str, Tensor], source_mask: Tensor | None = None) -> SourceTokens:
        """Maps the sources to key/value tokens; arguments and errors as in `forward`."""
        vectors = check_sources(sources, self.source_dims)
        rows = len(vectors[0])
        if source_mask is not None:
            check_source_mask(source_mask, rows, len(vectors))
        if self.concatenate:
            vectors, source_mask = [side_by_side(vectors, source_mask)], None
        tokens = []
        for i, (linear, vector) in enumerate(zip(self.input_maps.values(), vectors, strict=True)):
            mapped = linear(vector.to(self.queries.dtype))
            tokens.append(mapped.view(rows, self.source_tokens, self.hidden_size) + self.source_embedding[i])
        if source_mask is None:
            return SourceTokens(torch.cat(tokens, dim=1), None)
        mask = source_mask.repeat_interleave(self.source_tokens, dim=1)[:, None, None, :]
        return SourceTokens(torch.cat(tokens, dim=1), mask)

    def forward(self, sources: Mapping[str, Tensor], source_mask: Tensor | None = None) -> QueryOutput:
        """Runs the queries over the items' vectors.

        Args:
            sources: Vectors [n, d_s] by source name.
            source_mask: Bool [n, number of sources] in the order of `source_dims`; False hides that source's keys.

        Returns:
            Query states and the self-attention's keys and values.

        Raises:
            ValueError: If a source is missing or has a wrong width, or the mask is impossible.
        """
        keys = self.embed_sources(sources, source_mask)
        hidden = self.embed_queries(len(keys.tokens))
        keys_values = []
        for layer in self.blocks:
            hidden, key_value = layer.self_attention(hidden)
            hidden = layer.after_self_attention(hidden, keys)
            keys_values.append(key_value)
        return QueryOutput(hidden, tuple(keys_values))


class QFormerAdapter(Adapter, kind="qformer"):
    """Q-Former and a linear map to the language model's width; arguments as in `QFormer`."""

    def __init__(
        self,
        source_dims: Mapping[str, int],
        output_dim: int,
        num_queries: int = 8,
        hidden_size: int = 384,
        num_layers: int = 6,
        num_heads: int = 12,
        ffn_size: int = 1536,
        cross_attention_every: int = 2,
        source_tokens: int = 1,
        dropout: float = 0.1,
        concatenate: bool = False,
    ) -> None:
        settings: dict[str, Any] = {
            "hidden_size": hidden_size,
            "num_layers": num_layers,
            "num_heads": num_heads,
            "ffn_size": ffn_size,
            "cross_attention_every": cross_attention_every,
            "source_tokens": source_tokens,
            "dropout": dropout,
            "concatenate": concatenate,
        }
        super().__init__(source_dims, output_dim, num_queries, **settings)
        self.qformer = QFormer(self.source_dims, num_queries, **settings)
        self.output_projection = nn.Linear(hidden_size, output_dim)
        init_bert_(self.output_projection)

    def forward(self, sources: Mapping[str, Tensor], source_mask: Tensor | None = None) -> Tensor:
        """Soft tokens [n, q, d] as in `Adapter.forward`."""
        result: Tensor = self.output_projection(self.qformer(sources, source_mask).hidden)
        return result


def qformer_phase2_parameters(config: Mapping[str, Any]) -> int:
    """Counts what phase 2 runs of a Q-Former: query path, input maps and output projection.

    Args:
        config: Arguments of `QFormerAdapter`; a ``kind`` is ignored.

    Returns:
        The number of parameters.
    """
    with torch.device("meta"):  # shapes only: no memory, no random numbers
        return count_parameters(QFormerAdapter(**{str(k): v for k, v in config.items() if k != "kind"}))
