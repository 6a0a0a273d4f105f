"""A prefix tree over items' token ids, as flat arrays: which tokens may follow, and which items lie below a node."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

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
    rows = [tuple(int(token) for token in sequence) for sequence in sequences]
    if not rows or not all(rows):
        raise ValueError("the tree of items needs at least one item, and at least one token of each")
    order = sorted(range(len(rows)), key=rows.__getitem__)
    ordered = [rows[row] for row in order]
    for place, (one, two) in enumerate(pairwise(ordered)):
        if one == two[: len(one)]:
            raise ValueError(
                f"items {order[place]} and {order[place + 1]} cannot be told apart: {list(one)} begins {list(two)}; "
                "give every item its own index, and an end token"
            )
    tokens, items, low, high, first_child = [-1], [NO_ITEM], [0], [len(rows)], []
    node = depth = 0
    while node < len(tokens):
        end_of_level = len(tokens)
        while node < end_of_level:
            first_child.append(len(tokens))
            if items[node] == NO_ITEM:
                for start, end in _groups(ordered, low[node], high[node], depth):
                    leaf = len(ordered[start]) == depth + 1
                    tokens.append(ordered[start][depth])
                    items.append(order[start] if leaf else NO_ITEM)
                    low.append(start)
                    high.append(end)
            node += 1
        depth += 1
    first_child.append(len(tokens))
    forced, start_node = [], 0
    while first_child[start_node + 1] - first_child[start_node] == 1:
        child = first_child[start_node]
        # the last token of a single item is still the model's to score
        if items[child] != NO_ITEM:
            break
        forced.append(tokens[child])
        start_node = child
    flat = {"tokens": tokens, "first_child": first_child, "items": items, "low": low, "high": high, "order": order}
    arrays: dict[str, Any] = {name: np.array(values, dtype=np.int64) for name, values in flat.items()}
    return ItemTrie(**arrays, forced=tuple(forced), start=start_node)


def _groups(ordered: Sequence[tuple[int, ...]], low: int, high: int, depth: int) -> list[tuple[int, int]]:
    """Runs of equal tokens at a depth; what is sorted lies together."""
    bounds = [low, *(p for p in range(low + 1, high) if ordered[p][depth] != ordered[p - 1][depth]), high]
    return list(pairwise(bounds))
