"""Soft tokens begin where a language model that learned the tasks' format has seen items so far."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ilm_lightning.adapters import ConstantAdapter
from ilm_lightning.lm.model import ItemLanguageModel

SPREAD = 0.1
"""Root mean square of what sets items apart at the start, as a share of the soft tokens. Ours, see docs/variants.md."""


@torch.no_grad()
def start_at(model: ItemLanguageModel, soft_tokens: Tensor, sources: Mapping[str, Tensor]) -> None:
    """Add trained soft tokens to a new model's, so that the mean item begins as them; free soft tokens become them.

    An adapter's own first outputs are random and far from them: the format would have to be learned again.

    Args:
        model: the new model; it gets ``soft_start``, a parameter.
        soft_tokens: ``[k, d]``; for another number of queries the first of them, or the same again.
        sources: vectors of items per source ``[n, d_s]``, over which the mean is taken.
    """
    wanted = soft_tokens[torch.arange(model.num_queries) % len(soft_tokens)].to(model.log_gain)
    if isinstance(model.adapter, ConstantAdapter):
        model.adapter.soft_tokens.copy_(wanted)
        return
    training = model.adapter.training
    raw = model.adapter.eval()(sources)
    model.adapter.train(training)
    mean = raw.mean(0)
    apart = (raw - mean).square().mean().sqrt()
    size = wanted.square().mean(-1, keepdim=True).add(1e-12).sqrt()
    model.soft_start = nn.Parameter(wanted / size * (apart / SPREAD) - mean)
