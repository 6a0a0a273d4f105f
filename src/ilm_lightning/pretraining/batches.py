"""Batches of phase 1: an endless stream whose k-th batch depends on (seed, k) only, and one pass for evaluation.

So a run that is resumed at step k reads what the uninterrupted run would have read, with nothing to store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ilm_lightning.pretraining.pairs import KINDS, EdgePairs, Ints, PairSets, TextPairs

SCHEDULE_PERIOD = 1000
"""The order of the kinds repeats after this many steps; shares are exact to one part in it."""


@dataclass
class ItemTextBatch:
    """B items with one text each, padded to the longest text t.

    Attributes:
        step: number of the batch.
        items: [B] catalogue rows.
        text_ids: [B], equal for equal texts.
        token_ids: [B, t], 0 where padded.
        mask: [B, t] bool, True on tokens.
        bag_items: [T], row of the batch of each bag entry (vocabulary grounding).
        bag_tokens: [T], row of the grounding vocabulary of each bag entry.
        n_tokens: tokens of the texts that are no padding, counted before the batch goes to a GPU.
    """

    step: int
    items: Tensor
    text_ids: Tensor
    token_ids: Tensor
    mask: Tensor
    bag_items: Tensor
    bag_tokens: Tensor
    n_tokens: int = field(init=False)

    joint: ClassVar[bool] = True
    """Each of several processes reads the whole batch."""

    def __post_init__(self) -> None:
        self.n_tokens = int(self.mask.sum())

    def __len__(self) -> int:
        """Items of the batch."""
        return len(self.items)

    def pin_memory(self) -> ItemTextBatch:
        """The same in page-locked memory (called by ``DataLoader(pin_memory=True)``)."""
        return replace(self, **_pinned(self))


@dataclass
class PairBatch:
    """B related pairs, and for each at most one unrelated partner from the same batch.

    Attributes:
        step: number of the batch.
        kind: "item_item" or "user_item".
        left: [B] catalogue rows, or user indices.
        right: [B] catalogue rows.
        related: [B, B] bool, combinations of left and right that are no negatives; True on the diagonal.
        negatives: [B], row of `right` that is unrelated to `left`; -1 where the batch has none.
    """

    step: int
    kind: str
    left: Tensor
    right: Tensor
    related: Tensor
    negatives: Tensor

    joint: ClassVar[bool] = True
    n_tokens: ClassVar[int] = 0
    """Pairs have no text."""

    def __len__(self) -> int:
        """Pairs of the batch."""
        return len(self.left)

    def pin_memory(self) -> PairBatch:
        """The same in page-locked memory."""
        return replace(self, **_pinned(self))


Batch = ItemTextBatch | PairBatch


def _pinned(batch: Batch) -> dict[str, Any]:
    return {name: value.pin_memory() for name, value in vars(batch).items() if isinstance(value, Tensor)}


def schedule(proportions: Mapping[str, float], period: int = SCHEDULE_PERIOD) -> list[str]:
    """Order of the kinds over one period, each spread evenly.

    Args:
        proportions: relative share of each kind; those with share 0 do not occur.
        period: length of the order.

    Raises:
        ValueError: a share is negative, or all are 0.

    Example:
        >>> schedule({"item_text": 2, "item_item": 1}, 6)
        ['item_text', 'item_item', 'item_text', 'item_text', 'item_item', 'item_text']
    """
    total = float(sum(proportions.values()))
    if total <= 0 or min(proportions.values()) < 0:
        raise ValueError(f"pretraining.proportions={dict(proportions)}: shares must be at least 0 and not all 0")
    credit = dict.fromkeys(proportions, 0.0)
    order = []
    for _ in range(period):
        for kind in credit:
            credit[kind] += proportions[kind] / total
        # rounded: equal shares must not be ordered by the last bit of a float
        chosen = max(credit, key=lambda kind: round(credit[kind], 9))
        credit[chosen] -= 1.0
        order.append(chosen)
    return order


class PairBatches:
    """Endless training batches; `batches[k]` is a pure function of the sets, the seed and k.

    Every pair of a set is seen once before any is seen twice.

    Args:
        sets: training part of each pair set that the losses need.
        proportions: relative share of each kind among the batches; kinds without a set are ignored.
        batch_sizes: pairs in a batch of each kind; a set that is smaller gives batches of its own size.
        seed: of order and negatives.
        vocabulary: sorted LLM token ids of the grounding vocabulary; empty = no bags.

    Raises:
        ValueError: no set, a set without a share or batch size, or an impossible share.
    """

    def __init__(
        self,
        sets: PairSets,
        proportions: Mapping[str, float],
        batch_sizes: Mapping[str, int],
        seed: int,
        vocabulary: Ints | None = None,
    ) -> None:
        _check(sets, batch_sizes)
        if missing := [kind for kind in sets if kind not in proportions]:
            raise ValueError(f"pretraining.proportions names no share for {', '.join(missing)}")
        self.sets, self.seed, self.vocabulary = dict(sets), seed, vocabulary
        self.batch_sizes = {kind: min(batch_sizes[kind], len(pairs)) for kind, pairs in sets.items()}
        self.order = schedule({kind: proportions[kind] for kind in KINDS if kind in sets})
        codes = np.asarray([KINDS.index(kind) for kind in self.order])
        # before[j, k]: batches of kind j among the first k of a period
        self._before = np.cumsum(np.arange(len(KINDS))[:, None] == np.concatenate([[-1], codes]), axis=1)
        self._permutations: dict[tuple[str, int], Ints] = {}

    def __getitem__(self, step: int) -> Batch:
        """The batch of step 0, 1, 2 and so on."""
        period, place = divmod(step, len(self.order))
        kind = self.order[place]
        counts = self._before[KINDS.index(kind)]
        nth = int(period * counts[-1] + counts[place])
        size = self.batch_sizes[kind]
        rows = self._rows(kind, nth * size, (nth + 1) * size)
        return collate(self.sets[kind], rows, step, self.seed, self.vocabulary)

    def one_of_each(self, steps: int) -> dict[str, tuple[Batch, int]]:
        """Per kind its first batch, and how many of the first ``steps`` batches are of that kind."""
        kinds = [self.order[step % len(self.order)] for step in range(steps)]
        return {kind: (self[kinds.index(kind)], kinds.count(kind)) for kind in dict.fromkeys(kinds)}

    def _rows(self, kind: str, start: int, stop: int) -> Ints:
        """Places start..stop of the endless sequence of shuffled passes."""
        n = len(self.sets[kind])
        places = np.arange(start, stop)
        passes = {int(number): self._permutation(kind, int(number), n) for number in np.unique(places // n)}
        return np.asarray([passes[int(place // n)][place % n] for place in places], dtype=np.int64)

    def _permutation(self, kind: str, number: int, n: int) -> Ints:
        key = (kind, number)
        if key not in self._permutations:
            for old in [k for k in self._permutations if k[0] == kind and abs(k[1] - number) > 1]:
                del self._permutations[old]
            self._permutations[key] = np.random.default_rng([self.seed, KINDS.index(kind), number]).permutation(n)
        return self._permutations[key]


class EvaluationBatches(Sequence[Batch]):
    """Every held-out pair once, in batches of nearly equal size (a contrastive loss depends on the size).

    Args:
        sets: held-out part of each pair set.
        batch_sizes: most pairs in a batch of each kind.
        seed: of the negatives.
        vocabulary: as in `PairBatches`.
        limit: at most this many pairs of each set, drawn with `seed`.

    Raises:
        ValueError: as `PairBatches`.
    """

    def __init__(
        self,
        sets: PairSets,
        batch_sizes: Mapping[str, int],
        seed: int,
        vocabulary: Ints | None = None,
        limit: int | None = None,
    ) -> None:
        _check(sets, batch_sizes)
        self.sets, self.seed, self.vocabulary = dict(sets), seed, vocabulary
        self._plan: list[tuple[str, Ints]] = []
        for kind, pairs in sets.items():
            rows = np.random.default_rng([seed, KINDS.index(kind)]).permutation(len(pairs))[:limit]
            parts = np.array_split(rows, -(-len(rows) // batch_sizes[kind]))
            self._plan += [(kind, part) for part in parts]

    def __len__(self) -> int:
        """Number of batches."""
        return len(self._plan)

    def __getitem__(self, index: int) -> Batch:  # type: ignore[override]
        """The batch at `index`; slices are not needed."""
        kind, rows = self._plan[index]
        return collate(self.sets[kind], rows, index, self.seed, self.vocabulary)


def collate(pairs: TextPairs | EdgePairs, rows: Ints, step: int, seed: int, vocabulary: Ints | None) -> Batch:
    """The batch made of the pairs at `rows`; negatives are drawn with (seed, step)."""
    if isinstance(pairs, TextPairs):
        return _collate_texts(pairs, rows, step, vocabulary)
    left, right = pairs.left[rows], pairs.right[rows]
    related = pairs.related(left, right)
    np.fill_diagonal(related, True)
    # a random key for each allowed partner; the largest wins, so every allowed one is equally likely
    keys = np.random.default_rng([seed, step, len(KINDS)]).random(related.shape)
    keys[related] = -1.0
    drawn = keys.argmax(axis=1)
    negatives = np.where(related.all(axis=1), -1, drawn)
    return PairBatch(step, pairs.kind, *(torch.from_numpy(array) for array in (left, right, related, negatives)))


def _collate_texts(pairs: TextPairs, rows: Ints, step: int, vocabulary: Ints | None) -> ItemTextBatch:
    part = pairs.take(rows)
    lengths = np.asarray([len(ids) for ids in part.tokens])
    mask = np.arange(lengths.max()) < lengths[:, None]
    token_ids = np.zeros(mask.shape, dtype=np.int64)
    token_ids[mask] = np.concatenate(part.tokens)
    bag_items, bag_tokens = bag_entries(part.bags, vocabulary)
    arrays = (part.items, part.text_ids, token_ids, mask, bag_items, bag_tokens)
    return ItemTextBatch(step, *(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays))


def bag_entries(bags: Sequence[Ints], vocabulary: Ints | None) -> tuple[Ints, Ints]:
    """Bags as two flat arrays: number of the bag, and row of the vocabulary; tokens outside it are left out.

    Example:
        >>> bags = [np.array([5, 9]), np.array([7, 9])]
        >>> [entry.tolist() for entry in bag_entries(bags, np.array([5, 9]))]
        [[0, 0, 1], [0, 1, 1]]
    """
    if vocabulary is None or len(vocabulary) == 0 or not bags:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    items = np.repeat(np.arange(len(bags)), [len(bag) for bag in bags])
    ids = np.concatenate(bags)
    rows = np.searchsorted(vocabulary, ids).clip(max=len(vocabulary) - 1)
    found = vocabulary[rows] == ids
    return items[found].astype(np.int64), rows[found].astype(np.int64)


def _check(sets: PairSets, batch_sizes: Mapping[str, int]) -> None:
    if not sets:
        raise ValueError("no pair set: choose at least one of pretraining.losses")
    for kind, pairs in sets.items():
        if kind not in KINDS or pairs.kind != kind:
            raise ValueError(f"pair set {kind!r} holds {pairs.kind} pairs; kinds are {', '.join(KINDS)}")
        if len(pairs) == 0:
            raise ValueError(f"the {kind} pairs are empty: leave out the losses that read them or add data")
        if batch_sizes.get(kind, 0) < 1:
            raise ValueError(f"batch size of {kind} is {batch_sizes.get(kind, 0)}: give at least 1")
