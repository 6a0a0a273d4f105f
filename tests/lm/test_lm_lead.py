"""The words before the first soft token are read without a graph: the same losses and gradients for less."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from lm_tiny import ARCHITECTURES, make_model, tiny_llama, tiny_qwen

from ilm_lightning.lm import Collator, ItemLanguageModel, Tuning
from ilm_lightning.lm import lead as module
from ilm_lightning.lm.attention import choose_attention
from ilm_lightning.lm.batch import PLACEHOLDER_ID, PromptBatch
from ilm_lightning.lm.checkpointing import checkpoint_activations
from ilm_lightning.lm.lead import lead
from ilm_lightning.lm.prompts import PromptTokenizer, TokenisedExample


@pytest.fixture(scope="module")
def late(prompts: PromptTokenizer) -> list[TokenisedExample]:
    rows = [
        {"example_id": "a", "prompt": "This fine film: {item}.", "slots": [[3]], "target": "Good."},
        {"example_id": "b", "prompt": "Which one of {item} or {item}?", "slots": [[3], [5]], "target": "Both of them."},
        {"example_id": "c", "prompt": "Tell me who you are.", "slots": [], "target": "A model."},
    ]
    return prompts.encode(rows)


def places_of(batch: PromptBatch) -> torch.Tensor:
    return batch.targets.places


def gradients(model: ItemLanguageModel, batch: PromptBatch) -> tuple[torch.Tensor, list[torch.Tensor]]:
    model.zero_grad()
    output = model(batch)
    output.loss.backward()
    return output.token_losses.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("make", [tiny_llama, tiny_qwen])
@pytest.mark.parametrize("rows", [(0, 1), (0, 1, 2), (2, 0)])
def test_losses_and_gradients_stay(
    make: Callable[[], Any],
    rows: Sequence[int],
    late: list[TokenisedExample],
    collator: Collator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lm = make()
    lm.config._attn_implementation = choose_attention(lm.config)
    model = make_model(lm=lm).double()
    model.compute_dtype = torch.float64
    batch = collator([late[row] for row in rows])
    batch = replace(batch, sources={name: vectors.double() for name, vectors in batch.sources.items()})
    assert lead(model, batch, places_of(batch)) >= module.LEAST
    losses, slopes = gradients(model, batch)
    monkeypatch.setattr(module, "LEAST", 10**6)
    assert lead(model, batch, places_of(batch)) == 0
    plain_losses, plain_slopes = gradients(model, batch)
    assert len(slopes) == len(plain_slopes) > 0
    torch.testing.assert_close(losses, plain_losses, rtol=1e-12, atol=1e-12)
    for ours, plain in zip(slopes, plain_slopes, strict=True):
        assert (ours - plain).abs().max() <= 1e-9 * plain.abs().max()


def test_it_ends_where_the_first_soft_token_or_hidden_state_stands(
    late: list[TokenisedExample], collator: Collator
) -> None:
    model = make_model()
    batch = collator(late[:2])
    first = int((batch.input_ids == PLACEHOLDER_ID).any(0).nonzero()[0])
    assert lead(model, batch, places_of(batch)) == first
    # a row without soft tokens may be asked earlier, and gives its targets
    words = collator([late[2]])
    assert lead(model, words, places_of(words)) == len(late[2].prompt_ids) - 1
    asked = torch.tensor([module.LEAST + 1, batch.input_ids.shape[1] + module.LEAST])
    assert lead(model, batch, asked) == module.LEAST
    assert lead(model, batch, asked[:0]) == 0


def test_fewer_words_go_through_the_backward_pass(late: list[TokenisedExample], collator: Collator) -> None:
    model, seen = make_model(), []
    layer = model.lm.get_submodule("model.layers.0.mlp")
    layer.register_full_backward_hook(lambda _, inputs, outputs: seen.append(outputs[0].shape[1]))
    batch = collator(late[:2])
    model(batch).loss.backward()
    assert seen == [batch.input_ids.shape[1] - lead(model, batch, places_of(batch))]


def test_where_it_would_be_wrong_or_gain_nothing(late: list[TokenisedExample], collator: Collator) -> None:
    batch = collator(late)
    places = places_of(batch)
    for tuning in (Tuning.LORA, Tuning.FULL):
        assert lead(make_model(tuning), batch, places) == 0
    assert lead(make_model(lm=tiny_llama(attn_implementation="sdpa")), batch, places) == 0
    assert lead(make_model(lm=ARCHITECTURES["gpt2"]()), batch, places) == 0
    model = make_model()
    with torch.no_grad():
        assert lead(model, batch, places) == 0
    assert lead(model, batch, places) > 0
    checkpoint_activations(model.lm)
    assert lead(model, batch, places) == 0
