"""AdamW in one pass over the weights, for both phases. A leaf module."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

FUSED_DEVICES = frozenset({"cpu", "cuda"})


def adamw(groups: Iterable[dict[str, Any]], lr: float = 1e-3) -> torch.optim.AdamW:
    """Build AdamW; fused where torch has it, which on a CPU takes a third of the time of its loop over tensors.

    Args:
        groups: parameter groups, with a ``lr`` of their own or the given one.
        lr: learning rate of groups that name none.
    """
    groups = list(groups)
    weights = [weight for group in groups for weight in group["params"]]
    # weights that are shared out between processes keep the loop
    fused = all(weight.device.type in FUSED_DEVICES and not hasattr(weight, "device_mesh") for weight in weights)
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.999), fused=fused)


def clip_gradients(optimizer: torch.optim.Optimizer, limit: float | None) -> None:
    """Scale the gradients down to a joint norm; Lightning's own way refuses fused optimisers under autocast.

    Args:
        optimizer: holds the weights.
        limit: largest norm; None or 0 for none.
    """
    if limit:
        nn.utils.clip_grad_norm_([weight for group in optimizer.param_groups for weight in group["params"]], limit)
