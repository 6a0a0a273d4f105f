"""Batches put together from pieces: equal to examples rendered one by one; tables on disk; orders that are computed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from lm_tiny import CHAT, QUERIES, byte_tokenizer
from test_lm_recommendation import data, plain_collator, prompts, renderer  # noqa: F401 - fixtures

from ilm_lightning.data.openp5 import Indexing, Sequences
from ilm_lightning.lm import PromptTokenizer
from ilm_lightning.lm.assembly import Assembler
from ilm_lightning.lm.collate import Collator
from ilm_lightning.lm.pieces import PieceTable
from ilm_lightning.lm.recommendation import Renderer, RenderSettings, UserCollator, prompt_pieces
from ilm_lightning.lm.shuffle import shuffled
from ilm_lightning.tasks.openp5 import PromptSets, TrainingIndex

Data = tuple[Sequences, Indexing]
SETTINGS = [
    {},
    {"history": 2},
    {"history": 1, "user_tokens": True},
    {"item_tokens": False},
    {"item_tokens": False, "user_tokens": True},
    {"history": 30, "user_tokens": True, "user_moves": False},
    {"history": 3, "block": 2},
]


def with_users(sequences: Sequences) -> Collator:
    def users(rows: np.ndarray, positions: np.ndarray) -> dict[str, torch.Tensor]:
        return {"behavioral": torch.tensor(np.stack([rows, positions], 1), dtype=torch.float32) + 100}

    return UserCollator(plain_collator().vectors, sequences, users)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("chat", [None, CHAT])
def test_a_batch_equals_the_examples_rendered_one_by_one(
    data: Data,  # noqa: F811
    prompts: PromptSets,  # noqa: F811
    settings: dict[str, object],
    chat: str | None,
) -> None:
    index = TrainingIndex(data[0], prompts.training)
    render, collate = renderer(data, chat, **settings), with_users(data[0])
    assemble = Assembler(render, index, collate)
    for numbers in (np.arange(len(index)), np.array([7, 3, 3, 17], np.int32), np.array([2])):
        ours, plain = assemble(numbers), collate([render(index[int(number)]) for number in numbers])
        for name in ("input_ids", "attention_mask", "labels"):
            assert torch.equal(getattr(ours, name), getattr(plain, name)), name
            assert getattr(ours, name).dtype == torch.long
        assert ours.example_ids == plain.example_ids
        for name, vectors in plain.sources.items():
            assert torch.equal(ours.sources[name][ours.slot_index], vectors[plain.slot_index])
            assert len(ours.sources[name]) == len(vectors)


def test_batches_without_slots_have_no_vectors(data: Data, prompts: PromptSets) -> None:  # noqa: F811
    index = TrainingIndex(data[0], prompts.training)
    batch = Assembler(renderer(data, item_tokens=False), index, plain_collator())(np.array([0, 4]))
    assert batch.sources["behavioral"].shape == (0, 2)
    assert len(batch.slot_index) == 0


def test_a_table_on_disk_gives_the_same_batches(data: Data, prompts: PromptSets, tmp_path: Path) -> None:  # noqa: F811
    index, tokenizer = TrainingIndex(data[0], prompts.training), PromptTokenizer(byte_tokenizer(CHAT), QUERIES)
    prompt_pieces(tokenizer, data[0].name, data[1], prompts.training).save(tmp_path)
    table = PieceTable.open(tmp_path)
    assert isinstance(table.ids, np.memmap)
    stored = Renderer(tokenizer, *data, RenderSettings(), table)
    assert stored.pieces_of(prompts.training) is table
    numbers = np.arange(len(index))
    ours = Assembler(stored, index, plain_collator())(numbers)
    plain = Assembler(renderer(data, CHAT), index, plain_collator())(numbers)
    assert torch.equal(ours.input_ids, plain.input_ids)
    output = prompts.training[0].output
    pairs = zip(stored.targets(output), renderer(data, CHAT).targets(output), strict=True)
    assert all(np.array_equal(left, right) for left, right in pairs)
    assert all(ids[-1] == tokenizer.eos_id for ids in stored.targets(output))


def test_sections_read_as_sequences(data: Data) -> None:  # noqa: F811
    tokenizer = PromptTokenizer(byte_tokenizer(), QUERIES)
    table = PieceTable.tokenised(tokenizer, {"words": iter(["ab", "", "c"]), "ended": ["d"]}, ended={"ended"})
    words = table.section("words")
    assert [tokenizer.decode(ids.tolist()) for ids in words] == ["ab", "", "c"]
    assert [len(ids) for ids in words[1:]] == words.sizes()[1:].tolist() == [0, 1]
    assert np.array_equal(words[-1], words[2])
    assert table.section("ended")[0].tolist()[-1] == tokenizer.eos_id
    with pytest.raises(IndexError, match="piece 3 of 3"):
        words[3]
    ids, lengths, last = table.lay(np.array([[words.first, 0], [words.first + 2, words.first]]))
    assert [tokenizer.decode(row[:end].tolist()) for row, end in zip(ids, lengths, strict=True)] == ["ab", "cab"]
    assert (lengths.tolist(), last.tolist()) == ([2, 3], [0, 2])


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 15, 16, 17, 1000])
def test_every_number_has_one_place(count: int) -> None:
    order = shuffled(np.arange(count), count, (3, 4))
    assert sorted(order.tolist()) == list(range(count))
    assert shuffled(np.arange(count)[::-1], count, (3, 4)).tolist() == order[::-1].tolist()


def test_orders_differ_by_key_and_look_random() -> None:
    count = 20_000
    orders = [shuffled(np.arange(count), count, (seed, epoch)) for seed in (0, 1) for epoch in (0, 1)]
    for left in range(4):
        for right in range(left):
            assert (orders[left] == orders[right]).mean() < 0.001
        # as ranks of a random permutation: uncorrelated with the place, steps as long as chance makes them
        assert abs(np.corrcoef(np.arange(count), orders[left])[0, 1]) < 0.03
        assert abs(np.abs(np.diff(orders[left])).mean() / (count / 3) - 1) < 0.03
        # numbers of one user stand beside one another: they must not stay together
        assert abs(np.corrcoef(orders[left][:-1], orders[left][1:])[0, 1]) < 0.03


def test_a_far_place_is_cheap() -> None:
    count = 19_600_000
    found = shuffled(np.array([0, count - 1]), count, 0)
    assert found.min() >= 0
    assert found.max() < count
