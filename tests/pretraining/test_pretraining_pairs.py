"""Pair sets counted by hand, and the stream of batches."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from ilm_lightning.pretraining.batches import (
    Batch,
    EvaluationBatches,
    ItemTextBatch,
    PairBatch,
    PairBatches,
    schedule,
)
from ilm_lightning.pretraining.pairs import (
    ITEM_ITEM,
    ITEM_TEXT,
    USER_ITEM,
    EdgePairs,
    PairSets,
    TextPairs,
    bag_idf,
    bag_vocabulary,
    consecutive_item_pairs,
    hold_out,
    kinds_needed,
    shuffled_pairs,
    text_pairs,
    tokenizer_encode,
    user_item_pairs,
)


def table(rows: list[tuple[int, int, int]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["user", "item", "timestamp"], orient="row")


# user 0: 2, 0, 1, 0; user 1: 2, 0 (equal times: by item, so 0, 2); user 2: one item
SMALL = table([(0, 0, 20), (0, 1, 30), (0, 2, 10), (0, 0, 40), (1, 2, 5), (1, 0, 5), (2, 1, 1)])


def as_set(pairs: EdgePairs) -> set[tuple[int, int]]:
    return set(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True))


def encode(texts: list[str]) -> list[list[int]]:
    return [[1, *(10 + ord(c) % 20 for c in text), 2] for text in texts]


def many_texts(n: int) -> TextPairs:
    return text_pairs([f"movie {i}" for i in range(n)], np.arange(n), encode, encode)


def many_edges(n_users: int = 30, n_items: int = 40, seed: int = 0) -> tuple[EdgePairs, EdgePairs]:
    rng = np.random.default_rng(seed)
    rows = [(u, int(i), t) for u in range(n_users) for t, i in enumerate(rng.permutation(n_items)[:12])]
    return consecutive_item_pairs(table(rows), n_items), user_item_pairs(table(rows), n_users, n_items)


def test_item_item_pairs_by_hand() -> None:
    assert as_set(consecutive_item_pairs(SMALL, 3)) == {(2, 0), (0, 1), (1, 0), (0, 2)}
    assert as_set(consecutive_item_pairs(SMALL, 3, drop_last=2)) == {(2, 0)}
    repeated = table([(0, 1, 1), (0, 1, 2), (0, 0, 3)])
    assert as_set(consecutive_item_pairs(repeated, 2)) == {(1, 0)}


def test_user_item_pairs_by_hand() -> None:
    assert as_set(user_item_pairs(SMALL, 3, 3)) == {(0, 0), (0, 1), (0, 2), (1, 0), (1, 2), (2, 1)}
    assert as_set(user_item_pairs(SMALL, 3, 3, drop_last=1)) == {(0, 0), (0, 1), (0, 2), (1, 0)}


def test_known_pairs_count_in_both_directions_and_equal_items_are_related() -> None:
    pairs = consecutive_item_pairs(table([(0, 0, 1), (0, 1, 2)]), 3)
    related = pairs.related(np.array([0, 1, 2]), np.array([0, 1, 2]))
    assert related.astype(int).tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]


def test_text_pairs_leave_out_items_without_text_and_other_splits() -> None:
    texts = ["Heat", None, "  ", "Heat", "Jaws", "secret"]
    pairs = text_pairs(texts, np.array([0, 1, 2, 3, 4]), encode, lambda given: [[3, 1, 3] for _ in given])
    assert pairs.items.tolist() == [0, 3, 4]
    assert pairs.text_ids[0] == pairs.text_ids[1] != pairs.text_ids[2]
    assert [bag.tolist() for bag in pairs.bags] == [[1, 3]] * 3
    with pytest.raises(ValueError, match="no training item has a text"):
        text_pairs(texts, np.array([1, 2]), encode)


def test_hold_out_takes_a_tenth_and_keeps_groups_and_equal_texts_together() -> None:
    n = 200
    texts = [f"text {i // 2}" for i in range(n)]
    groups = [f"group {(i + 1) // 4}" for i in range(n)]
    pairs = text_pairs(texts, np.arange(n), encode)
    inside, outside = hold_out(pairs, seed=0)
    assert len(outside) == 20
    assert not set(inside.text_ids.tolist()) & set(outside.text_ids.tolist())
    groups = [f"group {i // 4}" for i in range(n)]
    inside, outside = hold_out(pairs, seed=0, groups=groups)
    assert len(outside) == 20
    assert not {groups[i] for i in inside.items} & {groups[i] for i in outside.items}
    assert sorted([*inside.items, *outside.items]) == list(range(n))
    again = hold_out(pairs, seed=0, groups=groups)[1]
    other = hold_out(pairs, seed=1, groups=groups)[1]
    assert again.items.tolist() == outside.items.tolist() != other.items.tolist()


def test_hold_out_hides_held_out_pairs_from_the_negatives_of_training() -> None:
    edges, _ = many_edges()
    inside, outside = hold_out(edges, seed=0)
    assert (len(inside) + len(outside), len(outside)) == (len(edges), round(len(edges) / 10))
    assert not as_set(inside) & as_set(outside)
    reverse = as_set(inside) | {(b, a) for a, b in as_set(inside)}
    hidden = [(a, b) for a, b in as_set(outside) if (a, b) not in reverse]
    assert hidden
    for a, b in hidden:
        assert inside.known[a, b] == 0
        assert outside.known[a, b] == 1


def test_hold_out_of_too_little_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be divided"):
        hold_out(text_pairs(["a"], np.array([0]), encode), seed=0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        hold_out(many_texts(4), seed=0, share=1.0)


def test_vocabulary_and_idf() -> None:
    pairs = text_pairs(["a", "b"], np.array([0, 1]), encode, lambda _: [[5, 9], [9, 9, 2]])
    assert bag_vocabulary(pairs).tolist() == [2, 5, 9]
    assert bag_idf(pairs, np.array([2, 5, 9])) == pytest.approx([np.log(1.5) + 1, np.log(1.5) + 1, 1.0])
    assert bag_vocabulary(text_pairs(["a"], np.array([0]), encode)).tolist() == []


def test_tokenizer_encode_passes_its_settings_on() -> None:
    calls = []

    def tokenizer(texts: list[str], **settings: Any) -> dict[str, Any]:
        calls.append(settings)
        return {"input_ids": [[1, 2]] * len(texts)}

    assert tokenizer_encode(tokenizer, 7)(["a", "b"]) == [[1, 2], [1, 2]]
    tokenizer_encode(tokenizer, special_tokens=False)(["a"])
    assert calls == [{"add_special_tokens": True, "truncation": True, "max_length": 7}, {"add_special_tokens": False}]


def test_kinds_needed() -> None:
    assert kinds_needed(["vg"]) == (ITEM_TEXT,)
    assert kinds_needed(["uic", "itc", "iic"]) == (ITEM_TEXT, ITEM_ITEM, USER_ITEM)
    for wrong in ([], ["itc", "itx"]):
        with pytest.raises(ValueError, match=r"pretraining\.losses"):
            kinds_needed(wrong)


def test_schedule_is_exact_and_even() -> None:
    order = schedule({ITEM_TEXT: 0.7, ITEM_ITEM: 0.3, USER_ITEM: 0.0})
    assert (len(order), order.count(ITEM_TEXT), order.count(ITEM_ITEM)) == (1000, 700, 300)
    for start in range(0, 1000, 10):
        assert order[start : start + 10].count(ITEM_ITEM) == 3
    for wrong in ({ITEM_TEXT: 0.0}, {ITEM_TEXT: 1.0, ITEM_ITEM: -0.5}):
        with pytest.raises(ValueError, match="proportions"):
            schedule(wrong)


def stream(seed: int = 0) -> PairBatches:
    edges, visits = many_edges()
    sets = {ITEM_TEXT: many_texts(23), ITEM_ITEM: edges, USER_ITEM: visits}
    sizes = {ITEM_TEXT: 5, ITEM_ITEM: 16, USER_ITEM: 16}
    vocabulary = bag_vocabulary(sets[ITEM_TEXT])
    return PairBatches(sets, {ITEM_TEXT: 0.5, ITEM_ITEM: 0.25, USER_ITEM: 0.25}, sizes, seed, vocabulary)


def same(first: Batch, second: Batch) -> bool:
    left, right = vars(first), vars(second)
    return all(np.array_equal(np.asarray(left[key]), np.asarray(right[key])) for key in left)


def test_a_batch_depends_on_seed_and_step_only() -> None:
    batches = stream()
    forward = [batches[k] for k in range(60)]
    fresh = stream()
    for k in reversed(range(60)):
        assert same(forward[k], fresh[k])
        assert forward[k].step == k
    assert not all(same(forward[k], stream(seed=1)[k]) for k in range(4))
    kinds = [batch.kind if isinstance(batch, PairBatch) else ITEM_TEXT for batch in forward]
    assert [kinds.count(kind) for kind in (ITEM_TEXT, ITEM_ITEM, USER_ITEM)] == [30, 15, 15]


def test_every_pair_is_seen_once_before_any_twice() -> None:
    batches = stream()
    seen = np.concatenate([b.items for k in range(200) if isinstance(b := batches[k], ItemTextBatch)])
    for start in range(0, 460, 23):
        assert sorted(seen[start : start + 23].tolist()) == list(range(23))
    assert seen[:23].tolist() != seen[23:46].tolist()


def test_a_set_smaller_than_its_batch_gives_smaller_batches() -> None:
    batches = PairBatches({ITEM_TEXT: many_texts(3)}, {ITEM_TEXT: 1.0, ITEM_ITEM: 1.0}, {ITEM_TEXT: 8}, 0)
    for k in range(5):
        assert sorted(batches[k].items.tolist()) == [0, 1, 2]


def test_text_batches_are_padded_and_carry_bags() -> None:
    texts = ["ab", "abcd"]
    pairs = text_pairs(texts, np.array([0, 1]), encode, encode)
    vocabulary = bag_vocabulary(pairs.take(np.array([0])))
    (batch,) = EvaluationBatches({ITEM_TEXT: pairs}, {ITEM_TEXT: 4}, 0, vocabulary)
    for row, item in enumerate(batch.items.tolist()):
        assert batch.token_ids[row][batch.mask[row]].tolist() == encode([texts[item]])[0]
        found = vocabulary[batch.bag_tokens[batch.bag_items == row]].tolist()
        assert found == sorted(set(encode([texts[item]])[0]) & set(vocabulary.tolist()))
    assert batch.token_ids.shape == (2, 6)
    assert batch.token_ids[~batch.mask].tolist() == [0, 0]


@pytest.mark.parametrize("kind", [ITEM_ITEM, USER_ITEM])
def test_negatives_are_never_known_pairs(kind: str) -> None:
    batches, n_drawn = stream(), 0
    for k in range(80):
        batch = batches[k]
        if isinstance(batch, PairBatch) and batch.kind == kind:
            known = as_set(batches.sets[kind])
            if kind == ITEM_ITEM:
                known |= {(b, a) for a, b in known}
            assert batch.related.diagonal().all()
            for row, column in enumerate(batch.negatives.tolist()):
                if column >= 0:
                    pair = (batch.left[row].item(), batch.right[column].item())
                    assert pair not in known
                    assert kind == USER_ITEM or pair[0] != pair[1]
                    n_drawn += 1
    assert n_drawn > 100


def test_no_negative_where_all_are_related() -> None:
    pairs = user_item_pairs(table([(0, 0, 1), (0, 1, 2)]), 1, 2)
    batch = PairBatches({USER_ITEM: pairs}, {USER_ITEM: 1.0}, {USER_ITEM: 2}, 0)[0]
    assert batch.negatives.tolist() == [-1, -1]


def test_evaluation_covers_each_pair_once_in_even_batches() -> None:
    edges, visits = many_edges()
    sets = {ITEM_TEXT: many_texts(23), USER_ITEM: visits}
    batches = EvaluationBatches(sets, {ITEM_TEXT: 10, USER_ITEM: 100}, seed=0)
    text_batches = [b for b in batches if isinstance(b, ItemTextBatch)]
    assert [len(b.items) for b in text_batches] == [8, 8, 7]
    assert sorted(np.concatenate([b.items for b in text_batches]).tolist()) == list(range(23))
    pairs = [(u, i) for b in batches if isinstance(b, PairBatch) for u, i in zip(b.left, b.right, strict=True)]
    assert sorted((int(u), int(i)) for u, i in pairs) == sorted(as_set(visits))
    assert all(
        same(a, b) for a, b in zip(batches, EvaluationBatches(sets, {ITEM_TEXT: 10, USER_ITEM: 100}, 0), strict=True)
    )
    limited = EvaluationBatches({ITEM_ITEM: edges}, {ITEM_ITEM: 10}, seed=0, limit=25)
    assert [len(b.left) for b in limited] == [9, 8, 8]


@pytest.mark.parametrize(
    ("sets", "proportions", "sizes", "message"),
    [
        ({}, {}, {}, "no pair set"),
        ({ITEM_TEXT: many_texts(3)}, {}, {ITEM_TEXT: 2}, "no share for item_text"),
        ({ITEM_TEXT: many_texts(3)}, {ITEM_TEXT: 1}, {}, "batch size of item_text is 0"),
        ({ITEM_ITEM: many_texts(3)}, {ITEM_ITEM: 1}, {ITEM_ITEM: 2}, "holds item_text pairs"),
        ({ITEM_TEXT: many_texts(3).take(np.arange(0))}, {ITEM_TEXT: 1}, {ITEM_TEXT: 2}, "are empty"),
    ],
)
def test_impossible_streams_are_refused(
    sets: PairSets, proportions: dict[str, float], sizes: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        PairBatches(sets, proportions, sizes, 0)


def test_no_text_of_held_out_or_test_items_reaches_a_training_batch() -> None:
    n = 60
    texts = [f"own words of {i}" for i in range(n)]
    split = np.array(["train", "train", "test"] * 20)
    pairs = text_pairs(
        texts, np.flatnonzero(split == "train"), encode, lambda given: [[hash(t) % 10**6] for t in given]
    )
    inside, outside = hold_out(pairs, seed=3)
    vocabulary = bag_vocabulary(inside)
    batches = PairBatches({ITEM_TEXT: inside}, {ITEM_TEXT: 1.0}, {ITEM_TEXT: 7}, 0, vocabulary)
    allowed = {tuple(encode([texts[i]])[0]) for i in inside.items}
    seen = set()
    for k in range(30):
        batch = batches[k]
        seen |= set(batch.items.tolist())
        for ids, mask in zip(batch.token_ids, batch.mask, strict=True):
            assert tuple(ids[mask].tolist()) in allowed
    assert seen == set(inside.items.tolist())
    assert not seen & (set(outside.items.tolist()) | set(np.flatnonzero(split == "test").tolist()))
    held_out_tokens = {int(bag[0]) for bag in outside.bags}
    assert not held_out_tokens & set(vocabulary.tolist())


@pytest.mark.parametrize(
    ("name", "item_item", "user_item"),
    [("Beauty", 114_582, 153_776), ("ML100K", 71_616, 97_401), ("Clothing", 158_373, 199_903)],
)
def test_openp5_counts(name: str, item_item: int, user_item: int) -> None:
    if "ILM_DATA" not in os.environ:
        pytest.skip("ILM_DATA is not set: no OpenP5 files to count")
    rows, ids = [], {}
    lines = (Path(os.environ["ILM_DATA"]) / "openp5" / name / "user_sequence.txt").read_text().splitlines()
    for user, line in enumerate(lines):
        rows += [(user, ids.setdefault(item, len(ids)), time) for time, item in enumerate(line.split()[1:])]
    interactions = table(rows)
    assert len(consecutive_item_pairs(interactions, len(ids), drop_last=2)) == item_item
    assert len(user_item_pairs(interactions, len(lines), len(ids), drop_last=2)) == user_item


@pytest.mark.parametrize("items", [80, 48])
@pytest.mark.parametrize("kind", [ITEM_ITEM, USER_ITEM])
def test_shuffled_pairs_keep_how_often_each_is_there_and_nothing_else(kind: str, items: int) -> None:
    # of 48 items a user has met a quarter: pairs of chance are often true ones
    draw = np.random.default_rng(0)
    rows = [(user, int(item), step) for user in range(60) for step, item in enumerate(draw.integers(0, items, 12))]
    frame = table(rows)
    true = consecutive_item_pairs(frame, items) if kind == ITEM_ITEM else user_item_pairs(frame, 60, items)
    found = shuffled_pairs(true, seed=3)
    assert len(found) >= 0.99 * len(true)
    for side in ("left", "right"):
        before, after = (np.bincount(getattr(pairs, side), minlength=80) for pairs in (true, found))
        assert np.abs(before - after).sum() <= len(true) - len(found)
    # no pair is of one item, or there twice
    assert kind == USER_ITEM or not (found.left == found.right).any()
    assert len(np.unique(found.left * items + found.right)) == len(found)
    # negatives avoid what is told to belong together
    assert np.asarray(found.known[found.left, found.right]).all()
    assert found.known.nnz == len(np.unique(np.concatenate([found.left * items + found.right] + (
        [found.right * items + found.left] if kind == ITEM_ITEM else []
    ))))  # fmt: skip
    again = shuffled_pairs(true, seed=3)
    assert (again.left == found.left).all()
    assert (again.right == found.right).all()
    assert not np.array_equal(shuffled_pairs(true, seed=4).right, found.right)


def test_shuffled_pairs_say_nothing_about_who_belongs_together() -> None:
    # as many interactions, each user's within a half of the items of their own
    draw = np.random.default_rng(0)
    rows = [(u, 20 * (u % 2) + int(i), step) for u in range(200) for step, i in enumerate(draw.permutation(20)[:10])]
    true = user_item_pairs(table(rows), 200, 40)
    within = np.arange(200)[:, None] % 2 == np.arange(40) // 20

    positives = shuffled_pairs(true, seed=0).known.toarray() > 0
    assert within[true.known.toarray() > 0].all()
    assert within[positives].mean() == pytest.approx(0.5, abs=0.05)
    assert within[~positives].mean() == pytest.approx(0.5, abs=0.05)


def test_pairs_that_cannot_be_parted_are_left_out() -> None:
    # everybody has met everything: the pairs are all there are, but for what no draw could part
    everything = user_item_pairs(table([(user, item, item) for user in range(4) for item in range(5)]), 4, 5)
    found = shuffled_pairs(everything, seed=0)
    assert len(np.unique(found.left * 5 + found.right)) == len(found) <= 20
