"""The pair sets of phase 1: items with their texts, items that follow one another, users with their items.

Built once from typed tables, split 90/10 into a part to train on and a part for the evaluation losses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

Ints = NDArray[np.int64]
Encode = Callable[[list[str]], list[list[int]]]
"""Texts to token ids, one list a text."""

ITEM_TEXT, ITEM_ITEM, USER_ITEM = "item_text", "item_item", "user_item"
KINDS = (ITEM_TEXT, ITEM_ITEM, USER_ITEM)
LOSS_KINDS = {"itc": ITEM_TEXT, "itm": ITEM_TEXT, "itg": ITEM_TEXT, "vg": ITEM_TEXT, "iic": ITEM_ITEM, "uic": USER_ITEM}
"""The pair set that each loss reads."""


def kinds_needed(losses: Sequence[str]) -> tuple[str, ...]:
    """Pair sets that a choice of losses reads, in a fixed order.

    Raises:
        ValueError: a loss is unknown, or none is given.

    Example:
        >>> kinds_needed(("iic", "itc"))
        ('item_text', 'item_item')
    """
    unknown = sorted(set(losses) - set(LOSS_KINDS))
    if unknown or not losses:
        raise ValueError(f"pretraining.losses={list(losses)}: choose one or more of {', '.join(LOSS_KINDS)}")
    return tuple(kind for kind in KINDS if any(LOSS_KINDS[loss] == kind for loss in losses))


@dataclass(frozen=True)
class TextPairs:
    """Items with one text each.

    Attributes:
        items: [P] catalogue rows.
        text_ids: [P], equal where the texts are equal.
        tokens: P arrays of token ids for the text branch, special tokens included.
        bags: P arrays of distinct token ids of the LLM, sorted; empty arrays where no LLM tokenizer was given.
    """

    items: Ints
    text_ids: Ints
    tokens: list[Ints]
    bags: list[Ints]
    kind: str = field(default=ITEM_TEXT, init=False)

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.items)

    def take(self, rows: Ints) -> TextPairs:
        """The pairs at `rows`, in this order."""
        return TextPairs(
            self.items[rows], self.text_ids[rows], [self.tokens[r] for r in rows], [self.bags[r] for r in rows]
        )


@dataclass(frozen=True)
class EdgePairs:
    """Pairs of an item and an item, or of a user and an item.

    Attributes:
        kind: "item_item" or "user_item".
        left: [P] catalogue rows, or user indices.
        right: [P] catalogue rows.
        known: csr [rows of left, rows of right], nonzero where a pair must not be drawn as a negative.
    """

    kind: str
    left: Ints
    right: Ints
    known: sparse.csr_matrix

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.left)

    def take(self, rows: Ints, known: sparse.csr_matrix | None = None) -> EdgePairs:
        """The pairs at `rows`, with the co-occurrences known so far or the given ones."""
        return EdgePairs(self.kind, self.left[rows], self.right[rows], self.known if known is None else known)

    def related(self, left: Ints, right: Ints) -> NDArray[np.bool_]:
        """Which combinations [len(left), len(right)] are known to co-occur, or are the same item twice."""
        block = self.known[left][:, right].toarray() > 0
        if self.kind == ITEM_ITEM:
            block |= left[:, None] == right
        return np.asarray(block)


def text_pairs(
    texts: Sequence[str | None],
    rows: Ints,
    encode_text: Encode,
    encode_bag: Encode | None = None,
) -> TextPairs:
    """Pair catalogue rows with their texts; rows without text are left out.

    Args:
        texts: text of every catalogue row, None where there is none.
        rows: the rows that may be used (the training part of the split by movie).
        encode_text: tokenizer of the text branch, truncating (`tokenizer_encode`).
        encode_bag: tokenizer of the LLM, without special tokens, for vocabulary grounding.

    Raises:
        ValueError: none of the rows has a text.
    """
    kept = np.asarray([row for row in rows if (texts[row] or "").strip()], dtype=np.int64)
    if len(kept) == 0:
        raise ValueError("no training item has a text: phase 1 needs titles, genres or tags for ITC, ITM, ITG and VG")
    chosen = [str(texts[row]) for row in kept]
    _, text_ids = np.unique(np.asarray(chosen), return_inverse=True)
    tokens = [np.asarray(ids, dtype=np.int64) for ids in encode_text(chosen)]
    bags = encode_bag(chosen) if encode_bag is not None else [[] for _ in chosen]
    return TextPairs(
        kept, text_ids.astype(np.int64), tokens, [np.unique(np.asarray(bag, dtype=np.int64)) for bag in bags]
    )


def tokenizer_encode(tokenizer: Any, max_length: int | None = None, special_tokens: bool = True) -> Encode:
    """An `Encode` from a transformers tokenizer.

    Args:
        tokenizer: any transformers tokenizer (untyped upstream).
        max_length: longer texts are cut to this many tokens, special tokens included; None = no limit.
        special_tokens: whether [CLS], [SEP] or the like are added.
    """

    def encode(texts: list[str]) -> list[list[int]]:
        limit = {"truncation": True, "max_length": max_length} if max_length is not None else {}
        encoded = tokenizer(texts, add_special_tokens=special_tokens, **limit)["input_ids"]
        return [list(ids) for ids in encoded]

    return encode


def consecutive_item_pairs(interactions: pl.DataFrame, n_items: int, drop_last: int = 0) -> EdgePairs:
    """Unique ordered pairs of items that follow one another in a user's history (ordered by time, then item).

    Args:
        interactions: columns user, item, timestamp.
        n_items: size of the catalogue.
        drop_last: this many last interactions of each user are not read (OpenP5: 2, validation and test).
    """
    ordered = _histories(interactions, drop_last)
    user = ordered["user"].to_numpy()
    item = ordered["item"].to_numpy().astype(np.int64)
    follows = user[1:] == user[:-1]
    # a repeated interaction says nothing about two items
    follows &= item[1:] != item[:-1]
    coded = np.unique(item[:-1][follows] * n_items + item[1:][follows])
    left, right = coded // n_items, coded % n_items
    return EdgePairs(ITEM_ITEM, left, right, _known(ITEM_ITEM, left, right, (n_items, n_items)))


def user_item_pairs(interactions: pl.DataFrame, n_users: int, n_items: int, drop_last: int = 0) -> EdgePairs:
    """Unique pairs of a user and an item of theirs; arguments as `consecutive_item_pairs`."""
    ordered = _histories(interactions, drop_last)
    coded = np.unique(ordered["user"].to_numpy().astype(np.int64) * n_items + ordered["item"].to_numpy())
    left, right = coded // n_items, coded % n_items
    return EdgePairs(USER_ITEM, left, right, _known(USER_ITEM, left, right, (n_users, n_items)))


def shuffled_pairs(pairs: EdgePairs, seed: int, rounds: int = 100) -> EdgePairs:
    """Pairs whose partners are drawn anew, the control of what co-interaction losses teach.

    True pairs are neither sought nor avoided: they come as often as how often each item and user is met makes them
    come, and the pairs say nothing else about who belongs together.

    Args:
        pairs: true pairs.
        seed: of the draw.
        rounds: how often pairs are drawn again that are of one item or there twice.

    Returns:
        As many pairs of each item and user as before; those that no round could make a pair of their own are left out:
        few of a sparse set, more of one in which most users have met most items.
    """
    draw = np.random.default_rng([seed, KINDS.index(pairs.kind), 1])
    left, right, size = pairs.left, draw.permutation(pairs.right), pairs.known.shape[1]
    for _ in range(rounds):
        again = np.flatnonzero(_no_pair(pairs.kind, left, right, size))
        if not len(again):
            break
        others = draw.integers(0, len(right), len(again))
        for one, other in zip(again, others, strict=True):
            right[one], right[other] = right[other], right[one]
    kept = ~_no_pair(pairs.kind, left, right, size)
    order = np.lexsort((right[kept], left[kept]))
    left, right = left[kept][order], right[kept][order]
    return EdgePairs(pairs.kind, left, right, _known(pairs.kind, left, right, pairs.known.shape))


def _no_pair(kind: str, left: Ints, right: Ints, size: int) -> NDArray[np.bool_]:
    """Which drawn pairs are of one item, or there already."""
    repeated = np.ones(len(left), dtype=bool)
    repeated[np.unique(left * size + right, return_index=True)[1]] = False
    return repeated | (left == right) if kind == ITEM_ITEM else repeated


Pairs = TypeVar("Pairs", TextPairs, EdgePairs)
PairSets = Mapping[str, TextPairs | EdgePairs]
"""Pair sets by kind."""


def hold_out(pairs: Pairs, seed: int, share: float = 0.1, groups: Sequence[str] | None = None) -> tuple[Pairs, Pairs]:
    """Split a pair set at random into training and held-out part.

    Negatives for training avoid the training pairs only: which pairs are held out must not show in what is never
    drawn. Negatives for the held-out part avoid every known pair.

    Args:
        pairs: any pair set.
        seed: of the split.
        share: held-out share, at least one pair.
        groups: for item-text pairs, the group of every catalogue row; a group is never divided, nor are equal texts.

    Returns:
        Training part and held-out part, of the type of `pairs`.

    Raises:
        ValueError: fewer than two pairs, or groups; or a share outside (0, 1).
    """
    if not 0.0 < share < 1.0:
        raise ValueError(f"pretraining.held_out_share={share}: give a value between 0 and 1")
    units = _units(pairs, groups)
    n_units = int(units.max()) + 1 if len(units) else 0
    if n_units < 2:
        raise ValueError(f"{pairs.kind}: {n_units} pair(s) cannot be divided into training and held-out; add data")
    order = np.random.default_rng([seed, KINDS.index(pairs.kind)]).permutation(n_units)
    out = np.isin(units, order[: min(max(1, round(share * n_units)), n_units - 1)])
    inside, outside = np.flatnonzero(~out), np.flatnonzero(out)
    if isinstance(pairs, TextPairs):
        return pairs.take(inside), pairs.take(outside)
    known = _known(pairs.kind, pairs.left[inside], pairs.right[inside], pairs.known.shape)
    return pairs.take(inside, known), pairs.take(outside)


def bag_vocabulary(pairs: TextPairs) -> Ints:
    """Sorted distinct LLM token ids of the bags: the rows of the embedding matrix that VG predicts."""
    return np.unique(np.concatenate([*pairs.bags, np.empty(0, dtype=np.int64)]))


def bag_idf(pairs: TextPairs, vocabulary: Ints) -> NDArray[np.float32]:
    """Weight log((1 + n) / (1 + df)) + 1 of each token of the vocabulary over the n bags, df = bags that hold it."""
    found = np.concatenate([*pairs.bags, np.empty(0, dtype=np.int64)])
    frequency = np.bincount(np.searchsorted(vocabulary, found[np.isin(found, vocabulary)]), minlength=len(vocabulary))
    return (np.log((1 + len(pairs)) / (1 + frequency)) + 1).astype(np.float32)


def _histories(interactions: pl.DataFrame, drop_last: int) -> pl.DataFrame:
    """Interactions ordered by user, time and item, without the last `drop_last` of each user."""
    ordered = interactions.sort("user", "timestamp", "item")
    position, length = pl.int_range(pl.len()).over("user"), pl.len().cast(pl.Int64).over("user")
    return ordered.filter(position < length - drop_last)


def _known(kind: str, left: Ints, right: Ints, shape: tuple[int, int]) -> sparse.csr_matrix:
    """Co-occurrence of the pairs; for items in both directions."""
    matrix = sparse.csr_matrix((np.ones(len(left), dtype=np.int8), (left, right)), shape=shape)
    return (matrix.maximum(matrix.T) if kind == ITEM_ITEM else matrix).tocsr()


def _units(pairs: TextPairs | EdgePairs, groups: Sequence[str] | None) -> Ints:
    """Number [P] of the unit that each pair belongs to; a unit stays on one side of the split."""
    if isinstance(pairs, EdgePairs):
        return np.arange(len(pairs))
    names = [str(t) for t in pairs.items] if groups is None else [groups[row] for row in pairs.items]
    _, by_group = np.unique(np.asarray(names), return_inverse=True)
    # equal group or equal text, followed to the end: connected components of the graph pair - group - text
    n, offset = len(pairs), int(by_group.max(initial=-1)) + 1
    rows = np.concatenate([np.arange(n), np.arange(n)])
    columns = n + np.concatenate([by_group, offset + pairs.text_ids])
    size = int(columns.max(initial=n - 1)) + 1
    graph = sparse.csr_matrix((np.ones(2 * n), (rows, columns)), shape=(size, size))
    labels = sparse.csgraph.connected_components(graph, directed=False)[1][:n]
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)
