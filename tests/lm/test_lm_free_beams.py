"""Beams of any text: what a model has learned to answer is found, read as an item, and ends where it ends."""

import re

import numpy as np
import pytest
import torch
from lm_tiny import CHAT, ITEMS, QUERIES, byte_tokenizer, make_model

from ilm_lightning.data.openp5 import Indexing
from ilm_lightning.evaluation.ranking import NO_ITEM, UNKNOWN_ITEM, compact, ranking_of_lists, ranks_in_lists
from ilm_lightning.lm import Collator, PromptTokenizer, Tuning
from ilm_lightning.lm.free_beams import free_beams
from ilm_lightning.lm.recommendation import item_finder


@pytest.fixture(scope="module")
def learned() -> tuple:  # type: ignore[type-arg]
    """A model that has learned one answer to each of two prompts by heart."""
    tokenizer = PromptTokenizer(byte_tokenizer(CHAT), QUERIES)
    torch.manual_seed(3)
    collator = Collator({"semantic": torch.randn(ITEMS, 6), "behavioral": torch.randn(ITEMS, 4)})
    rows = [
        {
            "example_id": f"{row}",
            "prompt": f"{'user ' * row}met {{item}}",
            "slots": [[row]],
            "target": f"Shop item_1{row}",
        }
        for row in (0, 2)
    ]
    examples = tokenizer.encode(rows)
    model = make_model(Tuning.FULL)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(120):
        optimiser.zero_grad()
        loss = model(collator(examples)).loss
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.1
    return model, collator, tokenizer, examples


def test_the_learned_answer_comes_first(learned: tuple) -> None:  # type: ignore[type-arg]
    model, collator, tokenizer, examples = learned
    model.train()
    texts = free_beams(model, examples, collator, tokenizer, beams=3, batch_size=2)
    assert model.training
    assert [beams[0] for beams in texts] == ["Shop item_10", "Shop item_12"]
    assert {len(beams) for beams in texts} == {3}
    assert all(len(set(beams)) == 3 for beams in texts)
    find = item_finder(Indexing("random", ["12", "10"], ["1"], "test"))
    assert [find(beams[0]) for beams in texts] == [1, 0]
    # a list does not depend on who is asked beside
    alone = [free_beams(model, [one], collator, tokenizer, beams=3)[0] for one in examples]
    assert [beams[0] for beams in alone] == [beams[0] for beams in texts]


def test_it_ends_where_the_tokenizer_says_whatever_the_models_settings_are(learned: tuple) -> None:  # type: ignore[type-arg]
    model, collator, tokenizer, examples = learned
    settings = model.lm.generation_config
    before, settings.eos_token_id = settings.eos_token_id, None
    try:
        texts = free_beams(model, examples, collator, tokenizer, beams=2)
    finally:
        settings.eos_token_id = before
    assert [beams[0] for beams in texts] == ["Shop item_10", "Shop item_12"]


DIGITS = Indexing("random", ["7", "12"], ["1"], "test")
COLLABORATIVE = Indexing("collaborative", ["<CI7>", "<CI1><CI2>"], ["1"], "test")


@pytest.mark.parametrize(
    ("indexing", "text", "row"),
    [
        (DIGITS, "Shop item_7", 0),
        (DIGITS, " item_7 \n", 0),
        (DIGITS, "item_3 item_7", 0),
        (DIGITS, "item_7 and more", NO_ITEM),
        (DIGITS, "item_", NO_ITEM),
        (DIGITS, "item_7x", NO_ITEM),
        # of an item's form, but the catalogue has none of this name
        (DIGITS, "item_8", UNKNOWN_ITEM),
        (DIGITS, "item_99999", UNKNOWN_ITEM),
        (COLLABORATIVE, "Shop item_<CI1><CI2>", 1),
        (COLLABORATIVE, "item_<CI1><CI3>", UNKNOWN_ITEM),
        (COLLABORATIVE, "item_<CI1> <CI2>", NO_ITEM),
    ],
)
def test_only_an_item_at_the_end_is_one(indexing: Indexing, text: str, row: int) -> None:
    assert item_finder(indexing)(text) == row


def test_an_unknown_item_keeps_its_place_and_a_text_of_another_form_does_not() -> None:
    texts = ["item_99999", *["no item"] * 4, "item_12", "item_7"]
    lists = np.array([[item_finder(DIGITS)(text) for text in texts]])
    # the paper's protocol, written out
    kept = [text for text in texts if re.match(r".*item_(\d+)$", text)]
    assert ranks_in_lists(compact(lists), np.array([1])).tolist() == [kept.index("item_12") + 1] == [2]
    assert ranking_of_lists(lists, np.array([1])).invalid == pytest.approx(5 / 7)
