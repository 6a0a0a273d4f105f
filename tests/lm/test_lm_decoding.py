"""Trie beam search against transformers' and against scoring every item."""

import numpy as np
import pytest
import torch
from lm_tiny import ARCHITECTURES, ITEMS, QUERIES, byte_tokenizer, make_model

from ilm_lightning.evaluation.trie import NO_ITEM, ItemTrie, build_trie
from ilm_lightning.lm import Collator, ItemLanguageModel, PromptTokenizer, decoding
from ilm_lightning.lm.cache import RoomyLayer
from ilm_lightning.lm.decoding import beam_search, recommend
from ilm_lightning.lm.prompts import TokenisedExample

IDS = ["1001", "1002", "1013", "102", "11", "1105", "12", "2", "21", "213", "3", "31"]


def setting(architecture: str = "llama") -> tuple[ItemLanguageModel, Collator, list[TokenisedExample], ItemTrie]:
    tokenizer = PromptTokenizer(byte_tokenizer(), QUERIES)
    sequences = [[*tokenizer.tokenizer(f"Shop item_{one}").input_ids, tokenizer.eos_id] for one in IDS]
    torch.manual_seed(2)
    vectors = {"semantic": torch.randn(ITEMS, 6), "behavioral": torch.randn(ITEMS, 4)}
    rows = [
        {"example_id": str(user), "prompt": f"user_{user} met " + ", ".join(["{item}"] * count), "slots": slots}
        for user, (count, slots) in enumerate([(1, [[3]]), (3, [[0], [5], [7]]), (2, [[1], [2]]), (0, [])])
    ]
    return (
        make_model(lm=ARCHITECTURES[architecture]()),
        Collator(vectors),
        tokenizer.encode(rows),
        build_trie(sequences),
    )


def by_transformers(
    model: ItemLanguageModel, collator: Collator, example: TokenisedExample, trie: ItemTrie, beams: int
) -> tuple[list[int], list[float]]:
    """Items and summed log-probabilities from `generate` with a prefix function."""
    batch = collator.prompts([example])
    embeddings = model.embed(batch)
    start = len(trie.forced)

    def allowed(_: int, ids: torch.Tensor) -> list[int]:
        return trie.allowed(ids.tolist()) or [1]

    with torch.no_grad():
        out = model.lm.generate(  # type: ignore[operator]
            inputs_embeds=embeddings, attention_mask=batch.attention_mask, num_beams=beams, num_return_sequences=beams,
            do_sample=False, max_new_tokens=start + trie.depth, prefix_allowed_tokens_fn=allowed, length_penalty=0.0,
            return_dict_in_generate=True, output_scores=True, pad_token_id=1,
        )  # fmt: skip
    rows = []
    for ids in out.sequences.tolist():
        node = 0
        for token in ids:
            children = range(int(trie.first_child[node]), int(trie.first_child[node + 1]))
            node = next(child for child in children if trie.tokens[child] == token)
            if trie.items[node] != NO_ITEM:
                break
        rows.append(int(trie.items[node]))
    return rows, out.sequences_scores.tolist()


def every_score(
    model: ItemLanguageModel, collator: Collator, example: TokenisedExample, sequences: list[list[int]]
) -> np.ndarray:
    """Log-probability of each item's whole text, one plain forward each."""
    scores = []
    for ids in sequences:
        full = TokenisedExample("x", example.prompt_ids, np.array(ids, np.int32), example.slots)
        scores.append(-model(collator([full])).token_losses.detach().sum().item())
    return np.array(scores)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "qwen"])
@pytest.mark.parametrize("beams", [2, 4])
def test_same_ranking_as_transformers(architecture: str, beams: int) -> None:
    model, collator, examples, trie = setting(architecture)
    found = recommend(model, examples, collator, trie, k=beams, beams=beams, batch_size=4)
    for row, example in enumerate(examples):
        items, scores = by_transformers(model, collator, example, trie, beams)
        assert found.items[row].tolist() == items
        assert found.scores[row] == pytest.approx(scores, abs=1e-4)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_enough_beams_are_exact(architecture: str) -> None:
    model, collator, examples, trie = setting(architecture)
    tokenizer = byte_tokenizer()
    sequences = [[*tokenizer(f"Shop item_{one}").input_ids, 1] for one in IDS]
    found = recommend(model, examples, collator, trie, k=5, beams=len(IDS), batch_size=3)
    for row, example in enumerate(examples):
        scores = every_score(model, collator, example, sequences)
        order = np.argsort(-scores, kind="stable")[:5]
        assert found.items[row].tolist() == order.tolist()
        assert found.scores[row] == pytest.approx(scores[order], abs=1e-4)
    assert found.exact.all()


@pytest.mark.parametrize("beams", [1, 2, 3, 5, 8])
def test_lists_called_exact_are(beams: int) -> None:
    model, collator, examples, trie = setting()
    seen = np.random.default_rng(0).random((len(examples), len(IDS))) < 0.3
    for hidden in (None, lambda places: seen[list(places)]):
        full = recommend(model, examples, collator, trie, k=2, beams=len(IDS), seen=hidden)
        few = recommend(model, examples, collator, trie, k=2, beams=beams, seen=hidden)
        assert full.exact.all()
        assert few.items[few.exact].tolist() == full.items[few.exact].tolist()
    # five beams of twelve items are enough to know two of them, one beam never is
    assert few.exact.any() == (beams >= 5)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_certain_lists_are_those_of_all_items(architecture: str, beams: int) -> None:
    model, collator, examples, trie = setting(architecture)
    seen = np.random.default_rng(0).random((len(examples), len(IDS))) < 0.3
    for hidden in (None, lambda places: seen[list(places)]):
        for k in (2, len(IDS)):
            full = recommend(model, examples, collator, trie, k=k, beams=len(IDS), seen=hidden)
            found = recommend(
                model, examples, collator, trie, k=k, beams=beams, seen=hidden, batch_size=2, certain=True
            )
            assert found.exact.all()
            assert found.items.tolist() == full.items.tolist()
            assert found.scores == pytest.approx(full.scores, abs=1e-4)


def test_nothing_below_the_floor_is_looked_for() -> None:
    model, collator, examples, trie = setting()
    batch = collator.prompts(examples)
    full = beam_search(model, batch, trie, len(IDS), len(IDS))
    floor = torch.from_numpy(full.scores[:, 2] - 1e-4)
    found = beam_search(model, batch, trie, len(IDS), len(IDS), floor=floor)
    assert found.items[:, :3].tolist() == full.items[:, :3].tolist()
    assert (found.items[:, 3:] == NO_ITEM).all()


def test_seen_items_are_left_out_without_more_beams() -> None:
    model, collator, examples, trie = setting()
    free = recommend(model, examples, collator, trie, k=len(IDS), beams=len(IDS))
    seen = np.zeros((len(examples), len(IDS)), dtype=bool)
    for row in range(len(examples)):
        seen[row, free.items[row, :4]] = True
    left = recommend(
        model, examples, collator, trie, k=len(IDS), beams=len(IDS), seen=lambda places: seen[list(places)]
    )
    for row in range(len(examples)):
        assert left.items[row, :8].tolist() == free.items[row, 4:].tolist()
        assert left.items[row, 8:].tolist() == [NO_ITEM] * 4
        assert left.scores[row, :8] == pytest.approx(free.scores[row, 4:], abs=1e-4)
    # with few beams nothing that was seen comes back, and the lists stay full
    few = recommend(model, examples, collator, trie, k=3, beams=4, seen=lambda places: seen[list(places)])
    assert (few.items >= 0).all()
    assert not seen[np.arange(len(examples))[:, None], few.items].any()


def test_a_users_list_does_not_depend_on_the_batch() -> None:
    model, collator, examples, trie = setting()
    together = recommend(model, examples, collator, trie, k=5, beams=6, batch_size=4)
    alone = [recommend(model, [one], collator, trie, k=5, beams=6) for one in examples]
    assert together.items.tolist() == [one.items[0].tolist() for one in alone]


def test_one_item_and_more_wanted_than_there_are() -> None:
    model, collator, examples, _ = setting()
    trie = build_trie([[5, 6, 1]])
    found = beam_search(model, collator.prompts(examples[:1]), trie, 3, 2)
    assert found.items.tolist() == [[0, NO_ITEM, NO_ITEM]]
    assert np.isneginf(found.scores[0, 1:]).all()


def test_bad_input() -> None:
    model, collator, examples, trie = setting()
    with pytest.raises(ValueError, match="k=0"):
        recommend(model, examples, collator, trie, k=0)
    with pytest.raises(ValueError, match="cannot be told apart"):
        build_trie([[1, 2], [1, 2]])
    with pytest.raises(ValueError, match="begins"):
        build_trie([[1, 2], [1, 2, 3]])
    with pytest.raises(ValueError, match="at least one"):
        build_trie([])
    with pytest.raises(ValueError, match="at least one"):
        build_trie([[1], []])


@pytest.mark.parametrize(("room", "places"), [(512, 1), (1, 5)])
def test_prompts_stay_where_they_are_in_the_cache(room: int, places: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, collator, examples, trie = setting()
    expected = recommend(model, examples, collator, trie, k=3, beams=3, batch_size=4)
    seen: dict[RoomyLayer, set[int]] = {}
    inner = RoomyLayer.update

    def update(self: RoomyLayer, *args: torch.Tensor, **kwargs: object) -> tuple[torch.Tensor, torch.Tensor]:
        found = inner(self, *args, **kwargs)
        seen.setdefault(self, set()).add(self.keys.data_ptr())
        return found

    monkeypatch.setattr(RoomyLayer, "update", update)
    monkeypatch.setattr(decoding, "MOST_ROOM", room)
    found = recommend(model, examples, collator, trie, k=3, beams=3, batch_size=4)
    assert found.items.tolist() == expected.items.tolist()
    assert found.scores == pytest.approx(expected.scores, abs=1e-5)
    # with room for three beams on every level nothing is copied; without, a level's beams move all that was there
    assert len(seen) == 2
    assert all(len(own) <= places for own in seen.values())
    assert (max(map(len, seen.values())) > 1) == (places > 1)
