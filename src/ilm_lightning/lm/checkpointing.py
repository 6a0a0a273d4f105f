"""Activation checkpointing of the language model: what a layer makes inside is made again in the backward pass."""

from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def checkpoint_activations(lm: nn.Module) -> int:
    """Let every layer of a language model keep its input alone; losses and gradients stay the same.

    Transformers' own switch acts in training mode only, which a frozen language model is never put into.

    Args:
        lm: a causal language model of transformers, plain or wrapped by peft; changed in place, once.

    Returns:
        Number of layers.

    Raises:
        ValueError: the model's layers are not known.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    layers = [module for module in lm.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise ValueError(
            f"trainer.activation_checkpointing: transformers names no layers of {type(lm).__name__}; set it to false"
        )
    for layer in layers:
        # a bound method, so that a copy of the model is bound to its own layers
        vars(layer)["forward"] = MethodType(_forward, layer)
    return len(layers)


def checkpoints_activations(lm: nn.Module) -> bool:
    """Tell whether ``checkpoint_activations`` has changed a language model."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    return any("forward" in vars(module) for module in lm.modules() if isinstance(module, GradientCheckpointingLayer))


def _forward(layer: nn.Module, *args: Any, **kwargs: Any) -> Any:
    from ilm_lightning.lm.cache import keeps_nothing

    own = partial(type(layer).forward, layer)
    # a cache would be written to a second time
    if not torch.is_grad_enabled() or not keeps_nothing(kwargs.get("past_key_values")):
        return own(*args, **kwargs)
    return checkpoint(partial(own, **kwargs), *args, use_reentrant=False)
