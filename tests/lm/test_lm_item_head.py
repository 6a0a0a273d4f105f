"""The item head: scores and losses by hand, what trains, what leaks, what is saved."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lm_tiny import ITEMS, WIDTH, make_model, tiny_llama, tiny_qwen
from torch import Tensor, nn

from ilm_lightning.lm import Backbone, Collator, ItemLanguageModel, LMReference, PromptTokenizer, Tuning
from ilm_lightning.lm.heads import LARGEST_SCALE, ItemHead
from ilm_lightning.lm.item_head import (
    RankBatch,
    catalogue_scores,
    distinct_rows,
    item_directions,
    item_losses,
    pooled,
    prompt_states,
    training_losses,
)
from ilm_lightning.lm.item_head_module import ItemHeadModule
from ilm_lightning.lm.module import OptimiserSettings, parameter_groups
from ilm_lightning.lm.prompts import TokenisedExample


def headed(tuning: Tuning = Tuning.FROZEN, lm: nn.Module | None = None) -> ItemLanguageModel:
    plain = make_model(tuning, lm)
    return ItemLanguageModel(plain.adapter, Backbone(plain.lm, tuning, torch.float32, LMReference("tiny")), True).eval()


@pytest.fixture
def batch(collator: Collator, examples: list[TokenisedExample]) -> RankBatch:
    return RankBatch(collator.prompts(examples), torch.tensor([3, 7, 0, 11, 5]), 5)


def test_scores_worked_by_hand() -> None:
    head = ItemHead(2)
    # cosines of (3, 4) with the axes are 3/5 and 4/5, at the first scale of 20
    scores = head(torch.tensor([[3.0, 4.0]]), torch.eye(2))
    assert scores.tolist()[0] == pytest.approx([12.0, 16.0], abs=1e-4)
    with torch.no_grad():
        head.projection.weight.copy_(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
        head.log_scale.fill_(math.log(5.0))
    assert head(torch.tensor([[3.0, 4.0]]), torch.eye(2)).tolist()[0] == pytest.approx([4.0, 3.0], abs=1e-5)
    with torch.no_grad():
        head.log_scale.fill_(99.0)
    assert head(torch.tensor([[0.0, 1.0]]), torch.eye(2)).max().item() == pytest.approx(LARGEST_SCALE, rel=1e-5)


def test_pooling_counts_every_soft_token_alike() -> None:
    soft = torch.tensor([[[3.0, 0.0], [0.0, 0.1]], [[0.0, -2.0], [0.0, -7.0]]])
    assert torch.allclose(pooled(soft), torch.tensor([[0.5**0.5, 0.5**0.5], [0.0, -1.0]]))


def test_losses_worked_by_hand() -> None:
    scores = torch.tensor([[1.0, 2.0, 0.0, -1.0], [0.5, 0.5, 0.5, 3.0]])
    targets = torch.tensor([1, 0])
    exact = torch.nn.functional.cross_entropy(scores, targets, reduction="none")
    own = scores.gather(1, targets[:, None])[:, 0]
    assert torch.allclose(item_losses(own, scores, torch.arange(4), targets, 4), exact)
    # a sample of item 3 alone stands for three items; for the second row too
    sampled = item_losses(own, scores[:, 3:], torch.tensor([3]), targets, 4)
    by_hand = [math.log(math.exp(2) + 3 * math.exp(-1)) - 2, math.log(math.exp(0.5) + 3 * math.exp(3)) - 0.5]
    assert sampled.tolist() == pytest.approx(by_hand, abs=1e-5)
    # where the target was drawn it does not count against itself
    drawn = item_losses(own, scores[:, [1, 3]], torch.tensor([1, 3]), targets, 4)
    with_both = math.log(math.exp(0.5) + 1.5 * (math.exp(0.5) + math.exp(3))) - 0.5
    assert drawn.tolist() == pytest.approx([by_hand[0], with_both], abs=1e-5)


def test_the_sum_over_all_samples_is_the_exact_softmax() -> None:
    torch.manual_seed(0)
    scores, target = torch.randn(1, 5), torch.tensor([2])
    own = scores[:, 2]
    others = [row for row in range(5) if row != 2]
    sums = [item_losses(own, scores[:, [row]], torch.tensor([row]), target, 5).add(own).exp() for row in others]
    exact = item_losses(own, scores, torch.arange(5), target, 5).add(own).exp()
    assert float(torch.stack(sums).mean()) == pytest.approx(float(exact), rel=1e-5)


def test_training_loss_is_the_softmax_over_plain_scores(batch: RankBatch, vectors: Mapping[str, Tensor]) -> None:
    model = headed()
    losses = training_losses(model, batch, vectors, 0)
    states = prompt_states(model, batch.prompts)
    directions = nn.functional.normalize(nn.functional.normalize(model.adapter(vectors), dim=-1).mean(1), dim=-1)
    scores = 20 * nn.functional.normalize(states, dim=-1) @ directions.T
    assert torch.allclose(losses, torch.nn.functional.cross_entropy(scores, batch.targets, reduction="none"), atol=1e-4)
    # a sample as large as the catalogue is the catalogue
    assert torch.allclose(training_losses(model, batch, vectors, ITEMS), losses)


def test_sampled_losses_are_drawn_by_the_generator(batch: RankBatch, vectors: Mapping[str, Tensor]) -> None:
    model = headed()

    def at(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return training_losses(model, batch, vectors, 4)

    assert torch.equal(at(1), at(1))
    assert not torch.equal(at(1), at(2))
    torch.manual_seed(1)
    rows = distinct_rows(ITEMS, 4)
    scores = model.item_head(prompt_states(model, batch.prompts), item_directions(model, vectors))  # type: ignore[misc]
    own = scores.gather(1, batch.targets[:, None])[:, 0]
    assert torch.allclose(at(1), item_losses(own, scores[:, rows], rows, batch.targets, ITEMS), atol=1e-5)


def test_states_are_those_of_the_last_prompt_token(batch: RankBatch, examples: list[TokenisedExample]) -> None:
    model = headed()
    collate = Collator({"semantic": torch.randn(ITEMS, 6), "behavioral": torch.randn(ITEMS, 4)})
    together = prompt_states(model, collate.prompts(examples))
    for row, example in enumerate(examples):
        alone = collate.prompts([example])
        hidden = model.run_lm(model.embed(alone), alone.attention_mask).last_hidden_state
        assert torch.allclose(together[row], hidden[0, -1], atol=1e-4)


def test_chunks_change_nothing(
    batch: RankBatch, vectors: Mapping[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = headed()
    whole = torch.autograd.grad(training_losses(model, batch, vectors, 0).sum(), list(model.adapter.parameters()))
    for name in ("TRAINING_CHUNK", "ADAPTER_CHUNK"):
        monkeypatch.setattr(f"ilm_lightning.lm.item_head.{name}", 5)
    cut = torch.autograd.grad(training_losses(model, batch, vectors, 0).sum(), list(model.adapter.parameters()))
    for one, two in zip(whole, cut, strict=True):
        assert torch.allclose(one, two, atol=1e-5 * float(one.abs().max() + 1))
    with torch.no_grad():
        assert item_directions(model, vectors).shape == (ITEMS, WIDTH)


@pytest.mark.parametrize("tuning", list(Tuning))
def test_one_step_moves_exactly_what_is_trained(
    tuning: Tuning, batch: RankBatch, vectors: Mapping[str, Tensor]
) -> None:
    model = headed(tuning).train()
    before = {name: tensor.detach().clone() for name, tensor in model.named_parameters()}
    settings = OptimiserSettings(10, warmup=0.0)
    optimiser = torch.optim.AdamW(parameter_groups(model, settings))
    for _ in range(2):  # LoRA's second matrices start at zero, so that the first ones move from the second step on
        optimiser.zero_grad()
        training_losses(model, batch, vectors, 0).mean().backward()
        optimiser.step()
    moved = {name for name, tensor in model.named_parameters() if not torch.equal(tensor, before[name])}
    wanted = {name for name in before if not name.startswith("lm.")}
    if tuning is Tuning.LORA:
        wanted |= {name for name in before if "lora_" in name}
    elif tuning is Tuning.FULL:
        wanted |= set(before)
    assert moved == wanted


def test_gradients_reach_prompts_and_items(batch: RankBatch, vectors: Mapping[str, Tensor]) -> None:
    model = headed()
    tracked = {name: rows.clone().requires_grad_(True) for name, rows in vectors.items()}
    training_losses(model, batch, tracked, 0).sum().backward()
    for rows in tracked.values():
        assert rows.grad is not None
        # every item stands in the softmax
        assert (rows.grad.abs().sum(1) > 0).all()
    slots = {name: rows.clone().requires_grad_(True) for name, rows in batch.prompts.sources.items()}
    prompts = replace(batch, prompts=replace(batch.prompts, sources=slots))
    training_losses(model, prompts, vectors, 0).sum().backward()
    assert all(rows.grad is not None and (rows.grad.abs().sum(1) > 0).all() for rows in slots.values())


def test_a_head_of_words_stays_out_of_it(batch: RankBatch, vectors: Mapping[str, Tensor]) -> None:
    model = headed(Tuning.FULL, tiny_qwen())
    head = model.lm.get_output_embeddings()  # type: ignore[operator]
    assert not head.weight.requires_grad
    training_losses(model.train(), batch, vectors, 0).sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert "lm.lm_head.weight" not in model.trainable_state_dict()
    # where words are read by the matrix that writes them, it learns
    assert headed(Tuning.FULL, tiny_llama()).lm.get_output_embeddings().weight.requires_grad  # type: ignore[operator]


def test_rankings_equal_scores_one_by_one(
    collator: Collator, examples: list[TokenisedExample], vectors: Mapping[str, Tensor]
) -> None:
    model = headed()
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    handle = model.item_head.register_forward_hook(count)  # type: ignore[union-attr]
    found = np.empty((len(examples), ITEMS), np.float32)
    for places, scores in catalogue_scores(model, examples, collator, ITEMS, batch_size=2):
        found[places] = scores
    handle.remove()
    # one forward pass of each batch ranks everything
    assert calls == math.ceil(len(examples) / 2)
    assert np.exp(found).sum(1) == pytest.approx(np.ones(len(examples)), abs=1e-4)
    for row, example in enumerate(examples):
        alone = RankBatch(collator.prompts([example]), torch.tensor([4]), 1)
        loss = training_losses(model, alone, vectors, 0)
        assert -found[row, 4] == pytest.approx(loss.item(), abs=1e-4)


def test_an_answer_is_not_read(collator: Collator, prompts: PromptTokenizer) -> None:
    row = {"example_id": "x", "prompt": "After {item} comes", "slots": [[2]]}
    model = headed()
    first, second = (prompts.encode([row | {"target": target}]) for target in ("One.", "Something else."))
    (one,), (two,) = (list(catalogue_scores(model, made, collator, ITEMS)) for made in (first, second))
    assert np.array_equal(one[1], two[1])


@pytest.mark.parametrize("tuning", list(Tuning))
def test_a_folder_ranks_as_the_model_did(
    tuning: Tuning, tmp_path: Path, collator: Collator, examples: list[TokenisedExample]
) -> None:
    model = headed(tuning)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("item_head") or "lora_B" in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(tmp_path)
    again = ItemLanguageModel.from_pretrained(tmp_path, Backbone(tiny_llama(), reference=LMReference("tiny")))
    for (_, one), (_, two) in zip(
        catalogue_scores(model, examples, collator, ITEMS),
        catalogue_scores(again.merge_lora(), examples, collator, ITEMS),
        strict=True,
    ):
        assert one == pytest.approx(two, abs=1e-4)


def test_a_model_that_writes_has_no_head(collator: Collator, examples: list[TokenisedExample], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no item head: it was trained with tasks\.head=text"):
        list(catalogue_scores(make_model(), examples, collator, ITEMS))
    with pytest.raises(ValueError, match="no item head"):
        ItemHeadModule(make_model(), OptimiserSettings(1), {"semantic": torch.zeros(2, 6)})
    # weights of one are no weights of the other
    with pytest.raises(ValueError, match="do not belong to this model"):
        make_model().load_trainable_state_dict(headed().trainable_state_dict())


def test_validation_is_exact_and_computes_items_once(
    batch: RankBatch, vectors: Mapping[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ItemHeadModule(headed(), OptimiserSettings(1), vectors, sample=3)
    runs = []
    monkeypatch.setattr(
        "ilm_lightning.lm.item_head_module.item_directions",
        lambda *arguments: runs.append(1) or item_directions(*arguments),
    )
    with torch.no_grad():
        module.on_validation_start()
        module.validation_step(batch, 0)
        module.validation_step(batch, 1)
        exact = float(training_losses(module.model, batch, vectors, 0).mean())
        assert module._means.take() == pytest.approx({"val/loss": exact}, abs=1e-5)
        assert len(runs) == 1
        module.on_validation_start()
        module.validation_step(batch, 0)
    assert len(runs) == 2
    # the catalogue is data, not weights
    assert set(module.state_dict()) == set(module.model.trainable_state_dict())


def test_batches_move_whole(batch: RankBatch) -> None:
    moved = batch.to("cpu")
    assert len(moved) == 5
    assert moved.n_tokens == batch.prompts.n_tokens
    assert moved.example_ids == batch.prompts.example_ids


def test_a_sample_is_distinct_uniform_and_costs_what_it_is() -> None:
    torch.manual_seed(3)
    counts = sum(torch.bincount(distinct_rows(20, 5), minlength=20) for _ in range(2000))
    assert isinstance(counts, Tensor)
    # 500 each; 6 standard errors
    assert (counts - 500).abs().max() < 6 * math.sqrt(2000 * 0.25 * 0.75)
    # more rows than any memory holds
    rows = distinct_rows(10**15, 1000)
    assert len(rows.unique()) == len(rows) == 1000
    assert rows.min() >= 0
    assert rows.max() < 10**15
    torch.manual_seed(3)
    first = distinct_rows(10**6, 50)
    torch.manual_seed(3)
    assert torch.equal(first, distinct_rows(10**6, 50))
