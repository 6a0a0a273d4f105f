import pytest
import torch
from lm_tiny import ARCHITECTURES, WIDTH, make_model, tiny_llama
from test_lm_shared import as_double, assert_equal, gradients
from torch.nn import functional as F

from ilm_lightning.adapters import build_adapter
from ilm_lightning.lm import (
    Backbone,
    Collator,
    ItemLanguageModel,
    LMReference,
    Tuning,
    apply_tuning,
    parameter_report,
    vocabulary,
)
from ilm_lightning.lm.attention import GROUPED, choose_attention
from ilm_lightning.lm.prompts import TokenisedExample
from ilm_lightning.lm.vocabulary import fused_losses, head_losses, scale_logits

Examples = list[TokenisedExample]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_loss_equals_that_of_transformers_with_labels(name: str, examples: Examples, collator: Collator) -> None:
    model = make_model(lm=ARCHITECTURES[name]())
    batch = collator(examples)
    output = model(batch)
    reference = model.lm(
        inputs_embeds=model.embed(batch), attention_mask=batch.attention_mask, labels=batch.labels
    ).loss
    assert output.loss.item() == pytest.approx(reference.item(), rel=1e-5)
    output.loss.backward()
    ours = [p.grad.clone() for p in model.adapter.parameters()]
    model.zero_grad()
    model.lm(inputs_embeds=model.embed(batch), attention_mask=batch.attention_mask, labels=batch.labels).loss.backward()
    for mine, theirs in zip(ours, (p.grad for p in model.adapter.parameters()), strict=True):
        assert (mine - theirs).abs().max() <= 1e-5 * theirs.abs().max().clamp_min(1e-6)


@pytest.mark.parametrize("tuning", list(Tuning))
def test_every_gradient_equals_that_of_logits_at_all_positions(
    tuning: Tuning, examples: Examples, collator: Collator, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(tuning)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.1)
    model, batch = as_double(model, monkeypatch), collator(examples)
    logits = model.lm(inputs_embeds=model.embed(batch), attention_mask=batch.attention_mask, use_cache=False).logits
    wanted = F.cross_entropy(logits[:, :-1].flatten(0, 1), batch.labels[:, 1:].flatten())
    wanted.backward()
    theirs = gradients(model)
    ours = model(batch).loss
    ours.backward()
    assert_equal(ours, wanted, 1e-9)
    mine = gradients(model)
    assert set(mine) == set(theirs)
    for name, gradient in theirs.items():
        assert gradient.abs().max() > 0, name
        assert_equal(mine[name], gradient, 1e-9)


def test_losses_by_token_and_example(examples: Examples, collator: Collator) -> None:
    model = make_model()
    output = model(collator(examples))
    sizes = [len(example.target_ids) for example in examples]
    assert torch.bincount(output.target_rows).tolist() == sizes
    for row, example in enumerate(examples):
        alone = model(collator([example])).loss
        assert output.example_losses[row].item() == pytest.approx(alone.item(), rel=1e-4)
    assert output.loss.item() == pytest.approx(output.token_losses.mean().item(), rel=1e-6)


def test_token_weights(examples: Examples, collator: Collator) -> None:
    from dataclasses import replace

    import numpy as np

    model = make_model()
    first = examples[0]
    weights = np.zeros(len(first.target_ids), np.float32)
    weights[2] = 4.0
    output = model(collator([replace(first, token_weights=weights)]))
    assert output.loss.item() == pytest.approx(output.token_losses[2].item(), rel=1e-6)


def test_softcap_and_scaling_are_respected() -> None:
    config = tiny_llama().config
    logits = torch.tensor([3.0, -90.0])
    assert scale_logits(logits, config) is logits
    config.final_logit_softcapping = 30.0
    assert torch.allclose(scale_logits(logits, config), 30 * torch.tanh(logits / 30))
    config.final_logit_softcapping, config.logits_scaling = None, 2.0
    assert torch.allclose(scale_logits(logits, config), logits / 2)


@pytest.mark.parametrize("chunk", [1, 260 * 3, 2**22])
def test_fused_losses_equal_cross_entropy(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(vocabulary.CHUNK_ELEMENTS, "cpu", chunk)
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(10, 8, dtype=torch.float64, generator=generator)
    weight = torch.randn(260, 8, dtype=torch.float64, generator=generator)
    targets = torch.randint(0, 260, (10,), generator=generator)
    outer = torch.randn(10, generator=generator)
    results = []
    for function in (
        lambda h: fused_losses(h, weight, targets),
        lambda h: F.cross_entropy(h @ weight.T, targets, reduction="none"),
    ):
        leaf = hidden.clone().requires_grad_()
        losses = function(leaf)
        (losses * outer).sum().backward()
        results.append((losses.detach().double(), leaf.grad))
    for mine, theirs in zip(*results, strict=True):
        assert (mine - theirs).abs().max() <= 1e-5 * theirs.abs().max()
    assert not fused_losses(hidden, weight, targets).requires_grad


def test_trained_or_unusual_heads_are_not_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "fused_losses", lambda *_: pytest.fail("fused"))
    config = tiny_llama().config
    hidden, targets = torch.randn(4, WIDTH), torch.arange(4)
    trained, biased, plain = (
        torch.nn.Linear(WIDTH, 9, bias=False),
        torch.nn.Linear(WIDTH, 9),
        torch.nn.Linear(WIDTH, 9, bias=False),
    )
    biased.requires_grad_(False)
    plain.requires_grad_(False)
    for head in (trained, biased):
        assert torch.equal(
            head_losses(head, hidden, targets, config), F.cross_entropy(head(hidden), targets, reduction="none")
        )
    config.final_logit_softcapping = 2.0
    capped = F.cross_entropy(2 * torch.tanh(plain(hidden) / 2), targets, reduction="none")
    assert torch.allclose(head_losses(plain, hidden, targets, config), capped)


def test_grouped_attention_equals_transformers(examples: Examples, collator: Collator) -> None:
    model = make_model()
    assert model.lm.config._attn_implementation == GROUPED
    for batch in (collator(examples), collator.prompts(examples)):
        positions = (batch.attention_mask.cumsum(1) - 1).clamp_min(0)
        real = batch.attention_mask.bool()
        found = []
        for name in (GROUPED, "eager"):
            model.lm.set_attn_implementation(name)
            found.append(model.run_lm(model.embed(batch), batch.attention_mask, positions).last_hidden_state[real])
        assert (found[0] - found[1]).abs().max() <= 1e-5 * found[1].abs().max()
    assert choose_attention(ARCHITECTURES["gpt2"]().config) == "eager"


def test_soft_tokens_have_the_scale_of_the_embeddings(collator: Collator) -> None:
    model = make_model()
    soft = model.soft_tokens(collator.slot_sources([(0,), (1,)]))
    rms = model.lm.get_input_embeddings().weight.square().mean().sqrt()
    assert soft.dtype is torch.float32
    assert torch.allclose(soft.square().mean(-1).sqrt(), rms.expand(2, 3), rtol=1e-4)


def test_given_soft_tokens_replace_the_adapter(examples: Examples, collator: Collator) -> None:
    model = make_model()
    batch = collator(examples)
    soft = model.soft_tokens(batch.sources)
    assert torch.equal(model(batch, soft).token_losses, model(batch).token_losses)
    assert not torch.allclose(model(batch, soft.flip(0)).token_losses, model(batch).token_losses)


def test_frozen_bf16_llm_trains_a_float32_adapter(examples: Examples, collator: Collator) -> None:
    model = make_model(lm=tiny_llama().to(torch.bfloat16))
    model.compute_dtype = torch.bfloat16
    for outer in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=outer):
            loss = model(collator(examples)).loss
        assert loss.dtype is torch.float32
        loss.backward()
    assert all(p.dtype is torch.float32 and p.grad is not None for p in model.adapter.parameters())


def test_full_tuning_in_bf16_keeps_float32_weights(examples: Examples, collator: Collator) -> None:
    model = make_model(Tuning.FULL)
    exact = model(collator(examples)).loss.item()
    model.compute_dtype = torch.bfloat16
    loss = model(collator(examples)).loss
    assert loss.item() != exact
    assert loss.item() == pytest.approx(exact, rel=0.1)
    loss.backward()
    assert all(p.grad is not None and p.grad.dtype is torch.float32 for p in model.lm.parameters())


@pytest.mark.parametrize("tuning", Tuning)
def test_one_step_moves_exactly_what_the_mode_trains(tuning: Tuning, examples: Examples, collator: Collator) -> None:
    model = make_model(tuning)
    model.train()
    # LoRA's first factor has no gradient while the second is zero
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    model(collator(examples)).loss.backward()
    optimiser.step()
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    outside = {name for name in before if not name.startswith("lm.")}
    inside = {name for name in before if name.startswith("lm.")}
    lora = {name for name in inside if "lora_" in name}
    assert bool(lora) == (tuning is Tuning.LORA)
    assert moved == outside | {Tuning.FROZEN: set(), Tuning.LORA: lora, Tuning.FULL: inside}[tuning]
    assert set(model.trainable_state_dict()) - {"embedding_rms"} == moved


@pytest.mark.parametrize("tuning", Tuning)
def test_frozen_parts_stay_in_evaluation_mode(tuning: Tuning) -> None:
    model = make_model(tuning)
    model.train()
    assert model.adapter.training
    base = [m for name, m in model.lm.named_modules() if "lora_" not in name]
    assert all(m.training == (tuning is Tuning.FULL) for m in base)
    model.eval()
    assert not any(m.training for m in model.modules())


def test_adapter_of_another_width_is_refused() -> None:
    adapter = build_adapter({"kind": "constant", "source_dims": {"semantic": 6}, "output_dim": 8, "num_queries": 1})
    with pytest.raises(ValueError, match=rf"8 wide.*tiny {WIDTH}.*output_dim={WIDTH}"):
        ItemLanguageModel(adapter, Backbone(tiny_llama(), reference=LMReference("tiny")))


def test_vectors_of_another_width_and_missing_targets_are_refused(examples: Examples, collator: Collator) -> None:
    model = make_model()
    with pytest.raises(ValueError, match=r"semantic.*6"):
        model.soft_tokens({"semantic": torch.zeros(2, 5), "behavioral": torch.zeros(2, 4)})
    with pytest.raises(ValueError, match="no target"):
        model(collator.prompts(examples))


def test_parameter_report_counts_everything_once() -> None:
    model = make_model(Tuning.LORA)
    rows = parameter_report(model, {"adapter": "phase 1"})
    assert [(row.component, row.origin) for row in rows] == [
        ("adapter", "phase 1"),
        ("gain", "new"),
        ("LoRA", "new"),
        ("language model", "tiny"),
    ]
    assert sum(row.trainable + row.frozen for row in rows) == sum(p.numel() for p in model.parameters())
    assert rows[3].trainable == 0
    assert rows[2].frozen == rows[0].frozen == 0


def test_unknown_settings_are_refused() -> None:
    from ilm_lightning.lm import load_backbone, resolve_dtype

    with pytest.raises(ValueError, match=r"frozen, lora, full"):
        load_backbone("/nowhere", tuning="half")
    with pytest.raises(ValueError, match="float16"):
        resolve_dtype("float16")
    with pytest.raises(ValueError, match="does not exist"):
        load_backbone("/nowhere/at/all")
    assert apply_tuning(tiny_llama(), Tuning.FROZEN).training is False


def test_merging_lora_changes_no_logit_and_freezes(collator: Collator, examples: list[TokenisedExample]) -> None:
    train_batch = collator(examples)
    model = make_model(Tuning.LORA)
    torch.manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.lm.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.2)
    plain = make_model().target_logits(train_batch)
    before = model.target_logits(train_batch)
    after = model.merge_lora().target_logits(train_batch)
    assert (before - plain).abs().max() > 1e-2
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)
    assert model.tuning is Tuning.FROZEN
    assert not any("lora_" in name for name, _ in model.named_parameters())
    assert not any(parameter.requires_grad for parameter in model.lm.parameters())
