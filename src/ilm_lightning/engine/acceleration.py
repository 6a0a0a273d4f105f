"""Switches for GPUs: parts compiled by torch, activations computed twice."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from ilm_lightning.engine.checks import ConfigError
from ilm_lightning.engine.config_trainer import TrainerConfig

log = logging.getLogger("ilm_lightning")


def accelerate(model: nn.Module, config: TrainerConfig, compiler: Callable[..., Any] | str = "inductor") -> None:
    """Apply the switches to a model of either phase; a second call changes nothing.

    Each part is compiled in pieces that repeat (a layer, a feed-forward network), with shapes free, so that compiling
    takes seconds and no batch compiles anew. Names of weights stay.

    Args:
        model: ``PretrainingModel`` or ``ItemLanguageModel``.
        config: the trainer's settings.
        compiler: backend of ``torch.compile``.

    Raises:
        ConfigError: activations of a language model that has no layers known to transformers.
    """
    if config.compile and not torch.cuda.is_available():
        log.warning("trainer.compile: on a CPU compiled parts are slower than plain ones, after half a minute's wait")
    for part in config.compile:
        for module in compiled_pieces(model, part):
            if module._compiled_call_impl is None:
                module.compile(dynamic=True, backend=compiler)
    if config.activation_checkpointing and isinstance(lm := getattr(model, "lm", None), nn.Module):
        from ilm_lightning.lm.checkpointing import checkpoint_activations

        try:
            checkpoint_activations(lm)
        except ValueError as error:
            raise ConfigError(str(error)) from None


def compiled_pieces(model: nn.Module, part: str) -> Iterator[nn.Module]:
    """Modules of a part that are compiled one by one; none where the model has no such part.

    Args:
        model: of either phase.
        part: ``adapter``, ``text`` or ``lm``.
    """
    from ilm_lightning.adapters.layers import CrossAttention, FeedForward, SelfAttention

    owner = getattr(model, {"adapter": "adapter", "text": "text_branch", "lm": "lm"}[part], None)
    if owner is None:
        return
    if part == "lm":
        from transformers.modeling_layers import GradientCheckpointingLayer

        yield from (module for module in owner.modules() if isinstance(module, GradientCheckpointingLayer))
        return
    pieces = [module for module in owner.modules() if isinstance(module, SelfAttention | CrossAttention | FeedForward)]
    yield from pieces or [owner]
