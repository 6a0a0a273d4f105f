"""How long and how much memory a stage will take, said before it starts."""

import time
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device
from torch.nn import functional

from ilm_lightning.hardware import available_memory, resident_memory
from ilm_lightning.progress import clock

OVERHEAD = 1.4
"""Measured step time over that of as many operations in :func:`layer_rate`'s layer: 1.1 to 1.8.

SmolLM2-135M in bf16, batches of 720 tokens, one core of an Intel Xeon with AMX that did other work beside.
"""

UPDATE = 100
"""Bytes that a step moves for each trained fp32 parameter: casts, gradient, its norm, Adam. Measured as above."""


BACKWARD = 2.4
"""Measured memory of a step of phase 1 at its peak over what its forward pass keeps: gradients, and copies in bf16.

Paper's losses, 48 texts, bf16, first 20 steps; batches differ in size, and in 200 steps the process grows by half as
much more.
"""


@cache
def layer_rate(dtype: torch.dtype, device: torch.device, backward: bool, seconds: float = 0.5) -> float:
    """Measure throughput on a layer as a small language model has it: matrix multiplications and what lies between.

    Matrix multiplication alone misleads: where a processor is quick at it, the rest takes most of the time. Measured
    once in a process.

    Args:
        dtype: what the language model computes in.
        device: where.
        backward: also go back to the layer's input, as training through a frozen model does.
        seconds: about how long to measure.

    Returns:
        Floating-point operations of the matrix multiplications, per second of the whole.
    """
    rows, hidden, inner = 1024, 576, 1536
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(device, dtype)

    x = normal(rows, hidden).requires_grad_(backward)
    gate, up, down = normal(inner, hidden) * 0.02, normal(inner, hidden) * 0.02, normal(hidden, inner) * 0.02

    def run() -> None:
        wide = x.float()
        normed = (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + 1e-5)).to(dtype)
        activated = functional.silu(functional.linear(normed, gate)) * functional.linear(normed, up)
        y = x + functional.linear(activated, down)
        if backward:
            torch.autograd.grad(y.sum(), x)
        y[0, 0].item()

    with torch.set_grad_enabled(backward):
        run()
        runs, start = 0, time.perf_counter()
        while (passed := time.perf_counter() - start) < seconds or not runs:
            run()
            runs += 1
    return runs * 2 * 3 * rows * hidden * inner * (1 + backward) / passed


@cache
def memory_rate(device: torch.device, seconds: float = 0.2) -> float:
    """Measure the bytes per second of adding one large tensor to another."""
    a, b = torch.zeros(8_000_000, device=device), torch.zeros(8_000_000, device=device)
    a.add_(b)[0].item()
    runs, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds or not runs:
        a.add_(b)[0].item()
        runs += 1
    return runs * 3 * a.numel() * a.element_size() / passed


def phase2_forecast(
    model: Any,
    tokens_per_step: int,
    steps: int,
    device: torch.device,
    distilled: bool = False,
    more_flops: float = 0.0,
    largest: int = 0,
    checkpointed: bool = False,
) -> str:
    """Estimate time and memory of phase 2 from the model's size and this machine's measured speed.

    Args:
        model: an ``ItemLanguageModel``.
        tokens_per_step: tokens of one batch, on average.
        steps: optimiser steps.
        device: where training will run.
        distilled: whether a teacher reads every batch as well, with the items' texts in its prompts.
        more_flops: operations a step beside the language model's.
        largest: tokens of the largest batch, which decides the memory; by default the average.
        checkpointed: activations are computed twice instead of being kept.

    Returns:
        One line for the screen; it says so where a CPU's free memory will not suffice.
    """
    weights = sum(p.numel() for p in model.lm.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    lm_trained = sum(p.numel() for p in model.lm.parameters() if p.requires_grad)
    # items' texts about double what a teacher reads
    passes = (3 if lm_trained > weights // 2 else 2) + 2 * distilled
    rate = layer_rate(model.compute_dtype, device, backward=True)
    seconds = OVERHEAD * steps * (tokens_per_step * 2 * weights * passes + more_flops) / rate
    seconds += steps * trained * UPDATE / memory_rate(device)
    width = {torch.float32: 4, torch.bfloat16: 2}[model.compute_dtype]
    largest = max(largest, tokens_per_step)
    memory = sum(p.numel() * p.element_size() for p in model.parameters()) + 12 * trained + 1.2e9
    memory += largest * width * kept_activations(model.lm.config, checkpointed)
    lengths = f"about {tokens_per_step} tokens"
    if largest > 1.5 * tokens_per_step:
        lengths += f", the largest of about {largest}"
    line = f"forecast: {steps} steps of {lengths}, about {clock(seconds)}, about {memory / 1e9:.1f} GB of memory"
    free = available_memory() if device.type == "cpu" else None
    if free is not None and memory - resident_memory() > free:
        line += f", but {free / 1e9:.1f} GB are free: lower tuning.batch_size"
        line += "" if checkpointed else " or set trainer.activation_checkpointing=true"
    return line


def kept_activations(config: Any, checkpointed: bool = False) -> int:
    """Numbers that a language model keeps of a token for the backward pass.

    Counted for Llama's layers with LoRA, norms in float32: on SmolLM2-135M in bf16 1.4 MB a token, as measured with
    6,600 tokens in a batch.

    Args:
        config: transformers' configuration of the model.
        checkpointed: only the layers' inputs are kept, and what one layer needs while it is computed again.
    """
    hidden = int(config.hidden_size)
    named = (getattr(config, name, None) for name in ("intermediate_size", "d_ff", "ffn_dim", "n_inner"))
    inner = next((int(width) for width in named if width), 4 * hidden)
    layer, layers = 24 * hidden + 6 * inner, int(config.num_hidden_layers)
    return layers * hidden + layer if checkpointed else layers * layer


def phase1_forecast(model: Any, batches: Mapping[str, tuple[Any, int]], precision: str, device: torch.device) -> str:
    """Estimate time and memory of phase 1 from forward passes of one batch of each kind.

    The first tells the memory, the second warms up, the third is timed; a backward pass takes twice a forward one.

    Args:
        model: a ``PretrainingModel``; it is moved to the device.
        batches: per kind one batch, and how many of its kind will be trained on.
        precision: Lightning's, ``bf16-mixed`` or ``32-true``.
        device: where training will run.

    Returns:
        One line for the screen.
    """
    model.to(device)
    # with the weights, and all that the stages before have left
    here = torch.cuda.memory_allocated(device) if device.type == "cuda" else resident_memory()
    seconds, largest = 0.0, 0
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        for batch, steps in move_data_to_device(dict(batches), device).values():
            kept: dict[int, int] = {}

            def keep(tensor: torch.Tensor, kept: dict[int, int] = kept) -> torch.Tensor:
                kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                model(batch)
            with torch.autocast(device.type, torch.bfloat16, enabled=precision.startswith("bf16")):
                model(batch)
                seconds += 3 * steps * timed(partial(model, batch), device)
            largest = max(largest, sum(kept.values()))
    steps = sum(count for _, count in batches.values())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    seconds += steps * trained * UPDATE / memory_rate(device)
    memory = here + 12 * trained + BACKWARD * largest
    return f"forecast: {steps} steps, about {clock(seconds)}, about {memory / 1e9:.1f} GB of memory"


def timed(run: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call."""
    if device.type == "cuda":
        # what was asked before and is still under way
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def texts_forecast(model: Any, texts: int, tokens: float, new_tokens: int, losses: int) -> str:
    """Estimate how long evaluation takes to write texts and to score targets.

    Args:
        model: an ``ItemLanguageModel``.
        texts: number of texts.
        tokens: of an example, prompt and target.
        new_tokens: the most that a text may have.
        losses: number of targets whose loss is taken.

    Returns:
        One line for the screen.
    """
    weights = sum(p.numel() for p in model.lm.parameters())
    read = texts * (tokens + new_tokens) + losses * tokens
    seconds = OVERHEAD * 2 * weights * read / layer_rate(model.compute_dtype, model.device, backward=False)
    scored = f" and the losses of {losses:,} targets" if losses else ""
    return f"forecast: {texts:,} texts{scored}, at most about {clock(seconds)}"
