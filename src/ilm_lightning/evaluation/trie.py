"""A prefix tree over items' token ids, as flat arrays: which tokens may follow, and which items lie below a node."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
NO_ITEM = -1


@dataclass(frozen=True)
class ItemTrie:
    """Prefix tree; nodes are numbered level by level, so that the children of a node are neighbours.

    Attributes:
        tokens: ``[M]`` token that leads to each node; -1 for the root.
        first_child: ``[M + 1]``; the children of node n are ``first_child[n]`` to ``first_child[n + 1]``.
        items: ``[M]`` catalogue row of the item that ends here, `NO_ITEM` for inner nodes.
        low: ``[M]`` and
        high: ``[M]``; the items below a node are ``order[low:high]``.
        order: ``[I]`` catalogue rows in the order of the tree's leaves.
        forced: tokens that every item starts with; they are no choice.
        start: the node after them.
    """

    tokens: Ints
    first_child: Ints
    items: Ints
    low: Ints
    high: Ints
    order: Ints
    forced: tuple[int, ...]
    start: int

    @property
    def n_items(self) -> int:
        """Number of items."""
        return len(self.order)

    @property
    def depth(self) -> int:
        """Most tokens that an item has after the forced ones."""
        deepest, level = 0, np.array([self.start])
        while True:
            level = np.concatenate([np.arange(self.first_child[n], self.first_child[n + 1]) for n in level])
            if not len(level):
                return deepest
            deepest += 1

    def allowed(self, prefix: Sequence[int]) -> list[int]:
        """Tokens that may follow a prefix, for decoders that ask token by token.

        Args:
            prefix: tokens generated so far, the forced ones included.

        Returns:
            The tokens, in ascending order; none where the prefix ends an item or leaves the tree.
        """
        node = 0
        for token in prefix:
            children = range(int(self.first_child[node]), int(self.first_child[node + 1]))
            found = [child for child in children if self.tokens[child] == token]
            if not found:
                return []
            node = found[0]
        return [int(token) for token in self.tokens[self.first_child[node] : self.first_child[node + 1]]]


def build_trie(sequences: Sequence[Sequence[int]]) -> ItemTrie:
    """Build the tree.

    Args:
        sequences: per catalogue row its token ids, an end token last, so that no item is the beginning of another.

    Returns:
        The tree.

    Raises:
        ValueError: no items, an item without tokens, two items with the same tokens, or one that begins another.

    >>> trie = build_trie([[7, 1, 9], [7, 2, 9], [7, 2, 3, 9]])
    >>> trie.forced, trie.allowed([7]), trie.allowed([7, 2])
    ((7,), [1, 2], [3, 9])
    """
    lengths = np.fromiter(map(len, sequences), np.int64, len(sequences))
    if not lengths.all() or not len(lengths):
        raise ValueError("the tree of items needs at least one item, and at least one token of each")
    tokens = np.full((len(lengths), lengths.max()), -1, np.int64)
    tokens[np.arange(tokens.shape[1]) < lengths[:, None]] = np.fromiter(
        (token for sequence in sequences for token in sequence), np.int64, lengths.sum()
    )
    order = np.lexsort(tokens.T[::-1])
    tokens, lengths = tokens[order], lengths[order]
    # where each item first differs from the one before it in order
    parts = np.zeros(len(order), np.int64)
    differs = tokens[1:] != tokens[:-1]
    parts[1:] = np.where(differs.any(1), differs.argmax(1), tokens.shape[1])
    if len(begun := np.flatnonzero(parts[1:] >= lengths[:-1])):
        one, two = (tokens[place, : lengths[place]].tolist() for place in (begun[0], begun[0] + 1))
        raise ValueError(
            f"items {order[begun[0]]} and {order[begun[0] + 1]} cannot be told apart: {one} begins {two}; "
            "give every item its own index, and an end token"
        )
    return _tree(order, tokens, lengths, parts)


def _tree(order: Ints, tokens: Ints, lengths: Ints, parts: Ints) -> ItemTrie:
    """The tree of items in order: a level's nodes begin where an item parts from the one before at or above it."""
    count, root = len(order), np.zeros(1, np.int64)
    levels = [(root - 1, root + NO_ITEM, root, root + count)]
    children: list[Ints] = []
    for depth in range(tokens.shape[1]):
        bounds = np.flatnonzero(parts <= depth)
        low = bounds[lengths[bounds] > depth]
        high = np.append(bounds, count)[np.searchsorted(bounds, low, side="right")]
        _, _, above, below = levels[-1]
        children.append(np.searchsorted(low, below) - np.searchsorted(low, above))
        levels.append((tokens[low, depth], np.where(lengths[low] == depth + 1, order[low], NO_ITEM), low, high))
    children.append(np.zeros(len(levels[-1][0]), np.int64))
    first_child = np.concatenate([[1], 1 + np.cumsum(np.concatenate(children))])
    names, items, lows, highs = (np.concatenate(arrays) for arrays in zip(*levels, strict=True))
    forced, start = [], 0
    while first_child[start + 1] - first_child[start] == 1:
        child = int(first_child[start])
        # the last token of a single item is still the model's to score
        if items[child] != NO_ITEM:
            break
        forced.append(int(names[child]))
        start = child
    return ItemTrie(names, first_child, items, lows, highs, order, tuple(forced), start)
