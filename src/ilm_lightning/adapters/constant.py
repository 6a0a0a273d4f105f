"""Free soft tokens that all items share: the blind control, which learns a task's format and can know no item.

Notation: n items, q soft tokens, d output width.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ilm_lightning.adapters.base import Adapter, check_source_mask, check_sources
from ilm_lightning.adapters.layers import INIT_STD


class ConstantAdapter(Adapter, kind="constant"):
    """Learned soft tokens [q, d]; the vectors only say how many items there are.

    Args:
        source_dims: Width of each source; only kept, since one training serves the vectors of every encoder.
        output_dim: d.
        num_queries: q.
    """

    def __init__(self, source_dims: Mapping[str, int], output_dim: int, num_queries: int = 8) -> None:
        super().__init__(source_dims, output_dim, num_queries)
        self.soft_tokens = nn.Parameter(torch.empty(num_queries, output_dim))
        nn.init.normal_(self.soft_tokens, std=INIT_STD)

    def forward(self, sources: Mapping[str, Tensor], source_mask: Tensor | None = None) -> Tensor:
        """The same soft tokens for every item, [n, q, d]; arguments as in `Adapter.forward`, of any sources.

        Raises:
            ValueError: If there is no source, one is not [n, d_s], or the numbers of items differ.
        """
        if not sources:
            raise ValueError("no source: the soft tokens are as many as the items of some vectors")
        known = {name: sources[name] for name in self.source_dims if name in sources} or sources
        vectors = check_sources(known, {name: vector.shape[-1] for name, vector in known.items()})
        if source_mask is not None:
            check_source_mask(source_mask, len(vectors[0]), len(vectors))
        return self.soft_tokens.expand(len(vectors[0]), -1, -1)
