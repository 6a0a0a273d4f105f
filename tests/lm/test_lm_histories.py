"""Which examples share a history, and the batches made of them."""

from collections import Counter

import numpy as np
import pytest
import torch
from lm_tiny import CHAT, QUERIES, byte_tokenizer, make_model

from ilm_lightning.data.openp5 import Indexing, Sequences, make_indexing
from ilm_lightning.lm import PromptTokenizer, Tuning
from ilm_lightning.lm.histories import SharedBatches, families
from ilm_lightning.lm.recommendation import Renderer, RenderSettings, UserCollator
from ilm_lightning.lm.shared import SharedCollator
from ilm_lightning.tasks.openp5 import Example, PromptSets, TrainingIndex, read_prompts
from ilm_lightning.tasks.openp5.windows import runs_of, same_start, window_starts

LINES = """sequential; seen; {dataset} user_{user_id} bought {history} . Next ?; {dataset} {target}
sequential; seen; {dataset} user_{user_id} bought {history} , and then ?; {dataset} {target}
sequential; seen; After {history} , what would {dataset} user_{user_id} buy ?; {dataset} {target}
straightforward; seen; What is good for {dataset} user_{user_id} ?; {dataset} {target}
"""
HISTORY = 4
WIDTHS = {"semantic": 6, "behavioral": 4}


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> PromptSets:
    path = tmp_path_factory.mktemp("prompts") / "prompt.txt"
    path.write_text(LINES)
    return read_prompts(path)


@pytest.fixture(scope="module")
def data() -> tuple[Sequences, Indexing]:
    rng = np.random.default_rng(0)
    lists = [rng.permutation(16)[:length].astype(np.int32) for length in (14, 4, 3, 9, 7)]
    offsets = np.cumsum([0, *map(len, lists)])
    sequences = Sequences("Shop", list("abcde"), [str(i) for i in range(16)], offsets, np.concatenate(lists))
    return sequences, make_indexing(sequences, "sequential")


def renderer(data: tuple[Sequences, Indexing], **settings: object) -> Renderer:
    tokenizer = PromptTokenizer(byte_tokenizer(CHAT), QUERIES)
    return Renderer(tokenizer, *data, RenderSettings(**({"history": HISTORY} | settings)))  # type: ignore[arg-type]


def users(rows: np.ndarray, positions: np.ndarray) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    table = {
        name: torch.randn(8, 20, width, generator=generator) for name, width in (("semantic", 6), ("behavioral", 4))
    }
    return {name: values[rows, positions] for name, values in table.items()}


def collator(sequences: Sequences) -> UserCollator:
    generator = torch.Generator().manual_seed(7)
    vectors = {
        name: torch.randn(16, width, generator=generator) for name, width in (("semantic", 6), ("behavioral", 4))
    }
    return UserCollator(vectors, sequences, users)


def key(example: Example) -> tuple[int, int, str]:
    return example.user, example.position, example.prompt.input


def test_windows_slide_or_move_in_blocks() -> None:
    positions = np.arange(1, 40)
    starts = window_starts(positions, 20)
    assert (np.minimum(positions, 20) == positions - starts).all()
    in_blocks = window_starts(positions, 20, 6)
    shown = positions - in_blocks
    assert set(in_blocks) == {0, 6, 12, 18, 24}
    assert (in_blocks[positions <= 20] == 0).all()
    assert shown[positions > 20].min() == 15
    assert shown.max() == 20
    assert window_starts(positions, 20, 1).tolist() == starts.tolist()


@pytest.mark.parametrize("block", [0, 2])
def test_windows_hold_every_position_once_and_begin_at_one_item(
    data: tuple[Sequences, Indexing], prompts: PromptSets, block: int
) -> None:
    index = TrainingIndex(data[0], prompts.training)
    windows = same_start(index, HISTORY, block)
    places = [
        (user, position)
        for user, first, last in zip(windows.users, windows.first, windows.last, strict=True)
        for position in range(first, last + 1)
    ]
    assert places == list(zip(*(part.tolist() for part in index.places(np.arange(index.n_targets))), strict=True))
    assert windows.sizes.sum() == index.n_targets
    for first, last in zip(windows.first, windows.last, strict=True):
        assert len(set(window_starts(np.arange(first, last + 1), HISTORY, block).tolist())) == 1
    longest = runs_of(index, HISTORY)
    assert longest.sizes.max() == HISTORY
    assert longest.sizes.sum() == index.n_targets


def test_prompts_that_begin_alike_are_one_family(data: tuple[Sequences, Indexing], prompts: PromptSets) -> None:
    render = renderer(data)
    index = TrainingIndex(data[0], prompts.training)
    found = families(render, index)
    texts = [[prompt.input.split("{history}")[-1] for prompt in family.prompts] for family in found]
    assert texts[0] == [" . Next ?", " , and then ?"]
    assert [len(family.prompts) for family in found] == [2, 1, 1]
    assert sum(int(family.sizes.sum()) for family in found) == len(index)
    # a user's vector that moves with the target leaves nothing to share behind it
    moving = families(renderer(data, user_tokens=True), index)
    assert [int(family.windows.sizes.max()) for family in moving] == [1, HISTORY, 1]
    fixed = families(renderer(data, user_tokens=True, user_moves=False), index)
    assert [int(family.windows.sizes.max()) for family in fixed] == [HISTORY, HISTORY, HISTORY]


SETTINGS = [
    {},
    {"block": 2},
    {"item_tokens": False},
    {"user_tokens": True},
    {"user_tokens": True, "user_moves": False, "block": 3},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_an_epoch_holds_every_example_once(
    data: tuple[Sequences, Indexing], prompts: PromptSets, settings: dict[str, object]
) -> None:
    render, index = renderer(data, **settings), TrainingIndex(data[0], prompts.training)
    shared = SharedBatches(families(render, index), 5, seed=1)
    assert shared.steps_per_epoch == len(index) // 5
    epoch = [shared(step) for step in range(shared.steps_per_epoch)]
    assert {sum(map(len, groups)) for groups in epoch} == {5}
    counts = Counter(key(example) for groups in epoch for group in groups for example in group)
    assert max(counts.values()) == 1
    assert len(counts) == len(index) // 5 * 5
    # all of one group begin alike
    for groups in epoch:
        for group in groups:
            assert len({(example.user, example.prompt.task) for example in group}) == 1


def test_order_is_a_function_of_seed_and_step(data: tuple[Sequences, Indexing], prompts: PromptSets) -> None:
    render, index = renderer(data), TrainingIndex(data[0], prompts.training)
    found = families(render, index)
    shared, again, other = (SharedBatches(found, 5, seed) for seed in (1, 1, 2))
    last = shared.steps_per_epoch
    assert [again(step) for step in (last + 2, 3, 0)] == [shared(step) for step in (last + 2, 3, 0)]
    epochs = [[shared(step) for step in range(start, start + last)] for start in (0, last)]
    assert epochs[0] != epochs[1]
    assert [other(step) for step in range(last)] != epochs[0]
    # more examples than there are make one batch of all
    whole = SharedBatches(found, 10**6, 0)
    assert whole.steps_per_epoch == 1
    assert sum(map(len, whole(1))) == len(index)


@pytest.mark.parametrize("settings", SETTINGS)
def test_tokens_are_those_of_the_trees(
    data: tuple[Sequences, Indexing], prompts: PromptSets, settings: dict[str, object]
) -> None:
    render, index = renderer(data, **settings), TrainingIndex(data[0], prompts.training)
    found = families(render, index)
    shared, collate = SharedBatches(found, len(index), 0), SharedCollator(collator(data[0]), packed=True)
    groups = [[render(example) for example in group] for group in shared(0)]
    read = sum(collate([group]).n_tokens for group in groups)
    # the last token of each example is not read, and words that prompts happen to share are read once
    counted = int(shared.tokens.sum()) - len(index)
    assert 0.9 * counted <= read <= counted
    assert shared.mean_tokens == pytest.approx(shared.tokens.sum() / len(index))
    apart = sum(len(example) for group in groups for example in group)
    assert apart == int(render.lengths(index).sum())
    assert shared.tokens.sum() < apart


def test_the_largest_batch_is_known_before_any_is_made(data: tuple[Sequences, Indexing], prompts: PromptSets) -> None:
    render = renderer(data)
    index = TrainingIndex(data[0], prompts.training)
    found = families(render, index)
    # windows are read whole where a batch holds all of them
    whole, collate = SharedBatches(found, len(index), 0), SharedCollator(collator(data[0]), packed=True)
    groups = [[render(example) for example in group] for group in whole(0)]
    # examples' last tokens are not read, and words that prompts happen to share are read once
    counted = whole.largest() - len(index)
    assert 0.9 * counted <= collate(groups).n_tokens <= counted
    few = SharedBatches(found, 5, 0)
    steps = range(min(50, few.steps_per_epoch))
    read = [sum(len(render(example)) for group in few(step) for example in group) for step in steps]
    assert whole.mean_tokens * 5 < few.largest() <= max(read)


@pytest.mark.parametrize("settings", SETTINGS)
def test_training_on_a_shared_batch_equals_its_examples_apart(
    data: tuple[Sequences, Indexing], prompts: PromptSets, settings: dict[str, object]
) -> None:
    render, index = renderer(data, **settings), TrainingIndex(data[0], prompts.training)
    shared, collate = SharedBatches(families(render, index), 24, 0), collator(data[0])
    model = make_model(Tuning.FULL)
    for step in range(2):
        groups = [[render(example) for example in group] for group in shared(step)]
        found, grads = [], []
        for batch in (collate([e for group in groups for e in group]), SharedCollator(collate, packed=True)(groups)):
            output = model(batch)
            output.loss.backward()
            found.append(output.token_losses.detach())
            grads.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
            model.zero_grad(set_to_none=True)
        assert torch.allclose(found[0], found[1], rtol=1e-4, atol=1e-5)
        for name, gradient in grads[0].items():
            assert (grads[1][name] - gradient).abs().max() <= 1e-4 * gradient.abs().max(), name


def test_users_with_one_vector_share_its_slot(data: tuple[Sequences, Indexing], prompts: PromptSets) -> None:
    prompt = prompts.training[0]
    moving, fixed = renderer(data, user_tokens=True), renderer(data, user_tokens=True, user_moves=False)
    slots = [[render(Example(3, position, prompt)).slots[0] for position in (1, 4)] for render in (moving, fixed)]
    assert slots[0][0] != slots[0][1]
    assert slots[1][0] == slots[1][1]
    # the place after a user's last item is still this user's
    batch = collator(data[0])([fixed(Example(3, 4, prompt))])
    assert torch.equal(batch.sources["behavioral"][0], users(np.array([3]), np.array([9]))["behavioral"][0])
