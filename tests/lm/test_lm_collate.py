import warnings
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_tiny import ITEMS, QUERIES

from ilm_lightning.lm import (
    IGNORE_INDEX,
    PLACEHOLDER_ID,
    Collator,
    LengthGroupedSampler,
    PromptTokenizer,
    interpolate,
    sorted_batches,
    splice,
)
from ilm_lightning.lm.prompts import TokenisedExample

Examples = list[TokenisedExample]


def test_batch_for_training(examples: Examples, collator: Collator, prompts: PromptTokenizer) -> None:
    batch = collator(examples)
    for row, example in enumerate(examples):
        n, p = len(example), len(example.prompt_ids)
        assert batch.input_ids[row, :p].tolist() == example.prompt_ids.tolist()
        assert batch.input_ids[row, p:n].tolist() == batch.labels[row, p:n].tolist() == example.target_ids.tolist()
        assert (batch.labels[row, :p] == IGNORE_INDEX).all()
        assert (batch.labels[row, n:] == IGNORE_INDEX).all()
        assert batch.attention_mask[row].tolist() == [1] * n + [0] * (batch.input_ids.shape[1] - n)
        # the pad token is the end token in some tokenizers: the end token itself must stay a label
        assert batch.labels[row, n - 1] == prompts.eos_id
    assert batch.n_tokens == sum(len(example) for example in examples)
    assert batch.to("cpu").example_ids == ["a", "b", "c", "d", "e"]


def test_answers_may_lie_in_memory_that_is_read_only(examples: Examples, collator: Collator) -> None:
    wanted = collator(examples)
    for example in examples:
        example.target_ids.setflags(write=False)
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = collator(examples)
    finally:
        torch.set_warn_always(False)
    assert torch.equal(found.labels, wanted.labels)


def test_each_distinct_slot_comes_once(examples: Examples, collator: Collator) -> None:
    batch = collator(examples)
    assert batch.slot_index.tolist() == [0, 0, 1, 2, 3]
    semantic = collator.vectors["semantic"]
    assert torch.equal(batch.sources["semantic"][[0, 1, 3]], semantic[[3, 5, 0]])
    assert torch.allclose(batch.sources["semantic"][2], interpolate(semantic[[1, 2]]))
    assert (batch.input_ids == PLACEHOLDER_ID).sum() == len(batch.slot_index) * QUERIES


def test_batch_for_generation_is_padded_on_the_left(examples: Examples, collator: Collator) -> None:
    batch = collator.prompts(examples)
    for row, example in enumerate(examples):
        assert batch.input_ids[row, -len(example.prompt_ids) :].tolist() == example.prompt_ids.tolist()
        assert batch.attention_mask[row].sum() == len(example.prompt_ids)
    assert (batch.labels == IGNORE_INDEX).all()


def test_interpolation_keeps_the_mean_norm_per_source(collator: Collator) -> None:
    for name, vector in collator.slot_sources([(1, 2)]).items():
        pair = collator.vectors[name][[1, 2]]
        assert vector[0].norm().item() == pytest.approx(pair.norm(dim=-1).mean().item(), rel=1e-5)
        assert torch.cosine_similarity(vector[0], pair.mean(0), dim=0).item() == pytest.approx(1, abs=1e-5)
    assert torch.equal(interpolate(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])), torch.zeros(2))
    assert torch.equal(collator.slot_sources([(4,)])["semantic"][0], collator.vectors["semantic"][4])


def test_row_map_gives_items_the_vectors_of_others(examples: Examples, collator: Collator) -> None:
    shuffled = collator.with_row_map(torch.arange(ITEMS).roll(1))
    own, other = collator(examples), shuffled(examples)
    assert torch.equal(own.input_ids, other.input_ids)
    assert torch.equal(other.sources["semantic"][0], collator.vectors["semantic"][2])
    between = interpolate(collator.vectors["semantic"][[0, 1]])
    assert torch.equal(other.sources["semantic"][2], between)


def test_bad_vectors_and_rows_are_refused(collator: Collator) -> None:
    with pytest.raises(ValueError, match="one row per item"):
        Collator({"a": torch.zeros(3, 2), "b": torch.zeros(4, 2)})
    with pytest.raises(ValueError, match="one row per item"):
        Collator({})
    with pytest.raises(ValueError, match="12 items"):
        collator.with_row_map(torch.arange(3))
    for rows in [(ITEMS,), (-1,)]:
        with pytest.raises(ValueError, match="vectors of 12 items"):
            collator.slot_sources([(0,), rows])


def test_splice_puts_soft_tokens_in_reading_order() -> None:
    ids = torch.tensor([[7, -1, -1, 8], [-1, -1, 9, 9]])
    words = torch.arange(16.0).view(2, 4, 2).requires_grad_()
    soft = -torch.arange(1.0, 9.0).view(2, 2, 2).requires_grad_()
    out = splice(words, ids, -1, soft)
    assert torch.equal(out[0, 1:3], soft[0])
    assert torch.equal(out[1, :2], soft[1])
    assert torch.equal(out[ids != -1], words[ids != -1])
    out.sum().backward()
    assert words.grad is not None
    assert torch.equal(words.grad[..., 0], (ids != -1).float())


def test_splice_names_both_counts() -> None:
    ids = torch.tensor([[7, -1, -1, 8]])
    with pytest.raises(ValueError, match=r"2 placeholder positions.*2 slots of 2 soft tokens give 4"):
        splice(torch.zeros(1, 4, 3), ids, -1, torch.zeros(2, 2, 3))
    with pytest.raises(ValueError, match=r"5 wide.*embeddings 3"):
        splice(torch.zeros(1, 4, 3), ids, -1, torch.zeros(1, 2, 5))


@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(st.integers(1, 90), min_size=1, max_size=60), size=st.integers(1, 9), seed=st.integers(0, 5))
def test_an_epoch_holds_every_example_once(lengths: list[int], size: int, seed: int) -> None:
    sampler = LengthGroupedSampler(lengths, size, seed)
    rows = [row for batch in sampler for row in batch]
    assert sorted(rows) == list(range(len(lengths)))
    assert sorted(row for batch in sorted_batches(lengths, size) for row in batch) == list(range(len(lengths)))


def test_order_depends_on_seed_and_epoch_alone() -> None:
    lengths = list(range(100))
    one, two = LengthGroupedSampler(lengths, 8, seed=3), LengthGroupedSampler(lengths, 8, seed=3)
    list(one)
    assert list(one) == two.batches(1) != two.batches(0)
    assert LengthGroupedSampler(lengths, 8, seed=4).batches(0) != two.batches(0)
    assert [two.batch_at(step) for step in range(26)] == two.batches(0) + two.batches(1)


def test_batches_hold_similar_lengths() -> None:
    lengths = torch.randint(20, 200, (2000,), generator=torch.Generator().manual_seed(0)).tolist()
    sampler = LengthGroupedSampler(lengths, 10)
    padded = sum(len(batch) * max(lengths[row] for row in batch) for batch in sampler)
    assert padded / sum(lengths) < 1.03


def test_position_is_resumable() -> None:
    lengths = list(range(40))
    first = LengthGroupedSampler(lengths, 8)
    walk = iter(first)
    seen = [next(walk) for _ in range(3)]
    resumed = LengthGroupedSampler(lengths, 8)
    resumed.load_state_dict(first.state_dict())
    assert seen + list(resumed) == first.batches(0)
    assert list(resumed) == first.batches(1)
    sought = LengthGroupedSampler(lengths, 8)
    sought.seek(7)
    assert list(sought) == first.batches(1)[2:]


def test_another_order_is_not_resumed() -> None:
    sampler = LengthGroupedSampler(list(range(40)), 8)
    for other in (LengthGroupedSampler(list(range(40)), 8, seed=1), LengthGroupedSampler(list(range(80)), 8)):
        with pytest.raises(ValueError, match="resume with the same"):
            sampler.load_state_dict(other.state_dict())


def test_processes_share_an_epoch_without_overlap() -> None:
    lengths = list(range(44))
    shards = [LengthGroupedSampler(lengths, 4, rank=rank, world_size=2) for rank in range(2)]
    counts = Counter(row for shard in shards for batch in shard for row in batch)
    assert set(counts.values()) == {1}
    assert len(counts) == 40
    assert len({len(shard) for shard in shards}) == 1


def test_impossible_samplers_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        LengthGroupedSampler([1], 0)
    with pytest.raises(ValueError, match="0 examples"):
        LengthGroupedSampler([], 4)
    with pytest.raises(ValueError, match="2 processes"):
        LengthGroupedSampler([1, 2], 4, world_size=2)
