"""Examples that share their first words: one trunk with branches equals the examples apart."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lm_tiny import ARCHITECTURES, QUERIES, VOCAB, WIDTH, make_model, spread, tiny_llama
from transformers import MambaConfig, MambaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from ilm_lightning.lm import Collator, ItemLanguageModel, PromptTokenizer, Tuning, load_backbone, shared
from ilm_lightning.lm.item_head import prompt_states
from ilm_lightning.lm.prompts import TokenisedExample
from ilm_lightning.lm.shared import SharedBatch, SharedCollator, idle, own_part, reads_trees, sharing_error

Groups = list[list[TokenisedExample]]


def window(prompts: PromptTokenizer, items: Sequence[int], user: str = "7", name: str = "w") -> list[TokenisedExample]:
    """One example at each position of a window; the slots are the items before it."""
    rows = [
        {
            "example_id": f"{name}{position}",
            "prompt": f"u{user} has " + " , ".join(f"i{item}{{item}}" for item in items[:position]) + " . Next ?",
            "slots": [[item] for item in items[:position]],
            "target": f"i{items[position]}",
        }
        for position in range(1, len(items))
    ]
    return prompts.encode(rows)


@pytest.fixture(scope="module")
def groups(prompts: PromptTokenizer) -> Groups:
    """Two windows, one example alone, and examples that differ in their targets only."""
    alone = prompts.encode([{"example_id": "x", "prompt": "{item} ?", "slots": [[2]], "target": "no"}])
    same = [
        {"example_id": f"s{k}", "prompt": "For u{user} :", "slots": [[11]], "target": text}
        for k, text in enumerate(("i10", "i1", "i12", "i10", "x"))
    ]
    return [window(prompts, [3, 5, 10, 2, 7, 4]), alone, window(prompts, [5, 1, 0], "12", "v"), prompts.encode(same)]


def gradients(model: ItemLanguageModel) -> dict[str, torch.Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def assert_equal(found: torch.Tensor, wanted: torch.Tensor, tolerance: float) -> None:
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() <= tolerance * wanted.abs().max()


def as_double(model: ItemLanguageModel, monkeypatch: pytest.MonkeyPatch) -> ItemLanguageModel:
    def norm(self: LlamaRMSNorm, states: torch.Tensor) -> torch.Tensor:
        # transformers' own computes in float32 whatever comes in
        scale = torch.rsqrt(states.square().mean(-1, keepdim=True) + self.variance_epsilon)
        return self.weight * (states * scale)

    monkeypatch.setattr(LlamaRMSNorm, "forward", norm)
    model = model.double()
    model.compute_dtype = torch.float64
    return model


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("tuning", list(Tuning))
@pytest.mark.parametrize(("double", "tolerance"), [(True, 1e-9), (False, 1e-5)])
def test_losses_and_gradients_equal_the_examples_apart(
    collator: Collator,
    groups: Groups,
    tuning: Tuning,
    packed: bool,
    double: bool,
    tolerance: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = make_model(tuning)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.1)
    model = as_double(model, monkeypatch) if double else model
    apart = model(collator([example for group in groups for example in group]))
    apart.loss.backward()
    wanted = gradients(model)
    together = model(SharedCollator(collator, packed)(groups))
    together.loss.backward()
    found = gradients(model)
    for name in ("loss", "token_losses", "example_losses", "hidden"):
        assert_equal(getattr(together, name), getattr(apart, name), tolerance)
    assert torch.equal(together.target_rows, apart.target_rows)
    assert set(found) == set(wanted)
    assert all(float(gradient.abs().max()) > 0 for gradient in wanted.values())
    for name, gradient in wanted.items():
        # the gain's only entry is a sum of terms that nearly cancel
        assert_equal(found[name], gradient, tolerance if gradient.ndim or double else 1e-4)


@pytest.mark.parametrize("architecture", ["gpt2", "qwen"])
def test_other_architectures_share_by_mask(collator: Collator, groups: Groups, architecture: str) -> None:
    model = make_model(Tuning.FULL, ARCHITECTURES[architecture]())
    apart = model(collator([example for group in groups for example in group]))
    apart.loss.backward()
    wanted = gradients(model)
    together = model(SharedCollator(collator, reads_trees(model))(groups))
    together.loss.backward()
    for name, gradient in gradients(model).items():
        assert_equal(gradient, wanted[name], 1e-4)
    assert_equal(together.token_losses, apart.token_losses, 1e-5)


def test_trees_fall_back_to_a_mask_where_attention_knows_none(collator: Collator, groups: Groups) -> None:
    model = make_model()
    batch = SharedCollator(collator, packed=True)(groups)
    trees = model(batch)
    model.lm.config._attn_implementation = "eager"
    assert not reads_trees(model)
    assert_equal(model(batch).token_losses, trees.token_losses, 1e-5)


@pytest.mark.parametrize("packed", [True, False])
def test_each_token_sees_its_own_prefix_and_nothing_else(collator: Collator, groups: Groups, packed: bool) -> None:
    batch = SharedCollator(collator, packed)(groups)
    visible, width = batch.visible(), batch.input_ids.shape[1]
    examples = [example for group in groups for example in group]
    for number, example in enumerate(examples):
        mine = batch.targets.examples == number
        places = batch.targets.places if batch.targets.copies is None else batch.targets.places[batch.targets.copies]
        row, column = divmod(int(places[mine][-1]), width)
        path = visible[row, column].nonzero()[:, 0]
        # what the last predicting token reads is the example, word for word, at the positions it has alone
        assert batch.input_ids[row, path].tolist() == [*example.prompt_ids, *example.target_ids[:-1]]
        assert batch.position_ids[row, path].tolist() == list(range(len(path)))
        for place in path.tolist():
            assert set(visible[row, place].nonzero()[:, 0].tolist()) == {p for p in path.tolist() if p <= place}


def test_soft_tokens_of_a_tree_are_its_items_in_reading_order(collator: Collator, prompts: PromptTokenizer) -> None:
    group = window(prompts, [3, 5, 10, 2])
    batch = SharedCollator(collator, packed=True)([group])
    assert len(batch.slot_index) == 3
    assert torch.equal(batch.sources["semantic"][batch.slot_index], collator.vectors["semantic"][[3, 5, 10]])
    assert int((batch.input_ids == -1).sum()) == 3 * QUERIES
    assert batch.n_tokens < 0.75 * sum(map(len, group))


def test_a_later_item_changes_no_earlier_loss(collator: Collator, prompts: PromptTokenizer) -> None:
    model, collate = make_model(Tuning.FULL), SharedCollator(collator, packed=True)
    first, second = (collate([window(prompts, [3, 5, 10, item, 7])]) for item in (2, 8))
    losses = [model(batch) for batch in (first, second)]
    # positions 1 and 2 read items 3 and 5; position 3 has another target, position 4 another history
    early = losses[0].target_rows < 2
    assert torch.equal(losses[0].token_losses[early], losses[1].token_losses[early])
    assert not torch.equal(losses[0].token_losses[~early], losses[1].token_losses[~early])
    # and the loss of an early branch sends nothing to later items
    soft = model.soft_tokens(first.sources).detach().requires_grad_()
    output = model(first, soft)
    output.token_losses[output.target_rows == 1].sum().backward()
    assert soft.grad is not None
    moved = soft.grad.abs().sum((1, 2)) > 0
    assert moved.tolist() == [True, True, False, False]


def test_equal_predictions_are_made_once(collator: Collator, groups: Groups) -> None:
    same = groups[3]
    batch = SharedCollator(collator, packed=True)([same])
    assert batch.targets.copies is not None
    assert len(batch.targets.ids) < len(batch.targets.examples) == sum(len(e.target_ids) for e in same)
    assert SharedCollator(collator, packed=True)([groups[0]]).targets.copies is None


def test_token_weights_go_along(collator: Collator, prompts: PromptTokenizer) -> None:
    group = window(prompts, [3, 5, 10, 2])
    weights = np.linspace(0, 2, len(group[1].target_ids), dtype=np.float32)
    heavy = replace(group[1], token_weights=weights)
    changed = [group[0], heavy, group[2]]
    model = make_model()
    assert_equal(model(SharedCollator(collator, True)([changed])).loss, model(collator(changed)).loss, 1e-5)
    assert not torch.isclose(model(SharedCollator(collator, True)([group])).loss, model(collator(changed)).loss)


def test_parts_of_a_batch_add_up(collator: Collator, groups: Groups) -> None:
    model, collate = make_model(Tuning.LORA), SharedCollator(collator, packed=True)
    whole = model(collate(groups))
    whole.loss.backward()
    wanted = gradients(model)
    total = len(whole.token_losses)
    for part in (groups[:1], groups[1:]):
        output = model(collate(part))
        (output.loss * len(output.token_losses) / total).backward()
    for name, gradient in gradients(model).items():
        assert_equal(gradient, wanted[name], 1e-4)


def test_processes_part_a_batch(groups: Groups, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [example.example_id for group in groups for example in group]
    for size in (1, 2, 5, 20):
        monkeypatch.setattr(shared, "world_size", lambda size=size: size)
        read = []
        for number in range(size):
            monkeypatch.setattr(shared, "rank", lambda number=number: number)
            parts = own_part(groups)
            assert bool(parts) == (size < len(names)) or len(parts) == 1
            assert all(parts)
            read += [example.example_id for part in parts for example in part]
        assert read == names
    ((nothing,),) = idle(groups)
    assert nothing.token_weights is not None
    assert not nothing.token_weights.any()


@pytest.mark.parametrize("packed", [True, False])
def test_states_for_an_item_head_equal_those_of_prompts_apart(collator: Collator, groups: Groups, packed: bool) -> None:
    model = make_model()
    apart = prompt_states(model, collator.prompts([example for group in groups for example in group]))
    together = prompt_states(model, SharedCollator(collator, packed).prompts(groups))
    assert_equal(together, apart, 1e-5)
    # answers are not read, so equal prompts are read once
    same = SharedCollator(collator, packed=True).prompts(groups[3:])
    assert same.n_tokens == len(groups[3][0].prompt_ids)


def test_bfloat16_is_near(collator: Collator, groups: Groups, tmp_path: Path) -> None:
    tiny_llama().save_pretrained(tmp_path)  # type: ignore[operator]
    for tuning in Tuning:
        backbone = load_backbone(tmp_path, tuning, "bfloat16")
        model = make_model(tuning, backbone.lm if tuning is not Tuning.LORA else tiny_llama().bfloat16())
        model.compute_dtype = torch.bfloat16
        apart = model(collator([example for group in groups for example in group]))
        together = model(SharedCollator(collator, packed=True)(groups))
        assert together.hidden.dtype == apart.hidden.dtype
        assert_equal(together.token_losses, apart.token_losses, 0.05)
        together.loss.backward()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_a_shared_batch_moves_as_a_whole(collator: Collator, groups: Groups) -> None:
    batch = SharedCollator(collator, packed=True)(groups).to("meta")
    assert isinstance(batch, SharedBatch)
    assert batch.branches is not None
    tensors = [batch.input_ids, batch.position_ids, batch.ends, batch.targets.places, batch.branches.back]
    assert {tensor.device.type for tensor in tensors} == {"meta"}


def test_an_example_without_target_is_refused(collator: Collator, prompts: PromptTokenizer) -> None:
    rows = prompts.encode([{"example_id": "open", "prompt": "Why?", "slots": [], "target": None}])
    with pytest.raises(ValueError, match="'open' has no target"):
        SharedCollator(collator, packed=True)([rows])


def test_language_models_that_cannot_share_are_found() -> None:
    for build in ARCHITECTURES.values():
        assert sharing_error(make_model(lm=build())) < 1e-4
    torch.manual_seed(0)
    config = MambaConfig(vocab_size=VOCAB, hidden_size=WIDTH, num_hidden_layers=1, state_size=4)
    assert sharing_error(make_model(lm=spread(MambaForCausalLM(config)))) > 0.1


def test_untrained_special_tokens_do_not_hide_that_a_model_can_share() -> None:
    model = make_model(lm=tiny_llama(vocab_size=400)).to(torch.bfloat16)
    model.compute_dtype = torch.bfloat16
    embedding = model.lm.get_input_embeddings().weight
    with torch.no_grad():
        # states of almost nothing: rounding decides where the norms send them
        embedding[:17] *= 1e-6
    read = []
    model.lm.get_input_embeddings().register_forward_pre_hook(lambda _, ids: read.append(ids[0]))
    assert sharing_error(model) < 0.05
    # 0 is padding
    assert min(int(ids[ids > 0].min()) for ids in read) >= 17
