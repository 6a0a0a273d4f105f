"""How long and how much memory a stage will take, said before it starts."""

import time
from typing import Any

import torch

from ilm_lightning.progress import clock

OVERHEAD = 1.9
"""Measured step time over matrix-multiplication time alone, SmolLM2-135M, batches of about 900 tokens, 2 CPU cores."""


def matmul_rate(dtype: torch.dtype, device: torch.device, seconds: float = 0.3) -> float:
    """Measure multiply-add throughput in FLOP/s on shapes like a small language model's.

    Args:
        dtype: what the language model computes in.
        device: where.
        seconds: about how long to measure.

    Returns:
        Floating-point operations per second.
    """
    a = torch.randn(1024, 576, device=device).to(dtype)
    b = torch.randn(576, 1536, device=device).to(dtype)
    (a @ b).sum().item()
    runs, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        for _ in range(4):
            c = a @ b
        runs += 4
    c.sum().item()
    return runs * 2 * 1024 * 576 * 1536 / (time.perf_counter() - start)


def phase2_forecast(
    model: Any, tokens_per_step: int, steps: int, distilled: bool = False, more_flops: float = 0.0
) -> str:
    """Estimate time and memory of phase 2 from the model's size and this machine's measured speed.

    Args:
        model: an ``ItemLanguageModel``.
        tokens_per_step: tokens of one batch.
        steps: optimiser steps.
        distilled: whether a teacher reads every batch as well, with the items' texts in its prompts.
        more_flops: operations a step beside the language model's.

    Returns:
        One line for the screen.
    """
    weights = sum(p.numel() for p in model.lm.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    lm_trained = sum(p.numel() for p in model.lm.parameters() if p.requires_grad)
    # items' texts about double what a teacher reads
    passes = (3 if lm_trained > weights // 2 else 2) + 2 * distilled
    rate = matmul_rate(model.compute_dtype, model.device)
    seconds = OVERHEAD * steps * (tokens_per_step * 2 * weights * passes + more_flops) / rate
    width = {torch.float32: 4, torch.bfloat16: 2}[model.compute_dtype]
    config = model.lm.config
    # per token and layer: about 14 activations of the hidden width are kept for the backward pass
    activations = tokens_per_step * config.num_hidden_layers * config.hidden_size * 14 * width
    memory = sum(p.numel() * p.element_size() for p in model.parameters()) + 12 * trained + activations
    return (
        f"forecast: {steps} steps of about {tokens_per_step} tokens, about {clock(seconds)}, "
        f"about {(memory + 1.2e9) / 1e9:.1f} GB of memory"
    )
