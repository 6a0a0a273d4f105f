"""The batch that phase 2 trains on: token ids with placeholder positions, and the vectors that go there."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

PLACEHOLDER_ID = -1
"""Id of a soft-token position. Outside every vocabulary, so the embedding matrix is never resized."""

IGNORE_INDEX = -100
"""Label of a position that is no target, as in ``torch.nn.functional.cross_entropy``."""

FUSED_ATTENTION = frozenset({"sdpa", "flash_attention_2", "flash_attention_3"})
"""Attention functions of transformers that are causal by themselves where they get no mask."""


def moved(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Return a tensor on a device; a GPU fetches what lies in page-locked memory while the host goes on."""
    return tensor.to(device, non_blocking=torch.device(device).type == "cuda")


@dataclass(frozen=True)
class ContextBatch:
    """What a teacher reads of a batch: the same targets after prompts that hold the items' texts.

    Attributes:
        rows: ``[b]``, int64, ascending; the batch's examples that have such a prompt.
        input_ids: ``[b, T']``, int64.
        attention_mask: ``[b, T']``, int64.
        labels: ``[b, T']``, int64; the target tokens, ``IGNORE_INDEX`` elsewhere.
    """

    rows: Tensor
    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor

    def map(self, change: Callable[[Tensor], Tensor]) -> "ContextBatch":
        """Return the same with every tensor changed."""
        return ContextBatch(change(self.rows), change(self.input_ids), change(self.attention_mask), change(self.labels))


@dataclass(frozen=True)
class Targets:
    """The target tokens of a batch, example by example.

    Attributes:
        places: ``[m]``, int64; places ``row * T + column`` whose hidden states predict them.
        ids: ``[m]``, int64; the tokens.
        examples: ``[n]``, int64; the example of each target token.
        weights: ``[n]``, float32, or None for equal weights.
        copies: ``[n]``, int64; each target token's row among the ``m`` predictions, where examples that share their
            words share predictions; None where ``m`` is ``n`` and the order is the same.
    """

    places: Tensor
    ids: Tensor
    examples: Tensor
    weights: Tensor | None = None
    copies: Tensor | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> "Targets":
        """Return the same with every tensor changed."""
        weights = None if self.weights is None else change(self.weights)
        copies = None if self.copies is None else change(self.copies)
        return Targets(change(self.places), change(self.ids), change(self.examples), weights, copies)


@dataclass(frozen=True)
class Counts:
    """What a step needs to know of a batch before it is computed: looked up on a GPU, each would stop the step.

    Attributes:
        targets: the target tokens.
        n_tokens: tokens that are no padding.
        n_placeholders: positions of soft tokens.
    """

    targets: Targets
    n_tokens: int
    n_placeholders: int

    def map(self, change: Callable[[Tensor], Tensor]) -> "Counts":
        """Return the same with every tensor changed."""
        return replace(self, targets=self.targets.map(change))


@dataclass(frozen=True)
class PromptBatch:
    """Prompts with item slots, their targets, and the vectors of the batch's unique slots.

    Attributes:
        input_ids: token ids ``[B, T]``, int64; soft-token positions hold ``PLACEHOLDER_ID``.
        attention_mask: ``[B, T]``, int64; 1 where there is a token.
        labels: ``[B, T]``, int64; ``IGNORE_INDEX`` where the token is no target.
        sources: per source of the encoder, the vectors of the unique slots ``[u, d_s]``, float32.
        slot_index: ``[n_slots]``, int64; the unique row of each slot, slots counted row by row.
        example_ids: the ``B`` examples' ids.
        token_weights: weight of each target token ``[B, T]``, float32, or None for equal weights.
        context: what a teacher of context distillation reads, or None.
        counts: what was counted before the batch went to a GPU, or None.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    sources: Mapping[str, Tensor]
    slot_index: Tensor
    example_ids: list[str]
    token_weights: Tensor | None = None
    context: ContextBatch | None = None
    counts: Counts | None = None

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.example_ids)

    @property
    def n_tokens(self) -> int:
        """Number of tokens that are no padding."""
        return int(self.attention_mask.sum()) if self.counts is None else self.counts.n_tokens

    @property
    def n_placeholders(self) -> int:
        """Number of soft-token positions."""
        return int((self.input_ids == PLACEHOLDER_ID).sum()) if self.counts is None else self.counts.n_placeholders

    @property
    def targets(self) -> Targets:
        """The target tokens in reading order."""
        if self.counts is not None:
            return self.counts.targets
        is_target = self.labels[:, 1:] != IGNORE_INDEX
        rows, columns = is_target.nonzero(as_tuple=True)
        weights = None if self.token_weights is None else self.token_weights[:, 1:][is_target]
        # the token before a target predicts it
        return Targets(rows * self.labels.shape[1] + columns, self.labels[:, 1:][is_target], rows, weights)

    def _counted(self) -> Counts:
        return Counts(self.targets, self.n_tokens, self.n_placeholders) if self.counts is None else self.counts

    def attention_inputs(self, attention: str | None, dtype: torch.dtype) -> dict[str, Any]:
        """What a language model needs to know about who sees whom, beside the embeddings.

        Args:
            attention: name of the language model's attention function.
            dtype: what the language model computes in.
        """
        # no token sees the padding behind it, and without a mask fused kernels skip what lies ahead
        return {"attention_mask": None if attention in FUSED_ATTENTION else self.attention_mask}

    def to(self, device: torch.device | str) -> "PromptBatch":
        """Return the batch with all its tensors on ``device``, counted first."""

        def move(tensor: Tensor) -> Tensor:
            return moved(tensor, device)

        return replace(
            self,
            counts=self._counted().map(move),
            input_ids=move(self.input_ids),
            attention_mask=move(self.attention_mask),
            labels=move(self.labels),
            sources={name: move(vectors) for name, vectors in self.sources.items()},
            slot_index=move(self.slot_index),
            token_weights=None if self.token_weights is None else move(self.token_weights),
            context=None if self.context is None else self.context.map(move),
        )

    def weightless(self) -> "PromptBatch":
        """Return the batch with no weight on any target."""
        return replace(self, token_weights=torch.zeros(self.labels.shape), counts=None)

    def pin_memory(self) -> "PromptBatch":
        """Return the batch in page-locked memory (called by ``DataLoader(pin_memory=True)``)."""
        return replace(
            self,
            counts=self._counted().map(Tensor.pin_memory),
            input_ids=self.input_ids.pin_memory(),
            attention_mask=self.attention_mask.pin_memory(),
            labels=self.labels.pin_memory(),
            sources={name: vectors.pin_memory() for name, vectors in self.sources.items()},
            slot_index=self.slot_index.pin_memory(),
            token_weights=None if self.token_weights is None else self.token_weights.pin_memory(),
            context=None if self.context is None else self.context.map(Tensor.pin_memory),
        )
