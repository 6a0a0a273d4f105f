"""OpenP5 examples: numbering, rendering, lengths, users' vectors, batches."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from lm_tiny import CHAT, QUERIES, byte_tokenizer

from ilm_lightning.data.errors import DataError
from ilm_lightning.data.openp5 import Indexing, Sequences, make_indexing
from ilm_lightning.lm import PromptTokenizer
from ilm_lightning.lm.assembly import Assembler, StepBatches
from ilm_lightning.lm.batch import PLACEHOLDER_ID
from ilm_lightning.lm.collate import Collator
from ilm_lightning.lm.recommendation import Renderer, RenderSettings, UserCollator, shared_output
from ilm_lightning.tasks.openp5 import Example, PromptSets, TrainingIndex, held_out_examples, read_prompts
from ilm_lightning.tasks.openp5.examples import chosen_users

LINES = """sequential; seen; {dataset} user_{user_id} bought {history} . Next ?; {dataset} {target}
sequential; seen; After {history} , what would {dataset} user_{user_id} buy ?; {dataset} {target}
straightforward; seen; What is good for {dataset} user_{user_id} ?; {dataset} {target}
sequential; unseen; {history} led user_{user_id} to ?; {dataset} {target}
straightforward; unseen; Advise user_{user_id} .; {dataset} {target}
"""


@pytest.fixture
def prompts(tmp_path: Path) -> PromptSets:
    (tmp_path / "prompt.txt").write_text(LINES)
    return read_prompts(tmp_path / "prompt.txt")


@pytest.fixture
def data() -> tuple[Sequences, Indexing]:
    lists = [[0, 1, 2, 3, 4], [2, 1, 0], [4, 3, 2, 1, 0, 5, 6]]
    offsets = np.cumsum([0, *map(len, lists)])
    values = np.concatenate(lists).astype(np.int32)
    sequences = Sequences("Shop", ["ann", "bob", "cid"], list("abcdefg"), offsets, values)
    return sequences, make_indexing(sequences, "sequential")


def renderer(data: tuple[Sequences, Indexing], chat: str | None = None, **settings: object) -> Renderer:
    tokenizer = PromptTokenizer(byte_tokenizer(chat), QUERIES)
    return Renderer(tokenizer, *data, RenderSettings(**settings))  # type: ignore[arg-type]


def plain_collator() -> Collator:
    return Collator({"behavioral": torch.arange(14.0).view(7, 2)})


def text(render: Renderer, example: Example) -> tuple[str, str]:
    """Prompt and target as text, a slot as [*]."""
    made = render(example)
    tokenizer = render.tokenizer.tokenizer
    parts, run = [], []
    for token in [*made.prompt_ids.tolist(), None]:
        if token is None or token == PLACEHOLDER_ID:
            parts.append(tokenizer.decode(run))
            run = []
            if token == PLACEHOLDER_ID:
                parts.append("*")
        else:
            run.append(token)
    prompt = "".join(parts).replace("*" * QUERIES, "[*]")
    return prompt, tokenizer.decode(made.target_ids.tolist(), skip_special_tokens=True)


def test_index_counts_every_position_and_prompt_once(data: tuple[Sequences, Indexing], prompts: PromptSets) -> None:
    sequences, _ = data
    index = TrainingIndex(sequences, prompts.training)
    assert len(index) == (15 - 3 * 3) * 3
    found = [(e.user, e.position, e.prompt.input) for e in map(index.__getitem__, range(len(index)))]
    wanted = [
        (user, position, prompt.input)
        for user in range(3)
        for position in range(1, int(sequences.lengths[user]) - 2)
        for prompt in prompts.training
    ]
    assert found == wanted
    with pytest.raises(IndexError):
        index[len(index)]


def test_prompt_reads_as_openp5(data: tuple[Sequences, Indexing], prompts: PromptSets) -> None:
    example = Example(2, 4, prompts.training[0])
    prompt, target = text(renderer(data, history=3), example)
    ids = data[1].items
    expected = f"Shop user_3 bought item_{ids[3]}[*] , item_{ids[2]}[*] , item_{ids[1]}[*] . Next ?\n"
    assert prompt == expected
    assert target == f"Shop item_{ids[0]}"
    plain, _ = text(renderer(data, history=3, item_tokens=False), example)
    assert plain == expected.replace("[*]", "")
    with_user, _ = text(renderer(data, history=3, user_tokens=True), example)
    assert with_user == expected.replace("user_3", "user_3[*]")
    chat, _ = text(renderer(data, CHAT, history=3), example)
    assert chat.startswith("<|im_start|>user\nShop user_3")
    assert chat.endswith("<|im_start|>assistant\n")


def test_slots_are_the_shown_items_and_the_user_at_the_position(
    data: tuple[Sequences, Indexing], prompts: PromptSets
) -> None:
    made = renderer(data, history=2, user_tokens=True)(Example(2, 4, prompts.training[0]))
    assert made.slots == ((7 + 8 + 4,), (2,), (1,))
    made = renderer(data, user_tokens=True)(Example(1, 2, prompts.training[2]))
    assert made.slots == ((7 + 5 + 2,),)


@pytest.mark.parametrize("settings", [{}, {"history": 2}, {"item_tokens": False}, {"user_tokens": True, "history": 1}])
def test_lengths_equal_what_is_rendered(
    data: tuple[Sequences, Indexing], prompts: PromptSets, settings: dict[str, object]
) -> None:
    index = TrainingIndex(data[0], prompts.training)
    render = renderer(data, CHAT, **settings)
    lengths = Assembler(render, index, plain_collator()).lengths(np.arange(len(index)))
    assert lengths.tolist() == [len(render(index[i])) for i in range(len(index))]


def test_test_examples_are_the_last_items(data: tuple[Sequences, Indexing], prompts: PromptSets) -> None:
    sequences, _ = data
    for split in ("test", "validation"):
        examples = held_out_examples(sequences, prompts.tested("sequential", "unseen"), split, [0, 2])
        assert [int(sequences.items(e.user)[e.position]) for e in examples] == sequences.targets(split)[[0, 2]].tolist()
        assert all(len(renderer(data).window(e.user, e.position)) == e.position for e in examples)


def test_batches_are_a_function_of_the_step_and_cover_an_epoch(
    data: tuple[Sequences, Indexing], prompts: PromptSets
) -> None:
    index = TrainingIndex(data[0], prompts.training)
    lengths = Assembler(renderer(data), index, plain_collator()).lengths
    batches = StepBatches(index, lengths, 3, seed=1)
    assert batches.steps_per_epoch == 6
    epoch = [batches(step) for step in range(6)]
    counts = Counter(example.name(data[0]) + example.prompt.input for batch in epoch for example in batch)
    assert len(counts) == 18
    assert max(counts.values()) == 1
    padded = [3 * int(lengths(batches.numbers(step)).max()) for step in range(min(50, batches.steps_per_epoch))]
    assert batches.largest() == max(padded)
    again = StepBatches(index, lengths, 3, seed=1)
    assert [again(step) for step in (5, 0, 7)] == [epoch[5], epoch[0], batches(7)]
    assert [StepBatches(index, lengths, 3, seed=2)(step) for step in range(6)] != epoch


def test_users_rows_get_the_vectors_of_that_place(data: tuple[Sequences, Indexing], prompts: PromptSets) -> None:
    sequences, _ = data
    asked = []

    def users(rows: np.ndarray, positions: np.ndarray) -> dict[str, torch.Tensor]:
        asked.append((rows.tolist(), positions.tolist()))
        return {"behavioral": torch.tensor(np.stack([rows, positions], 1), dtype=torch.float32) + 100}

    items = torch.arange(14.0).view(7, 2)
    collate = UserCollator({"behavioral": items}, sequences, users)
    render = renderer(data, user_tokens=True)
    last = render(Example(0, 5, prompts.training[2]), with_target=False)
    batch = collate([render(Example(2, 4, prompts.training[0])), last])
    assert asked == [([2, 0], [4, 5])]
    rows = batch.sources["behavioral"][batch.slot_index].tolist()
    assert rows == [[102, 104], *items[[4, 3, 2, 1]].tolist(), [100, 105]]
    # without users nothing is asked
    collate([renderer(data)(Example(2, 4, prompts.training[0]))])
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("sequential; seen; {history} ?", "line 1: 3 fields"),
        ("sequence; seen; {history} ?; {target}", "'sequence; seen'"),
        ("sequential; new; {history} ?; {target}", "'sequential; new'"),
        ("sequential; unseen; {history} ?; {dataset} item", "{target} must stand once in the output"),
        ("sequential; seen; {history} {target} ?; {target}", "not in the input"),
        ("sequential; seen; {item} {history} ?; {target}", "unknown slot {item}"),
        ("sequential; seen; what ?; {target}", "{history} stands once"),
        ("straightforward; seen; {history} ?; {target}", "no straightforward one"),
        ("straightforward; seen; ?; {user_id} {target}", "output may hold"),
        ("straightforward; seen; {user_id} {user_id} ?; {target}", "may stand once"),
        ("sequential; unseen; {history} ?; {target}", "no seen prompt"),
    ],
)
def test_broken_prompts_are_named(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "p.txt").write_text(line + "\n")
    with pytest.raises(DataError) as error:
        read_prompts(tmp_path / "p.txt")
    assert message in str(error.value)


def test_missing_prompts_and_mixed_outputs(tmp_path: Path, prompts: PromptSets) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_prompts(tmp_path / "none.txt")
    (tmp_path / "p.txt").write_text("sequential; seen; {history} ?; {target}\n")
    few = read_prompts(tmp_path / "p.txt")
    with pytest.raises(DataError, match="no unseen prompt for sequential"):
        few.tested("sequential", "unseen")
    with pytest.raises(DataError, match="no seen prompt for straightforward"):
        few.tested("straightforward", "seen")
    assert shared_output(prompts.training) == "{dataset} {target}"
    with pytest.raises(ValueError, match="one output template"):
        shared_output([*prompts.training, *few.training])


def test_chosen_users_are_fixed_by_the_seed() -> None:
    assert chosen_users(5, 0).tolist() == chosen_users(5, 9).tolist() == [0, 1, 2, 3, 4]
    assert chosen_users(1000, 10).tolist() == chosen_users(1000, 10).tolist()
    assert chosen_users(1000, 10).tolist() != chosen_users(1000, 10, seed=1).tolist()
    assert len(set(chosen_users(1000, 10).tolist())) == 10
