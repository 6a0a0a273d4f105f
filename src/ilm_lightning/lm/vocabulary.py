"""From hidden states to logits and losses: the vocabulary head, a third of a small language model's cost."""

from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

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
    logits = head(hidden)
    return scale_logits(logits.to(_exact(logits.dtype)), config)


def _exact(dtype: torch.dtype) -> torch.dtype:
    """What losses are computed in: float32, or float64 where the model is."""
    return torch.promote_types(dtype, torch.float32)


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
    if is_frozen_plain(head, hidden, config):
        return fused_losses(hidden, head.weight, targets)
    logits = head_logits(head, hidden, config)
    with torch.autocast(logits.device.type, enabled=False):
        return F.cross_entropy(logits, targets, reduction="none")


def is_frozen_plain(head: nn.Module, hidden: Tensor, config: "PretrainedConfig") -> TypeGuard[nn.Linear]:
    """Tell whether a head is one matrix that is not trained: it needs no gradient, nor the logits afterwards."""
    if type(head) is not nn.Linear or getattr(head, "bias", None) is not None or head.weight.requires_grad:
        return False
    probe = hidden.new_zeros(0)
    return scale_logits(probe, config) is probe and hidden.dtype is head.weight.dtype


def head_divergences(
    head: nn.Module,
    hidden: Tensor,
    teacher_head: nn.Module,
    teacher_hidden: Tensor,
    config: "PretrainedConfig",
) -> Tensor:
    """Compute the Kullback-Leibler divergence of the next token's distribution from a teacher's, position by position.

    Args:
        head: the student's vocabulary head.
        hidden: the student's hidden states ``[n, d]``.
        teacher_head: the teacher's head; it receives no gradient.
        teacher_hidden: the teacher's hidden states at the same positions ``[n, d]``.
        config: the language model's config, the same for both.

    Returns:
        KL(teacher || student) in nats ``[n]``, float32. Logits of one chunk of positions exist at a time, in the
        backward pass as well.

    Example:
        Equal logits: nothing to learn. Teacher (3/4, 1/4), student (1/2, 1/2): 3/4 log 3/2 + 1/4 log 1/2.

        >>> head = nn.Linear(2, 2, bias=False).requires_grad_(False)
        >>> _ = head.weight.copy_(torch.eye(2))
        >>> student, teacher = torch.zeros(2, 2), torch.tensor([[0.0, 0.0], [3.0, 1.0]])
        >>> teacher[1] = torch.tensor([0.75, 0.25]).log()
        >>> [round(value, 4) for value in head_divergences(head, student, head, teacher, object()).tolist()]
        [0.0, 0.1308]
    """
    teacher_hidden = teacher_hidden.detach()
    if is_frozen_plain(head, hidden, config) and is_frozen_plain(teacher_head, teacher_hidden, config):
        fused: Tensor = _FusedDivergences.apply(hidden, head.weight, teacher_hidden, teacher_head.weight)  # type: ignore[no-untyped-call]
        return fused
    size = _positions(hidden.device, len(teacher_head.get_parameter("weight")))

    def divergence(states: Tensor, taught: Tensor) -> Tensor:
        with torch.no_grad():
            known = head_logits(teacher_head, taught, config).log_softmax(-1)
        mine = head_logits(head, states, config).log_softmax(-1)
        return (known.exp() * (known - mine)).sum(-1)

    parts = [
        checkpoint(divergence, states, taught, use_reentrant=False)
        for states, taught in zip(torch.split(hidden, size), torch.split(teacher_hidden, size), strict=True)
    ]
    return torch.cat(parts) if parts else hidden.new_zeros(0, dtype=torch.float32)


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


def _positions(device: torch.device, vocabulary: int) -> int:
    """Positions whose logits are made at once."""
    return max(1, CHUNK_ELEMENTS.get(device.type, 2**22) // vocabulary)


class _FusedLosses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        needs_gradient = ctx.needs_input_grad[0]
        gradient = torch.empty_like(hidden) if needs_gradient else None
        exact = _exact(hidden.dtype)
        losses = torch.empty(len(hidden), dtype=exact, device=hidden.device)
        size = _positions(hidden.device, len(weight))
        for start in range(0, len(hidden), size):
            rows = slice(start, start + size)
            column = targets[rows, None]
            log_p = torch.log_softmax(F.linear(hidden[rows], weight), dim=-1, dtype=exact)
            losses[rows] = -log_p.gather(1, column)[:, 0]
            if gradient is not None:
                # the gradient of a loss by its logits is softmax minus one-hot
                slope = log_p.exp_().scatter_add_(1, column, torch.full_like(column, -1, dtype=exact))
                gradient[rows] = slope.to(weight.dtype) @ weight
        ctx.save_for_backward(gradient)
        return losses

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return (gradient * outer[0][:, None]).to(gradient.dtype), None, None


class _FusedDivergences(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, taught: Tensor, teacher_weight: Tensor) -> Tensor:
        gradient = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        divergences = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        size = _positions(hidden.device, len(weight))
        for start in range(0, len(hidden), size):
            rows = slice(start, start + size)
            known = torch.log_softmax(F.linear(taught[rows], teacher_weight), dim=-1, dtype=torch.float32)
            mine = torch.log_softmax(F.linear(hidden[rows], weight), dim=-1, dtype=torch.float32)
            share = known.exp()
            divergences[rows] = (share * known.sub_(mine)).sum(-1)
            if gradient is not None:
                # the gradient by the student's logits is its softmax minus the teacher's
                gradient[rows] = mine.exp_().sub_(share).to(weight.dtype) @ weight
        ctx.save_for_backward(gradient)
        return divergences

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return (gradient * outer[0][:, None]).to(gradient.dtype), None, None, None
