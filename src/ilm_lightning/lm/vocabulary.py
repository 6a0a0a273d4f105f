"""From hidden states to logits and losses: the vocabulary head, a third of a small language model's cost."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from transformers import PretrainedConfig

CHUNK_ELEMENTS = {"cpu": 2**22, "cuda": 2**27}
"""Logits made at once by ``fused_losses``: on a CPU they then stay in the cache."""


def scale_logits(logits: Tensor, config: "PretrainedConfig") -> Tensor:
    """Apply what some architectures do to logits after the vocabulary head.

    Args:
        logits: ``[..., V]``.
        config: the language model's config: ``logits_scaling`` divides (Granite), ``logit_scale`` and
            ``lm_head_multiplier`` multiply (Cohere, Falcon-H1), ``final_logit_softcapping`` bounds (Gemma).

    Returns:
        The scaled logits; the very same tensor where the config names nothing.
    """
    if (divisor := getattr(config, "logits_scaling", None)) is not None:
        logits = logits / divisor
    for name in ("logit_scale", "lm_head_multiplier"):
        if (factor := getattr(config, name, None)) is not None:
            logits = logits * factor
    if (cap := getattr(config, "final_logit_softcapping", None)) is not None:
        logits = torch.tanh(logits / cap) * cap
    return logits


def head_logits(head: nn.Module, hidden: Tensor, config: "PretrainedConfig") -> Tensor:
    """Return the logits ``[n, V]`` of hidden states ``[n, d]``, float32, scaled as the architecture wants."""
    return scale_logits(head(hidden).float(), config)


def head_losses(head: nn.Module, hidden: Tensor, targets: Tensor, config: "PretrainedConfig") -> Tensor:
    """Compute the cross-entropy of target tokens.

    Args:
        head: the vocabulary head.
        hidden: hidden states that predict the targets ``[n, d]``.
        targets: ids ``[n]``.
        config: the language model's config.

    Returns:
        Losses in nats ``[n]``, float32.
    """
    # a frozen plain head needs neither its own gradient nor the logits afterwards
    if type(head) is nn.Linear and getattr(head, "bias", None) is None and not head.weight.requires_grad:
        probe = hidden.new_zeros(0)
        if scale_logits(probe, config) is probe and hidden.dtype is head.weight.dtype:
            return fused_losses(hidden, head.weight, targets)
    logits = head_logits(head, hidden, config)
    with torch.autocast(logits.device.type, enabled=False):
        return F.cross_entropy(logits, targets, reduction="none")


def fused_losses(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Compute cross-entropies of a frozen linear head without keeping logits.

    The gradient of each loss is taken while its logits are at hand, so that one chunk of logits exists at a time.

    Args:
        hidden: ``[n, d]``.
        weight: the head's matrix ``[V, d]``; it receives no gradient.
        targets: ids ``[n]``.

    Returns:
        Losses in nats ``[n]``, float32.
    """
    losses: Tensor = _FusedLosses.apply(hidden, weight, targets)  # type: ignore[no-untyped-call]
    return losses


class _FusedLosses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        needs_gradient = ctx.needs_input_grad[0]
        gradient = torch.empty_like(hidden) if needs_gradient else None
        losses = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        size = max(1, CHUNK_ELEMENTS.get(hidden.device.type, 2**22) // len(weight))
        for start in range(0, len(hidden), size):
            rows = slice(start, start + size)
            column = targets[rows, None]
            log_p = torch.log_softmax(F.linear(hidden[rows], weight), dim=-1, dtype=torch.float32)
            losses[rows] = -log_p.gather(1, column)[:, 0]
            if gradient is not None:
                # the gradient of a loss by its logits is softmax minus one-hot
                slope = log_p.exp_().scatter_add_(1, column, torch.full_like(column, -1, dtype=torch.float32))
                gradient[rows] = slope.to(weight.dtype) @ weight
        ctx.save_for_backward(gradient)
        return losses

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return (gradient * outer[0][:, None]).to(gradient.dtype), None, None
