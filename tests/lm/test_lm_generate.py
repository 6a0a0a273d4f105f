from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lm_tiny import ARCHITECTURES, make_model
from transformers import DynamicCache

from ilm_lightning.lm import Collator, Journal, PromptTokenizer, SharedJournal, SoftTokenBank, generate, target_losses
from ilm_lightning.lm.cache import ROOM, roomy_cache
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


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_batches_write_what_single_calls_of_transformers_write(
    name: str, collator: Collator, prompts: PromptTokenizer
) -> None:
    """In float32 the same texts, except where the two best logits lie within 1e-4 of each other."""
    model = make_model(lm=ARCHITECTURES[name]())
    rows = [
        {
            "example_id": str(i),
            "prompt": ("Sum up {item}" if i % 3 else "{item} beside {item}") + " please" * (i % 4),
            "slots": [[i % 12]] if i % 3 else [[i % 12], [(i + 5) % 12]],
            "target": "x",
        }
        for i in range(24)
    ]
    examples = prompts.encode(rows)
    made = generate(model, examples, collator, prompts, 20, batch_size=7)
    ties = 0
    for example, ours in zip(examples, made.token_ids, strict=True):
        batch = collator.prompts([example])
        with torch.inference_mode():
            out = model.lm.generate(
                inputs_embeds=model.embed(batch),
                attention_mask=batch.attention_mask,
                max_new_tokens=20,
                do_sample=False,
                output_logits=True,
                return_dict_in_generate=True,
            )
        theirs = out.sequences[0].tolist()
        theirs = theirs[:-1] if theirs[-1] == 1 else theirs
        if ours != theirs:
            place = next(i for i, (a, b) in enumerate(zip([*ours, -1], [*theirs, -1], strict=False)) if a != b)
            best = out.logits[place][0].topk(2).values
            assert best[0] - best[1] < 1e-4, (example.example_id, place)
            ties += 1
    assert ties <= 2
    assert len({tuple(ids) for ids in made.token_ids}) > 5


def test_cache_writes_in_place_and_equals_transformers() -> None:
    torch.manual_seed(0)
    config = make_model().lm.config
    ours, theirs = roomy_cache(config), DynamicCache(config=config)
    rows = torch.arange(4)
    moved = 0
    for step in range(2 * ROOM + 10):
        length = 7 if step == 0 else 1
        states = [torch.randn(len(rows), 2, length, 8) for _ in range(2)]
        for layer in range(2):
            before = ours.layers[layer].keys
            mine, other = ours.update(*states, layer), theirs.update(*states, layer)
            assert all(torch.equal(a, b) for a, b in zip(mine, other, strict=True))
            moved += before is None or before.data_ptr() != mine[0].data_ptr()
        if step in (3, 40):
            keep = torch.tensor([0, 2, 3] if step == 3 else [1])
            rows = rows[keep]
            ours.batch_select_indices(keep)
            theirs.batch_select_indices(keep)
        assert ours.get_seq_length() == theirs.get_seq_length()
    # made anew when room runs out, three times a layer; else extended where they are
    assert moved == 2 * 3


class Killed(BaseException):
    pass


def test_the_first_batch_tells_the_time_left(
    examples: Examples, collator: Collator, prompts: PromptTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, labels = make_model(), []

    def seen(items: Iterable[Any], total: int, label: str) -> Iterable[Any]:
        labels.append((label, total))
        return items

    monkeypatch.setattr(import_module("ilm_lightning.lm.generate"), "track", seen)
    generate(model, examples, collator, prompts, 16, batch_size=2, label="own: texts")
    assert labels == [("own: texts", -(-len(examples) // 2)), ("own: texts, first batch: tokens", 16)]


@pytest.mark.parametrize("torn", [b"", b'{"a": [1, 2', b'{"a": [1, 2]}', b"\x00\x00\n"])
def test_a_killed_pass_goes_on_behind_its_last_batch(
    torn: bytes, examples: Examples, collator: Collator, prompts: PromptTokenizer, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    model = make_model()
    whole = generate(model, examples, collator, prompts, 16, batch_size=2)
    scored = target_losses(model, examples, collator, batch_size=2)
    calls = 0

    def counted(*arguments: Any, **named: Any) -> list[list[int]]:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise Killed
        return greedy(*arguments, **named)

    # the package's function of the same name hides the module
    monkeypatch.setattr(import_module("ilm_lightning.lm.generate"), "greedy", counted)
    path = tmp_path / "checkpoints" / "texts.jsonl"
    with pytest.raises(Killed):
        generate(model, examples, collator, prompts, 16, batch_size=2, journal=Journal(path))
    assert len(Journal(path)) == 4
    with path.open("ab") as stream:
        stream.write(torn)
    resumed = generate(model, examples, collator, prompts, 16, batch_size=2, journal=Journal(path))
    assert calls == 4  # two batches, the kill, the last batch
    assert resumed == whole
    # all is there: nothing runs again
    again = generate(model, examples, collator, prompts, 16, batch_size=2, journal=Journal(path))
    assert (calls, again) == (4, whole)

    losses = Journal(tmp_path / "losses.jsonl")
    first = target_losses(model, examples, collator, batch_size=2, journal=losses)
    reread = target_losses(model, examples, collator, batch_size=2, journal=Journal(losses.path))
    for ours in (first, reread):
        assert ours.example_ids == scored.example_ids
        for a, b in zip(ours.token_losses, scored.token_losses, strict=True):
            assert a.dtype == np.float32
            assert np.array_equal(a, b)


def test_processes_share_the_batches_out(
    examples: Examples, collator: Collator, prompts: PromptTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model()
    whole = generate(model, examples, collator, prompts, 16, batch_size=1)
    module, journals = import_module("ilm_lightning.lm.journal"), []
    monkeypatch.setattr(module, "world_size", lambda: 2)
    monkeypatch.setattr(module, "anywhere", lambda flag: flag)
    calls: list[int] = []
    original = greedy

    def counted(*given: object) -> list[list[int]]:
        calls[-1] += 1
        return original(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(import_module("ilm_lightning.lm.generate"), "greedy", counted)
    path = tmp_path / "texts.jsonl"
    for rank in (1, 0):
        monkeypatch.setattr(module, "rank", lambda rank=rank: rank)
        journals.append(SharedJournal(path))
        calls.append(0)
        if rank == 1:
            # the other's part is not there yet
            with pytest.raises(KeyError):
                generate(model, examples, collator, prompts, 16, batch_size=1, journal=journals[-1])
        else:
            assert generate(model, examples, collator, prompts, 16, batch_size=1, journal=journals[-1]) == whole
    assert sorted(file.name for file in tmp_path.iterdir()) == ["rank1-texts.jsonl", "texts.jsonl"]
    assert sum(calls) == len(examples)
    assert abs(calls[0] - calls[1]) <= 1
    # one process finds what both had finished
    monkeypatch.setattr(module, "world_size", lambda: 1)
    calls.append(0)
    again = generate(model, examples, collator, prompts, 16, batch_size=1, journal=SharedJournal(path))
    assert (calls[-1], again) == (0, whole)


def test_soft_tokens_are_computed_once(
    examples: Examples, collator: Collator, prompts: PromptTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model()
    expected = generate(model, examples, collator, prompts, 8)
    slots: list[int] = []
    original = model.adapter.forward

    def counted(sources: dict[str, torch.Tensor]) -> torch.Tensor:
        slots.append(len(next(iter(sources.values()))))
        return original(sources)

    monkeypatch.setattr(model.adapter, "forward", counted)
    bank = SoftTokenBank(model, examples, collator)
    made = generate(model, examples, collator, prompts, 8, batch_size=1, bank=bank)
    target_losses(model, examples, collator, batch_size=1, bank=bank)
    assert slots == [4]  # vectors of 3, 5, 0 and between 1 and 2
    assert made.token_ids == expected.token_ids


def test_a_journal_needs_distinct_ids(
    examples: Examples, collator: Collator, prompts: PromptTokenizer, tmp_path: Path
) -> None:
    twice = [examples[0], examples[0]]
    with pytest.raises(AssertionError, match="apart by their ids"):
        generate(make_model(), twice, collator, prompts, 2, journal=Journal(tmp_path / "texts.jsonl"))
