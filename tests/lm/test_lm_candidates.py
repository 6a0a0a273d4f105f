import numpy as np
import pytest
import torch
from lm_tiny import ARCHITECTURES, make_model

from ilm_lightning.lm import Collator, PromptTokenizer, target_losses
from ilm_lightning.lm.candidates import candidate_bits

ANSWERS = [["Heat", "A longer title (1995)"], ["4", "4.5", "Another one"], ["Only"]]
PROMPTS = [
    {"example_id": "a", "prompt": "After {item}, {item}: which is next?", "slots": [[3], [1]]},
    {"example_id": "b", "prompt": "Rate {item}.", "slots": [[2]]},
    {"example_id": "c", "prompt": "Say something.", "slots": []},
]


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("at_once", [1, 96])
def test_bits_are_those_of_whole_examples(
    at_once: int,
    name: str,
    collator: Collator,
    prompts: PromptTokenizer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ilm_lightning.lm.candidates.ANSWERS_AT_ONCE", at_once)
    model = make_model(lm=ARCHITECTURES[name]())
    ids = [prompts.target_ids(own) for own in ANSWERS]
    model.train()
    found = candidate_bits(model, prompts.encode(PROMPTS), ids, collator)
    assert model.training
    for row, own, bits in zip(PROMPTS, ANSWERS, found, strict=True):
        whole = prompts.encode([row | {"target": text} for text in own])
        expected = target_losses(model, whole, collator).bits
        np.testing.assert_allclose(bits, expected, rtol=2e-4)


def test_another_vector_changes_the_bits(collator: Collator, prompts: PromptTokenizer) -> None:
    model = make_model()
    ids = [prompts.target_ids(ANSWERS[0])]
    (own,) = candidate_bits(model, prompts.encode(PROMPTS[:1]), ids, collator)
    shuffled = collator.with_row_map(torch.arange(collator.n_items).roll(1))
    (other,) = candidate_bits(model, prompts.encode(PROMPTS[:1]), ids, shuffled)
    assert not np.allclose(own, other, rtol=1e-5)


def test_bad_candidates_are_refused(collator: Collator, prompts: PromptTokenizer) -> None:
    model = make_model()
    examples = prompts.encode(PROMPTS[1:2])
    assert candidate_bits(model, [], [], collator) == []
    for wrong in ([], [[]], [[np.empty(0, np.int32)]]):
        with pytest.raises(ValueError, match="at least one candidate answer"):
            candidate_bits(model, examples, wrong, collator)
