"""What a training step of phase 2 costs beside arithmetic: waits for a GPU, and activations kept."""

from collections.abc import Callable

import pytest
import torch
from lm_tiny import make_model, tiny_llama

from ilm_lightning.lm import Collator, ItemLanguageModel, Tuning
from ilm_lightning.lm.attention import GROUPED
from ilm_lightning.lm.checkpointing import checkpoint_activations
from ilm_lightning.lm.module import ItemLanguageModule, OptimiserSettings
from ilm_lightning.lm.prompts import TokenisedExample
from ilm_lightning.optimiser import clip_gradients
from syncs import Syncs

Examples = list[TokenisedExample]


def fused(tuning: Tuning = Tuning.FROZEN) -> ItemLanguageModel:
    return make_model(tuning, lm=tiny_llama(attn_implementation="sdpa"))


@pytest.mark.parametrize("tuning", list(Tuning))
def test_a_step_asks_its_device_for_one_value(tuning: Tuning, examples: Examples, collator: Collator) -> None:
    module = ItemLanguageModule(fused(tuning).train(), OptimiserSettings(steps=4))
    batch = collator(examples).to("cpu")
    optimizer = module.configure_optimizers()["optimizer"]
    assert isinstance(optimizer, torch.optim.Optimizer)
    module.log_dict = lambda *_, **__: None  # type: ignore[method-assign, assignment]
    with Syncs() as syncs:
        loss = module.training_step(batch, 0)
        loss.backward()
        clip_gradients(optimizer, 1.0)
        optimizer.step()
    # whether the loss is a number; everything else was counted before the batch left the host
    assert dict(syncs.found) == {"aten::_local_scalar_dense": 1}


def test_the_counter_sees_what_it_counts() -> None:
    values = torch.tensor([1.0, 0.0, 2.0])
    with Syncs() as syncs:
        values[values > 0].sum().item()
        torch.unique(values)
        values.nonzero()
    assert sum(syncs.found.values()) == 4
    assert syncs.found["aten::index by mask"] == 1


@pytest.mark.parametrize("make", [fused, make_model])
def test_a_counted_batch_gives_the_same(
    make: Callable[[], ItemLanguageModel], examples: Examples, collator: Collator
) -> None:
    model, batch = make(), collator(examples)
    plain, counted = model(batch), model(batch.to("cpu"))
    assert torch.equal(plain.token_losses, counted.token_losses)
    assert torch.equal(plain.example_losses, counted.example_losses)
    # without a mask, padding behind an example changes nothing either
    for row, example in enumerate(examples):
        torch.testing.assert_close(model(collator([example])).loss, plain.example_losses[row], rtol=1e-5, atol=1e-6)
    assert batch.to("cpu").n_tokens == sum(map(len, examples))
    assert batch.weightless().to("cpu").targets.weights.eq(0).all()  # type: ignore[union-attr]


@pytest.mark.parametrize("tuning", list(Tuning))
def test_checkpointed_activations_change_nothing_but_memory(
    tuning: Tuning, examples: Examples, collator: Collator
) -> None:
    def run(model: ItemLanguageModel) -> tuple[float, list[torch.Tensor], int]:
        kept: dict[int, int] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            kept[tensor.data_ptr()] = tensor.nbytes
            return tensor

        model.train()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = model(collator(examples)).loss
        loss.backward()
        return float(loss.detach()), [p.grad for p in model.parameters() if p.grad is not None], sum(kept.values())

    plain, other = make_model(tuning), make_model(tuning)
    other.load_state_dict(plain.state_dict())
    assert checkpoint_activations(other.lm) == 2
    (loss, grads, size), (same, others, less) = run(plain), run(other)
    assert same == loss
    assert len(grads) == len(others)
    for left, right in zip(grads, others, strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=1e-6 * float(left.abs().max()))
    assert less < 0.6 * size
    # generation keeps its cache
    model = other.eval()
    with torch.inference_mode():
        batch = collator.prompts(examples)
        hidden = model.run_lm(model.embed(batch), batch.attention_mask).last_hidden_state
        expected = plain.eval().run_lm(plain.embed(batch), batch.attention_mask).last_hidden_state
    assert torch.equal(hidden, expected)


def test_a_model_without_layers_to_checkpoint_is_told() -> None:
    with pytest.raises(ValueError, match="activation_checkpointing"):
        checkpoint_activations(torch.nn.Linear(2, 2))


@pytest.mark.parametrize("checkpointed", [False, True])
def test_attention_without_a_mask_gives_what_a_mask_gives(
    checkpointed: bool, examples: Examples, collator: Collator
) -> None:
    model, masked = fused(), make_model()
    assert (model.attention, masked.attention) == ("sdpa", GROUPED)
    if checkpointed:
        checkpoint_activations(model.lm)
    batch = collator(examples)
    slopes = []
    for one in (model, masked):
        loss = one(batch).loss
        loss.backward()
        slopes.append((loss.detach(), [p.grad for p in one.adapter.parameters()]))
    torch.testing.assert_close(*(loss for loss, _ in slopes), rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(*(grads for _, grads in slopes), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
