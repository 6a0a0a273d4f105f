"""Encoder-decoders: losses, texts, searches and saved models against transformers' own computation."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from lm_tiny import ENCODER_DECODERS, ITEMS, QUERIES, byte_tokenizer, make_model, tiny_flan, tiny_llama, tiny_t5
from torch import Tensor
from transformers import BartConfig, BartForConditionalGeneration

from ilm_lightning.evaluation.trie import ItemTrie, build_trie
from ilm_lightning.lm import (
    Backbone,
    Collator,
    ContextCollator,
    ContextTeacher,
    ItemLanguageModel,
    LMReference,
    LoRASettings,
    PromptTokenizer,
    Tuning,
    apply_tuning,
    generate,
    load_backbone,
    target_losses,
)
from ilm_lightning.lm.candidates import candidate_bits
from ilm_lightning.lm.decoding import recommend
from ilm_lightning.lm.item_head import prompt_states
from ilm_lightning.lm.module import OptimiserSettings, parameter_groups
from ilm_lightning.lm.prompts import TokenisedExample, read_tokenizer
from ilm_lightning.lm.reading import begin

IDS = ["1001", "1002", "1013", "102", "11", "1105", "12", "2", "21", "213", "3", "31"]
T5_LORA = LoRASettings(target_modules=("q", "v", "o", "wo"))

family = pytest.mark.parametrize("name", list(ENCODER_DECODERS))


def tuned(tuning: Tuning) -> ItemLanguageModel:
    adapter = make_model(lm=tiny_flan()).adapter
    lm = apply_tuning(tiny_flan(), tuning, T5_LORA)
    return ItemLanguageModel(adapter, Backbone(lm, tuning, torch.float32, LMReference("tiny"))).eval()


def by_transformers(model: ItemLanguageModel, collator: Collator, example: TokenisedExample) -> Tensor:
    """Loss of every target token of one example, from the model's own forward pass."""
    batch = collator.prompts([example])
    labels = torch.from_numpy(example.target_ids).long()[None]
    logits = model.lm(inputs_embeds=model.embed(batch), attention_mask=batch.attention_mask, labels=labels).logits
    return torch.nn.functional.cross_entropy(logits[0], labels[0], reduction="none")


@family
def test_losses_equal_transformers(name: str, collator: Collator, examples: list[TokenisedExample]) -> None:
    model = make_model(lm=ENCODER_DECODERS[name]())
    output = model(collator(examples))
    for row, example in enumerate(examples):
        wanted = by_transformers(model, collator, example)
        assert torch.allclose(output.token_losses[output.target_rows == row], wanted, atol=1e-4)
        assert float(output.example_losses[row]) == pytest.approx(wanted.mean().item(), abs=1e-4)
    # soft tokens are read: other vectors, other losses
    other = collator.with_row_map(torch.arange(ITEMS).roll(1))
    assert not torch.allclose(model(other(examples)).token_losses, output.token_losses)


@family
def test_logits_ignore_later_tokens_and_other_rows(
    name: str, collator: Collator, examples: list[TokenisedExample]
) -> None:
    model = make_model(lm=ENCODER_DECODERS[name]())
    example = examples[2]
    changed = TokenisedExample("x", example.prompt_ids, example.target_ids.copy(), example.slots)
    changed.target_ids[5] += 1
    one, two = (model.target_logits(collator([e])) for e in (example, changed))
    assert torch.equal(one[:6], two[:6])
    assert not torch.allclose(one[6:], two[6:])
    together = model.target_logits(collator(examples))
    before = sum(len(e.target_ids) for e in examples[:2])
    assert torch.allclose(together[before : before + len(one)], one, atol=1e-4)


@pytest.mark.parametrize("tuning", list(Tuning))
def test_one_step_moves_exactly_what_is_trained(
    tuning: Tuning, collator: Collator, examples: list[TokenisedExample]
) -> None:
    model = tuned(tuning).train()
    before = {name: tensor.detach().clone() for name, tensor in model.named_parameters()}
    optimiser = torch.optim.AdamW(parameter_groups(model, OptimiserSettings(10, warmup=0.0)))
    for _ in range(2):
        optimiser.zero_grad()
        model(collator(examples)).loss.backward()
        optimiser.step()
    moved = {name for name, tensor in model.named_parameters() if not torch.equal(tensor, before[name])}
    wanted = {name for name in before if not name.startswith("lm.")}
    if tuning is Tuning.LORA:
        updates = {name for name in before if "lora_" in name}
        assert {name.split(".")[-4] for name in updates} == {"q", "v", "o", "wo"}
        assert any(".encoder." in name for name in updates)
        assert any(".decoder." in name for name in updates)
        wanted |= updates
    elif tuning is Tuning.FULL:
        wanted |= set(before)
    assert moved == wanted


@family
def test_greedy_texts_equal_transformers(
    name: str, collator: Collator, prompts: PromptTokenizer, examples: list[TokenisedExample]
) -> None:
    model = make_model(lm=ENCODER_DECODERS[name]())
    encoded: list[int] = []
    handle = model.lm.get_encoder().register_forward_hook(lambda *_: encoded.append(1))  # type: ignore[operator]
    found = generate(model, examples, collator, prompts, max_new_tokens=12, batch_size=3)
    handle.remove()
    assert len(encoded) == 2
    assert len({tuple(ids) for ids in found.token_ids}) > 1
    for row, example in enumerate(examples):
        batch = collator.prompts([example])
        ids = model.lm.generate(  # type: ignore[operator]
            inputs_embeds=model.embed(batch), attention_mask=batch.attention_mask, max_new_tokens=12, do_sample=False
        )[0, 1:].tolist()
        ids = ids[: ids.index(1)] if 1 in ids else ids
        assert found.token_ids[row] == ids


def search() -> tuple[Collator, list[TokenisedExample], ItemTrie, list[list[int]]]:
    tokenizer = PromptTokenizer(byte_tokenizer(), QUERIES)
    sequences = [[*tokenizer.tokenizer(f"Shop item_{one}").input_ids, tokenizer.eos_id] for one in IDS]
    torch.manual_seed(2)
    vectors = {"semantic": torch.randn(ITEMS, 6), "behavioral": torch.randn(ITEMS, 4)}
    rows = [
        {"example_id": str(user), "prompt": f"user_{user} met " + ", ".join(["{item}"] * count), "slots": slots}
        for user, (count, slots) in enumerate([(1, [[3]]), (3, [[0], [5], [7]]), (2, [[1], [2]]), (0, [])])
    ]
    return Collator(vectors), tokenizer.encode(rows), build_trie(sequences), sequences


@family
@pytest.mark.parametrize("beams", [2, 4])
def test_trie_search_ranks_as_transformers(name: str, beams: int) -> None:
    collator, examples, trie, _ = search()
    model = make_model(lm=ENCODER_DECODERS[name]())
    encoded: list[int] = []
    handle = model.lm.get_encoder().register_forward_hook(lambda *_: encoded.append(1))  # type: ignore[operator]
    found = recommend(model, examples, collator, trie, k=beams, beams=beams, batch_size=4)
    handle.remove()
    # prompts are encoded once, together, not once a beam or a step
    assert len(encoded) == 1

    def allowed(_: int, ids: Tensor) -> list[int]:
        return trie.allowed(ids.tolist()[1:]) or [1]

    for row, example in enumerate(examples):
        batch = collator.prompts([example])
        out = model.lm.generate(  # type: ignore[operator]
            inputs_embeds=model.embed(batch), attention_mask=batch.attention_mask, num_beams=beams,
            num_return_sequences=beams, do_sample=False, max_new_tokens=len(trie.forced) + trie.depth,
            prefix_allowed_tokens_fn=allowed, length_penalty=0.0, return_dict_in_generate=True, output_scores=True,
        )  # fmt: skip
        texts = [byte_tokenizer().decode(ids, skip_special_tokens=True) for ids in out.sequences.tolist()]
        assert [f"Shop item_{IDS[item]}" for item in found.items[row]] == [text.strip("!") for text in texts]
        assert found.scores[row] == pytest.approx(out.sequences_scores.tolist(), abs=1e-4)


@family
def test_enough_beams_are_exact(name: str) -> None:
    collator, examples, trie, sequences = search()
    model = make_model(lm=ENCODER_DECODERS[name]())
    found = recommend(model, examples, collator, trie, k=5, beams=len(IDS), batch_size=3)
    for row, example in enumerate(examples):
        whole = [TokenisedExample("x", example.prompt_ids, np.array(ids, np.int32), example.slots) for ids in sequences]
        scores = np.array([-losses.sum() for losses in target_losses(model, whole, collator).token_losses])
        order = np.argsort(-scores, kind="stable")[:5]
        assert found.items[row].tolist() == order.tolist()
        assert found.scores[row] == pytest.approx(scores[order], abs=1e-3)


@family
def test_given_answers_cost_what_they_cost_alone(
    name: str, collator: Collator, prompts: PromptTokenizer, examples: list[TokenisedExample]
) -> None:
    model = make_model(lm=ENCODER_DECODERS[name]())
    answers = prompts.target_ids(["Yes", "No", "Perhaps so"])
    bits = candidate_bits(model, examples, [answers] * len(examples), collator)
    for example, own in zip(examples, bits, strict=True):
        each = [TokenisedExample("x", example.prompt_ids, answer, example.slots) for answer in answers]
        alone = target_losses(model, each, collator).bits
        assert own == pytest.approx(alone, abs=1e-3)


def test_the_item_heads_state_is_the_decoders_first(collator: Collator, examples: list[TokenisedExample]) -> None:
    model = make_model(lm=tiny_flan())
    batch = collator.prompts(examples)
    hidden = model.lm(
        inputs_embeds=model.embed(batch), attention_mask=batch.attention_mask,
        decoder_input_ids=torch.zeros(len(batch), 1, dtype=torch.long), output_hidden_states=True,
    ).decoder_hidden_states[-1][:, 0]  # fmt: skip
    assert torch.allclose(prompt_states(model, batch), hidden, atol=1e-4)


def test_a_teacher_reads_texts(collator: Collator, prompts: PromptTokenizer, examples: list[TokenisedExample]) -> None:
    model = make_model(lm=tiny_t5())
    contexts = {example.example_id: prompts.prompt_ids(f"About {example.example_id}.") for example in examples[:3]}
    batch = ContextCollator(collator, contexts)(examples)
    teacher = ContextTeacher(0.5)
    taught = teacher.read(model, batch)
    assert taught is not None
    output = model(batch)
    loss = teacher.loss(model, batch, output, taught)
    rows = [TokenisedExample("x", contexts[example.example_id], example.target_ids, ()) for example in examples[:3]]
    theirs = torch.log_softmax(model.target_logits(collator(rows)), -1)
    own = torch.log_softmax(model.target_logits(collator(examples[:3])), -1)
    assert loss.item() == pytest.approx((theirs.exp() * (theirs - own)).sum(-1).mean().item(), abs=1e-3)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("tuning", list(Tuning))
def test_a_folder_gives_equal_logits(
    tied: bool, tuning: Tuning, tmp_path: Path, collator: Collator, examples: list[TokenisedExample]
) -> None:
    base = tmp_path / "base"
    tiny_t5(tied).save_pretrained(base)  # type: ignore[operator]
    backbone = load_backbone(base, tuning, "float32", T5_LORA)
    model = ItemLanguageModel(make_model().adapter, backbone)
    assert (model.lm.get_output_embeddings().weight is model.lm.get_input_embeddings().weight) == tied  # type: ignore[operator]
    reference = make_model(lm=tiny_t5(tied))
    reference.log_gain = model.log_gain
    batch = collator(examples)
    assert torch.allclose(model.target_logits(batch), reference.target_logits(batch), atol=1e-4)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    wanted = model.target_logits(batch)
    model.save_pretrained(tmp_path / "saved")
    again = ItemLanguageModel.from_pretrained(tmp_path / "saved", base, "float32")
    assert torch.equal(again.target_logits(batch), wanted)
    merged = again.merge_lora().target_logits(batch)
    assert torch.allclose(merged, wanted, atol=1e-3)


def test_prompts_end_as_the_encoder_knows_it(tmp_path: Path) -> None:
    tiny_t5().save_pretrained(tmp_path / "t5")  # type: ignore[operator]
    tiny_llama().save_pretrained(tmp_path / "llama")  # type: ignore[operator]
    for name, ending in (("t5", [1]), ("llama", byte_tokenizer()("\n").input_ids)):
        byte_tokenizer().save_pretrained(tmp_path / name)
        tokenizer = read_tokenizer(tmp_path / name, 2)
        words = byte_tokenizer()("Who?").input_ids
        assert tokenizer.prompt_ids("Who?").tolist() == [*words, *ending]


def test_padding_of_prompts_may_stand_on_either_side(collator: Collator, examples: list[TokenisedExample]) -> None:
    model = make_model(lm=tiny_t5())
    together = begin(model, collator.prompts(examples))
    for row, example in enumerate(examples):
        alone = begin(model, collator.prompts([example]))
        length = len(example.prompt_ids)
        assert torch.allclose(together.cache.states[row, -length:], alone.cache.states[0], atol=1e-4)  # type: ignore[attr-defined]


def test_other_encoder_decoders_are_refused(tmp_path: Path) -> None:
    config = BartConfig(
        vocab_size=40, d_model=8, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=8, decoder_ffn_dim=8,
        encoder_attention_heads=2, decoder_attention_heads=2, max_position_embeddings=16,
    )  # fmt: skip
    BartForConditionalGeneration(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="type bart are not known here: of encoder-decoders take one of t5, mt5"):
        load_backbone(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "bart"
