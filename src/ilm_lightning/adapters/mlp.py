"""Two linear layers from an item's vectors to its soft tokens: the comparison that has no queries and no attention.

Notation: n items, q soft tokens, w inner width, d output width, i = sum of the sources' widths.
"""

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ilm_lightning.adapters.base import Adapter, joined_sources, require_positive
from ilm_lightning.adapters.qformer import qformer_phase2_parameters

COLLM_FACTOR = 10
"""Inner width over the vector's, as in CoLLM's code (256 to 2560)."""


class MLPAdapter(Adapter, kind="mlp"):
    """Linear(i, w), GELU, Linear(w, q * d) on the sources side by side.

    Args:
        source_dims: Width of each source.
        output_dim: d.
        num_queries: q.
        hidden_width: w; None = the width that gives as many parameters as a Q-Former with the same sources, number of
            soft tokens and output width has in phase 2.
        match: That Q-Former's sizes where they are not the defaults (`QFormerAdapter`'s arguments).

    Raises:
        ValueError: If a size is below 1, or both `hidden_width` and `match` are given.
    """

    def __init__(
        self,
        source_dims: Mapping[str, int],
        output_dim: int,
        num_queries: int = 8,
        hidden_width: int | None = None,
        match: Mapping[str, Any] | None = None,
    ) -> None:
        if hidden_width is None:
            same = {"source_dims": dict(source_dims), "output_dim": output_dim, "num_queries": num_queries}
            target = qformer_phase2_parameters({**(match or {}), **same})
            hidden_width = match_hidden_width(target, sum(source_dims.values()), num_queries * output_dim)
        elif match is not None:
            raise ValueError("give hidden_width or match, not both")
        require_positive(hidden_width=hidden_width)
        super().__init__(source_dims, output_dim, num_queries, hidden_width=hidden_width)
        self.up = nn.Linear(sum(self.source_dims.values()), hidden_width)
        self.down = nn.Linear(hidden_width, num_queries * output_dim)

    def forward(self, sources: Mapping[str, Tensor], source_mask: Tensor | None = None) -> Tensor:
        """Soft tokens [n, q, d] as in `Adapter.forward`; a hidden source's vector is zero."""
        vectors = joined_sources(sources, self.source_dims, source_mask)
        inner = F.gelu(self.up(vectors.to(self.up.weight.dtype)))
        result: Tensor = self.down(inner).view(-1, self.num_queries, self.output_dim)
        return result


def match_hidden_width(target_params: int, input_width: int, output_width: int) -> int:
    """Inner width that brings a two-layer MLP nearest to a number of parameters.

    One unit more adds ``input_width + 1 + output_width`` parameters; the result is off by at most half of that.

    Args:
        target_params: Parameters wanted.
        input_width: Width of the input.
        output_width: Width of the output.

    Returns:
        The inner width.

    Raises:
        ValueError: If the target is too small for a single inner unit.

    >>> match_hidden_width(100, input_width=4, output_width=2)  # 14 * 5 + 15 * 2 = 100
    14
    """
    width = round((target_params - output_width) / (input_width + 1 + output_width))
    if width < 1:
        raise ValueError(f"{target_params} parameters are too few for an MLP from {input_width} to {output_width}")
    return width


class CoLLMAdapter(Adapter, kind="collm"):
    """CoLLM's mapping (arXiv 2310.19488): Linear(i, 10 i), ReLU, Linear(10 i, d), one soft token of a vector.

    Args:
        source_dims: Width of each source; i is their sum.
        output_dim: d.
        num_queries: As in CoLLM 1; more give each vector that many tokens (its ``proj_token_num``).

    Raises:
        ValueError: If a size is below 1.
    """

    def __init__(self, source_dims: Mapping[str, int], output_dim: int, num_queries: int = 1) -> None:
        super().__init__(source_dims, output_dim, num_queries)
        width = sum(self.source_dims.values())
        self.up = nn.Linear(width, COLLM_FACTOR * width)
        self.down = nn.Linear(COLLM_FACTOR * width, num_queries * output_dim)

    def forward(self, sources: Mapping[str, Tensor], source_mask: Tensor | None = None) -> Tensor:
        """Soft tokens [n, q, d] as in `Adapter.forward`; a hidden source's vector is zero."""
        vectors = joined_sources(sources, self.source_dims, source_mask)
        inner = F.relu(self.up(vectors.to(self.up.weight.dtype)))
        result: Tensor = self.down(inner).view(-1, self.num_queries, self.output_dim)
        return result
