"""Examples to batches: padding, unique slots, and batches of similar length."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Sampler

from ilm_lightning.lm.batch import IGNORE_INDEX, PromptBatch
from ilm_lightning.lm.prompts import TokenisedExample
from ilm_lightning.ranks import rank, world_size

Slot = tuple[int, ...]
MEGA_BATCH = 50
"""Batches that are shuffled together before they are sorted by length: 1-4 % padding on skewed lengths."""


def interpolate(vectors: Tensor) -> Tensor:
    """Return the vector between items: their mean, rescaled to the mean of their norms.

    Args:
        vectors: ``[..., k, d]``, one row per item.

    Returns:
        ``[..., d]``; the vector itself where ``k`` is 1.

    >>> interpolate(torch.tensor([[3.0, 0.0], [0.0, 1.0]])).tolist()
    [1.8973665237426758, 0.6324555277824402]
    """
    if vectors.shape[-2] == 1:
        return vectors.squeeze(-2)
    mean = vectors.mean(-2)
    norm = vectors.norm(dim=-1).mean(-1, keepdim=True)
    length = mean.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(mean.dtype).tiny)
    between: Tensor = mean * norm / length
    return between


class Collator:
    """Builds a ``PromptBatch`` from tokenised examples; no text is touched.

    Args:
        vectors: per source, the vectors of all catalogue rows ``[I, d_s]``, or of items and then users
            (``ItemVectors.slot_tensors``).
        row_map: ``[I]``, int64: the row whose vector each row receives (the shuffled control); None for its own.

    Raises:
        ValueError: if the sources or the map disagree about the number of items.
    """

    def __init__(self, vectors: Mapping[str, Tensor], row_map: Tensor | None = None) -> None:
        counts = {name: len(rows) for name, rows in vectors.items()}
        if not counts or len(set(counts.values())) != 1:
            raise ValueError(f"the sources of item vectors must have one row per item each, got rows {counts}")
        self.n_items = next(iter(counts.values()))
        if row_map is not None and row_map.shape != (self.n_items,):
            raise ValueError(f"row_map has shape {tuple(row_map.shape)}, the catalogue {self.n_items} items")
        self.vectors = {name: rows.float() for name, rows in vectors.items()}
        self.row_map = None if row_map is None else row_map.long()

    def with_row_map(self, row_map: Tensor | None) -> "Collator":
        """Return a collator on the same vectors that reads them through another map."""
        return Collator(self.vectors, row_map)

    def slot_sources(self, slots: Sequence[Slot]) -> dict[str, Tensor]:
        """Return the vectors of slots.

        Args:
            slots: one tuple of rows per slot.

        Returns:
            Per source ``[len(slots), d_s]``, float32.

        Raises:
            ValueError: if a row is not in the catalogue.
        """
        highest = max((max(slot) for slot in slots), default=-1)
        if highest >= self.n_items or min((min(slot) for slot in slots), default=0) < 0:
            raise ValueError(f"a slot names row {highest}, but there are vectors of {self.n_items} items (and users)")
        first = self._rows([slot[0] for slot in slots])
        sources = {name: rows[first] for name, rows in self.vectors.items()}
        for position, slot in enumerate(slots):
            if len(slot) > 1:
                between = self._rows(list(slot))
                for name, rows in self.vectors.items():
                    sources[name][position] = interpolate(rows[between])
        return sources

    def row_sources(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        """Return the vectors of slots of one row each.

        Args:
            rows: ``[n]`` rows of the catalogue.

        Returns:
            Per source ``[n, d_s]``, float32.
        """
        index = torch.tensor(rows)
        index = index if self.row_map is None else self.row_map[index]
        return {name: vectors[index] for name, vectors in self.vectors.items()}

    def _rows(self, rows: list[int]) -> Tensor:
        index = torch.tensor(rows, dtype=torch.long)
        return index if self.row_map is None else self.row_map[index]

    def __call__(self, examples: Sequence[TokenisedExample]) -> PromptBatch:
        """Pad examples on the right, prompt followed by target: the batch to train or score on."""
        width = max(len(example) for example in examples)
        ids, mask, labels = empty_batch(len(examples), width)
        weights = torch.zeros(len(examples), width) if any(e.token_weights is not None for e in examples) else None
        for row, example in enumerate(examples):
            start, end = len(example.prompt_ids), len(example)
            ids[row, :start] = torch.from_numpy(example.prompt_ids)
            # answers may lie in a file that cannot be written to, of which torch would warn
            ids[row, start:end] = labels[row, start:end] = torch.tensor(example.target_ids, dtype=torch.long)
            mask[row, :end] = 1
            if weights is not None:
                given = example.token_weights
                weights[row, start:end] = 1.0 if given is None else torch.from_numpy(given)
        return self._batch(examples, ids, mask, labels, weights)

    def prompts(self, examples: Sequence[TokenisedExample]) -> PromptBatch:
        """Pad the prompts alone, on the left: the batch to generate from. It has no labels."""
        width = max(len(example.prompt_ids) for example in examples)
        ids, mask, labels = empty_batch(len(examples), width)
        for row, example in enumerate(examples):
            start = width - len(example.prompt_ids)
            ids[row, start:] = torch.from_numpy(example.prompt_ids)
            mask[row, start:] = 1
        return self._batch(examples, ids, mask, labels, None)

    def _batch(
        self, examples: Sequence[TokenisedExample], ids: Tensor, mask: Tensor, labels: Tensor, weights: Tensor | None
    ) -> PromptBatch:
        slots, index = unique_slots(examples)
        names = [example.example_id for example in examples]
        return PromptBatch(ids, mask, labels, self.slot_sources(slots), index, names, weights)


def own_share(examples: Sequence[TokenisedExample]) -> list[TokenisedExample]:
    """This process's part of a batch of all processes: every W-th example.

    A last batch may hold fewer examples than there are processes: then one is read, and its tokens weigh nothing.
    """
    mine = list(examples[rank() :: world_size()])
    return mine or [replace(examples[0], token_weights=np.zeros(len(examples[0].target_ids), np.float32))]


def unique_slots(examples: Sequence[TokenisedExample]) -> tuple[list[Slot], Tensor]:
    """List the distinct slots of examples.

    Returns:
        The distinct slots in order of appearance, and for each slot occurrence, row by row, its place there.
    """
    known: dict[Slot, int] = {}
    index = [known.setdefault(slot, len(known)) for example in examples for slot in example.slots]
    return list(known), torch.tensor(index, dtype=torch.long)


def empty_batch(rows: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids, mask and labels ``[rows, width]`` of a batch that holds nothing but padding."""
    shape = (rows, width)
    ids, mask = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    return ids, mask, torch.full(shape, IGNORE_INDEX)


def sorted_batches(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Batches for evaluation: every example exactly once, longest first, so that memory peaks at once.

    >>> sorted_batches([3, 9, 5], 2)
    [[1, 2], [0]]
    """
    order = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


class LengthGroupedSampler(Sampler[list[int]]):
    """Batches of similar length in random order; epoch ``e``'s order is a function of ``(seed, e)`` alone.

    Each iteration runs from the current position to the end of the epoch and then moves to the next epoch.
    Use as ``DataLoader(batch_sampler=…)``.

    Args:
        lengths: tokens of each example.
        batch_size: examples per batch; the last one of an epoch may be smaller.
        seed: seed of the order.
        rank: this process among ``world_size``; each takes every ``world_size``-th batch, all equally many.
        world_size: number of processes.

    Raises:
        ValueError: if there are no examples, too few for the processes, or ``batch_size`` is below 1.
    """

    def __init__(
        self, lengths: Sequence[int], batch_size: int, seed: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        self.lengths: NDArray[np.int64] = np.asarray(lengths, np.int64)
        self.batch_size, self.seed, self.rank, self.world_size = batch_size, seed, rank, world_size
        self.epoch = self.position = 0
        self._cached: tuple[int, list[list[int]]] = (-1, [])
        if len(self) == 0:
            raise ValueError(f"{len(lengths)} examples give no batch of {batch_size} for {world_size} processes")

    def __len__(self) -> int:
        """Return the number of batches of an epoch on this process."""
        return -(-len(self.lengths) // self.batch_size) // self.world_size

    def batches(self, epoch: int) -> list[list[int]]:
        """Return this process's batches of an epoch, each a list of example rows."""
        rng = np.random.default_rng((self.seed, epoch))
        order = rng.permutation(len(self.lengths))
        mega = self.batch_size * MEGA_BATCH
        # the first batch holds the longest example of its group, which shows a memory problem early
        groups = [order[start : start + mega] for start in range(0, len(order), mega)]
        ordered = np.concatenate([group[np.argsort(-self.lengths[group], kind="stable")] for group in groups])
        batches = [ordered[start : start + self.batch_size] for start in range(0, len(ordered), self.batch_size)]
        mine = rng.permutation(len(batches))[: len(self) * self.world_size][self.rank :: self.world_size]
        return [batches[index].tolist() for index in mine]

    def batch_at(self, step: int) -> list[int]:
        """Return the batch of training step ``step``, counted from 0 over all epochs: a function of it alone."""
        epoch, position = divmod(step, len(self))
        if self._cached[0] != epoch:
            self._cached = (epoch, self.batches(epoch))
        return self._cached[1][position]

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the batches from the current position to the end of the epoch."""
        while self.position < len(self):
            self.position += 1
            yield self.batch_at(self.epoch * len(self) + self.position - 1)
        self.epoch, self.position = self.epoch + 1, 0

    def seek(self, n_batches: int) -> None:
        """Move to the place after ``n_batches`` batches from the start of training.

        Workers of a ``DataLoader`` draw batches ahead; a resumed run therefore seeks by the steps it has made.
        """
        self.epoch, self.position = divmod(n_batches, len(self))

    def state_dict(self) -> dict[str, int]:
        """Return seed, epoch and position."""
        return {"seed": self.seed, "epoch": self.epoch, "position": self.position, "batches": len(self)}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Continue where another sampler over the same examples stood.

        Raises:
            ValueError: if seed or number of batches differ, so that the order would be another one.
        """
        mine = self.state_dict()
        for key in ("seed", "batches"):
            if state[key] != mine[key]:
                raise ValueError(
                    f"the saved sampler has {key} {state[key]}, this one {mine[key]}; resume with the same data, "
                    "batch size and seed, or start a new run"
                )
        self.epoch, self.position = state["epoch"], state["position"]
