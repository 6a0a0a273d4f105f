"""Keys and values of earlier tokens: with room to grow, so that new ones are written in; or not kept."""

from typing import TYPE_CHECKING, Any

from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

if TYPE_CHECKING:
    from transformers import PretrainedConfig

ROOM = 32
"""Tokens of room that are made at once in writing: copying then costs a thirty-second part of what it would."""


class RoomyLayer(DynamicLayer):
    """One layer's keys and values, as views ``[B, K, T, d]`` of buffers that are longer."""

    def __init__(self, room: int = ROOM, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._room = room
        self._buffers: list[Tensor] = []

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write new tokens behind the others.

        Args:
            key_states: ``[B, K, t, d]``.
            value_states: ``[B, K, t, d]``.
            args: what other caches take; not used.
            kwargs: the same.

        Returns:
            Keys and values of all tokens, ``[B, K, T + t, d]``.
        """
        new = [key_states, value_states]
        if not self._buffers:
            self.lazy_initialization(key_states, value_states)
            self._buffers = [states.new_empty(*states.shape[:2], 0, states.shape[3]) for states in new]
            self.keys, self.values = self._buffers
        start = self.keys.shape[2]
        end = start + key_states.shape[2]
        if end > self._buffers[0].shape[2]:
            for place, old in enumerate((self.keys, self.values)):
                longer = old.new_empty(*old.shape[:2], end + self._room, old.shape[3])
                longer[:, :, :start] = old
                self._buffers[place] = longer
        for buffer, states in zip(self._buffers, new, strict=True):
            buffer[:, :, start:end] = states
        self.keys, self.values = (buffer[:, :, :end] for buffer in self._buffers)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep some rows of the batch.

        Args:
            indices: ``[b]``, which.
        """
        if self._buffers:
            length = self.keys.shape[2]
            self._buffers = [buffer[indices] for buffer in self._buffers]
            self.keys, self.values = (buffer[:, :, :length] for buffer in self._buffers)


class PassingLayer(DynamicLayer):
    """A layer that keeps nothing: tokens see those of their own pass."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Hand keys and values ``[B, K, T, d]`` back."""
        return key_states, value_states


def passing_cache(config: "PretrainedConfig") -> DynamicCache | None:
    """Build a cache that keeps nothing, for a pass over whole rows without a mask.

    Without any cache transformers looks whether rows are packed of several sequences, and a GPU's host waits for it.

    Args:
        config: the model's.

    Returns:
        The cache; None for models with layers of another kind, which keep what they need themselves.
    """
    cache = DynamicCache(config=config)
    if not cache.layers or any(type(layer) is not DynamicLayer for layer in cache.layers):
        return None
    cache.layers = [PassingLayer() for _ in cache.layers]
    return cache


def keeps_nothing(cache: object) -> bool:
    """Tell whether a pass may run again with this cache: None, or one that keeps nothing."""
    return cache is None or (
        isinstance(cache, DynamicCache) and all(isinstance(layer, PassingLayer) for layer in cache.layers)
    )


def roomy_cache(config: "PretrainedConfig", room: int = ROOM) -> DynamicCache:
    """Build an empty cache for a language model.

    Args:
        config: the model's; layers with a window of their own keep transformers' kind.
        room: tokens of room that are made at once.

    Returns:
        The cache. Only growing and ``batch_select_indices`` are cheap.
    """
    cache = DynamicCache(config=config)
    cache.layers = [RoomyLayer(room) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache
