import pytest
import torch
from lm_tiny import ARCHITECTURES, make_model

from ilm_lightning.lm import Collator, PromptTokenizer, generate, target_losses
from ilm_lightning.lm.generate import greedy, stop_ids
from ilm_lightning.lm.prompts import TokenisedExample

Examples = list[TokenisedExample]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_greedy_equals_transformers(name: str, examples: Examples, collator: Collator) -> None:
    model = make_model(lm=ARCHITECTURES[name]())
    for example in examples:
        batch = collator.prompts([example])
        theirs = model.lm.generate(
            inputs_embeds=model.embed(batch), attention_mask=batch.attention_mask, max_new_tokens=12, do_sample=False
        )[0]
        (ours,) = greedy(model, batch, {1}, 12)
        assert ours == theirs[: len(ours)].tolist()
        assert len(ours) == 12 or ours[-1] == 1


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_texts_do_not_depend_on_the_batch(
    name: str, examples: Examples, collator: Collator, prompts: PromptTokenizer
) -> None:
    model = make_model(lm=ARCHITECTURES[name]())
    together = generate(model, examples, collator, prompts, 16, batch_size=5)
    for size in (1, 2):
        assert generate(model, examples, collator, prompts, 16, batch_size=size).token_ids == together.token_ids
    backwards = generate(model, examples[::-1], collator, prompts, 16, batch_size=3)
    assert backwards.token_ids[::-1] == together.token_ids
    assert backwards.example_ids[::-1] == together.example_ids == ["a", "b", "c", "d", "e"]
    assert len({tuple(ids) for ids in together.token_ids}) > 1


def test_rows_that_end_leave_the_others_unchanged(
    examples: Examples, collator: Collator, prompts: PromptTokenizer
) -> None:
    model = make_model()
    free = generate(model, examples, collator, prompts, 16)
    # any token that one row writes midway and another does not
    stop = next(t for t in free.token_ids[0][2:] if any(t not in ids for ids in free.token_ids))
    texts = greedy(model, collator.prompts(examples), {stop}, 16)
    for ids, whole in zip(texts, free.token_ids, strict=True):
        end = whole.index(stop) + 1 if stop in whole else len(whole)
        assert ids == whole[:end]
    assert len({len(ids) for ids in texts}) > 1


def test_end_token_is_left_out_and_cut_off_is_told(
    examples: Examples, collator: Collator, prompts: PromptTokenizer
) -> None:
    model = make_model()
    free = generate(model, examples, collator, prompts, 6)
    assert free.cut_off == [True] * 5
    assert free.cut_off_share == 1.0
    model.lm.generation_config.eos_token_id = [1, free.token_ids[0][3]]
    ended = generate(model, examples, collator, prompts, 6)
    assert not ended.cut_off[0]
    assert ended.token_ids[0] == free.token_ids[0][: free.token_ids[0].index(free.token_ids[0][3])]
    assert stop_ids(model, 1) == {1, free.token_ids[0][3]}


def test_vectors_change_the_text_and_a_row_map_moves_it(
    examples: Examples, collator: Collator, prompts: PromptTokenizer
) -> None:
    model = make_model()
    pair = prompts.encode(
        {"example_id": str(row), "prompt": "Say {item}", "slots": [[row]], "target": "x"} for row in (2, 9)
    )
    own = generate(model, pair, collator, prompts, 12)
    assert own.token_ids[0] != own.token_ids[1]
    swap = torch.arange(12)
    swap[[2, 9]] = swap[[9, 2]]
    swapped = generate(model, pair, collator.with_row_map(swap), prompts, 12)
    assert swapped.token_ids == own.token_ids[::-1]


def test_mode_is_restored(examples: Examples, collator: Collator, prompts: PromptTokenizer) -> None:
    model = make_model().train()
    generate(model, examples[:1], collator, prompts, 2)
    assert model.training
    target_losses(model.eval(), examples[:1], collator)
    assert not model.training


def test_target_losses_equal_the_models(examples: Examples, collator: Collator) -> None:
    model = make_model()
    losses = target_losses(model, examples, collator, batch_size=2)
    whole = model(collator(examples))
    assert losses.example_ids == [example.example_id for example in examples]
    for row, mine in enumerate(losses.token_losses):
        theirs = whole.token_losses[whole.target_rows == row].detach()
        assert torch.allclose(torch.from_numpy(mine), theirs, rtol=1e-4, atol=1e-5)
    assert losses.mean == pytest.approx(whole.loss.item(), rel=1e-4)
    assert losses.bits[0] == pytest.approx(float(losses.token_losses[0].sum()) / 0.6931472, rel=1e-5)


def test_no_examples_give_no_texts(collator: Collator, prompts: PromptTokenizer) -> None:
    empty = generate(make_model(), [], collator, prompts)
    assert empty.texts == []
    assert empty.cut_off_share == 0.0
