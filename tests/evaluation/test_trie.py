"""The tree of items against brute force."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ilm_lightning.evaluation.trie import NO_ITEM, build_trie

END = 0


@settings(max_examples=60, deadline=None)
@given(st.sets(st.lists(st.integers(1, 4), min_size=1, max_size=5).map(tuple), min_size=1, max_size=30))
def test_holds_exactly_the_items(texts: set[tuple[int, ...]]) -> None:
    sequences = [[9, *text, END] for text in sorted(texts, key=hash)]
    trie = build_trie(sequences)
    assert sorted(trie.order.tolist()) == list(range(len(sequences)))
    assert trie.forced[:1] == (9,)
    for row, sequence in enumerate(sequences):
        for length in range(len(sequence)):
            follow = {
                other[length] for other in sequences if len(other) > length and other[:length] == sequence[:length]
            }
            assert trie.allowed(sequence[:length]) == sorted(follow)
        assert trie.allowed(sequence) == []
        node = int(np.flatnonzero(trie.items == row)[0])
        assert trie.order[trie.low[node] : trie.high[node]].tolist() == [row]
    assert trie.allowed([8]) == []
    assert trie.depth == max(len(s) for s in sequences) - len(trie.forced)


def test_every_node_covers_the_items_below_it() -> None:
    trie = build_trie([[3, 1, END], [3, 2, END], [4, END]])
    assert trie.forced == ()
    below = {int(n): set(trie.order[trie.low[n] : trie.high[n]].tolist()) for n in range(len(trie.tokens))}
    assert below[0] == {0, 1, 2}
    for node in range(len(trie.tokens)):
        children = range(int(trie.first_child[node]), int(trie.first_child[node + 1]))
        if trie.items[node] == NO_ITEM:
            assert set().union(*(below[child] for child in children)) == below[node]
        else:
            assert not list(children)
