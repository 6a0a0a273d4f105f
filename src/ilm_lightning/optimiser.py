"""AdamW in one pass over the weights and its schedule, for both phases. A leaf module."""

import math
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


def warmup_cosine(step: int, warmup: int, total: int) -> float:
    """Factor of the learning rate: linear from 1/warmup to 1, then a half cosine to 0 at `total`.

    >>> [round(warmup_cosine(step, 2, 10), 3) for step in (0, 1, 2, 6, 10)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup))))


def scheduled(optimizer: torch.optim.Optimizer, warmup: int, total: int) -> dict[str, Any]:
    """An optimiser with `warmup_cosine` by step, as Lightning's ``configure_optimizers`` returns it."""
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warmup_cosine(step, warmup, total))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rates, "interval": "step"}}


def clip_gradients(optimizer: torch.optim.Optimizer, limit: float | None) -> None:
    """Scale the gradients down to a joint norm; Lightning's own way refuses fused optimisers under autocast.

    Args:
        optimizer: holds the weights.
        limit: largest norm; None or 0 for none.
    """
    if limit:
        nn.utils.clip_grad_norm_([weight for group in optimizer.param_groups for weight in group["params"]], limit)
