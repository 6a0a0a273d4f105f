import math
from dataclasses import replace
from pathlib import Path

import lightning as pl
import numpy as np
import pytest
import torch
from lm_tiny import make_model, tiny_llama
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from ilm_lightning.lm import (
    Collator,
    ContextCollator,
    ContextTeacher,
    ItemLanguageModel,
    PromptTokenizer,
    Tuning,
    context_prompt,
    residual_weights,
    vocabulary,
)
from ilm_lightning.lm.backbone import causal_lm
from ilm_lightning.lm.batch import IGNORE_INDEX, PromptBatch
from ilm_lightning.lm.module import ItemLanguageModule, OptimiserSettings
from ilm_lightning.lm.prompts import TokenisedExample
from ilm_lightning.lm.vocabulary import head_divergences

TEXTS = {0: "A sad film.", 1: "Heat. Crime.", 2: "Up. Comedy.", 3: "A war film.", 5: None}
PROMPTS = {
    "a": ("Pitch {item}.", [[3]]),
    "b": ("{item} or {item}?", [[3], [5]]),
    "c": ("Between: {item}", [[1, 2]]),
    "e": ("Sum up {item} in a word or two, please.", [[0]]),
}
Examples = list[TokenisedExample]


@pytest.fixture(scope="module")
def with_texts(prompts: PromptTokenizer, collator: Collator) -> ContextCollator:
    rendered = {name: context_prompt(prompt, slots, TEXTS) for name, (prompt, slots) in PROMPTS.items()}
    assert rendered["b"] is None
    return ContextCollator(collator, {name: prompts.prompt_ids(text) for name, text in rendered.items() if text})


@pytest.fixture
def batch(with_texts: ContextCollator, examples: Examples) -> PromptBatch:
    return with_texts(examples)


def teacher_for(tuning: Tuning, weight: float = 1.0) -> ContextTeacher:
    return ContextTeacher(weight, tiny_llama().requires_grad_(False) if tuning is Tuning.FULL else None)


def shake_lora(model: ItemLanguageModel) -> None:
    torch.manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.lm.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.2)


def distilled(model: ItemLanguageModel, batch: PromptBatch, teacher: ContextTeacher) -> Tensor:
    taught = teacher.read(model, batch)
    assert taught is not None
    output = model(batch)
    return output.loss + teacher.weight * teacher.loss(model, batch, output, taught)


def naive(student: Tensor, teacher: Tensor) -> Tensor:
    return F.kl_div(student.log_softmax(-1), teacher.log_softmax(-1), reduction="none", log_target=True).sum(-1)


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("chunk", [1, 260 * 3, 2**22])
def test_divergences_equal_the_formula_in_chunks_of_any_size(
    trained: bool, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(vocabulary.CHUNK_ELEMENTS, "cpu", chunk)
    sizes: list[int] = []
    inner = vocabulary.head_logits
    monkeypatch.setattr(vocabulary, "head_logits", lambda h, x, c: sizes.append(len(x)) or inner(h, x, c))
    generator = torch.Generator().manual_seed(0)
    hidden, taught = (torch.randn(10, 8, dtype=torch.float64, generator=generator) for _ in range(2))
    head, teacher = nn.Linear(8, 260, bias=False).double(), nn.Linear(8, 260, bias=False).double()
    head.requires_grad_(trained)
    teacher.requires_grad_(False)
    outer = torch.rand(10, generator=generator)
    results = []
    for ours in (True, False):
        leaf = hidden.clone().requires_grad_()
        head.zero_grad()
        if ours:
            values = head_divergences(head, leaf, teacher, taught, tiny_llama().config)
        else:
            values = naive(head(leaf), teacher(taught))
        (values * outer).sum().backward()
        results.append((values.detach().double(), leaf.grad, head.weight.grad if trained else torch.zeros(1)))
    for mine, theirs in zip(*results, strict=True):
        assert mine is not None
        assert theirs is not None
        assert (mine - theirs).abs().max() <= 1e-5 * theirs.abs().max()
    # logits of the unfused path are made chunk by chunk, again in the backward pass
    assert max(sizes, default=0) <= max(1, chunk // 260)
    assert bool(sizes) == trained


def test_divergence_of_no_position_and_of_equal_states_is_nothing() -> None:
    head = nn.Linear(8, 9, bias=False)
    config = tiny_llama().config
    assert head_divergences(head, torch.zeros(0, 8), head, torch.zeros(0, 8), config).shape == (0,)
    states = torch.randn(4, 8)
    for trained in (True, False):
        head.requires_grad_(trained)
        assert head_divergences(head, states, head, states, config).abs().max() < 1e-6


def test_prompts_hold_texts_where_soft_tokens_would_stand() -> None:
    assert context_prompt("No item.", [], TEXTS) == "No item."
    assert context_prompt("Between: {item}", [[1, 2]], TEXTS) == "Between: [Heat. Crime. | Up. Comedy.]"
    assert context_prompt("{item} or {item}?", [[3], [5]], TEXTS) is None
    assert context_prompt("{item}", [[99]], TEXTS) is None
    assert context_prompt("{item} for {user}?", [[1], [99]], TEXTS) is None


def test_the_teacher_reads_the_same_targets(batch: PromptBatch, examples: Examples, collator: Collator) -> None:
    context = batch.context
    assert context is not None
    # example b names an item without text, d names none at all
    assert context.rows.tolist() == [0, 2, 4]
    for place, row in enumerate(context.rows.tolist()):
        ids = context.labels[place][context.labels[place] != IGNORE_INDEX]
        assert ids.tolist() == examples[row].target_ids.tolist()
        whole = context.input_ids[place][context.attention_mask[place].bool()]
        assert whole[-len(ids) :].tolist() == ids.tolist()
        assert (whole >= 0).all()
    assert batch.to("cpu").context is not None
    assert ContextCollator(collator, {})(examples).context is None


@pytest.mark.parametrize("tuning", Tuning)
def test_the_teacher_is_the_untrained_model_on_the_texts(tuning: Tuning, batch: PromptBatch) -> None:
    context = batch.context
    assert context is not None
    base = tiny_llama()
    positions = context.labels[:, 1:] != IGNORE_INDEX
    expected = base(input_ids=context.input_ids, attention_mask=context.attention_mask).logits[:, :-1][positions]
    model, teacher = make_model(tuning), teacher_for(tuning)
    shake_lora(model)
    if tuning is Tuning.FULL:
        with torch.no_grad():
            for parameter in model.lm.parameters():
                parameter.mul_(1.1)
    model.train()
    before = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    taught = teacher.read(model, batch)
    assert taught is not None
    assert not taught.hidden.requires_grad
    torch.testing.assert_close(taught.head(taught.hidden), expected, rtol=1e-4, atol=1e-4)
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == before
    # the student itself is another model by now
    if tuning is not Tuning.FROZEN:
        with torch.no_grad():
            student = causal_lm(model.lm)(input_ids=context.input_ids, attention_mask=context.attention_mask).logits
        assert (student[:, :-1][positions] - expected).abs().max() > 1e-2


def test_updates_that_are_frozen_for_a_while_stay_frozen(batch: PromptBatch) -> None:
    model = make_model(Tuning.LORA)
    updates = [p for name, p in model.lm.named_parameters() if "lora_" in name]
    for parameter in updates:
        parameter.requires_grad_(False)
    teacher_for(Tuning.LORA).read(model, batch)
    assert not any(parameter.requires_grad for parameter in updates)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_is_the_mean_divergence_over_targets_with_a_teacher(
    weighted: bool, with_texts: ContextCollator, examples: Examples
) -> None:
    if weighted:
        rng = np.random.default_rng(0)
        examples = [replace(e, token_weights=rng.random(len(e.target_ids), dtype=np.float32) + 0.1) for e in examples]
    batch, model, teacher = with_texts(examples), make_model(), teacher_for(Tuning.FROZEN)
    context = batch.context
    assert context is not None
    lm = tiny_llama()
    known = lm(input_ids=context.input_ids, attention_mask=context.attention_mask).logits[:, :-1]
    mine = lm(inputs_embeds=model.embed(batch), attention_mask=batch.attention_mask).logits[:, :-1]
    total = weight_sum = 0.0
    for place, row in enumerate(context.rows.tolist()):
        values = naive(
            mine[row][batch.labels[row, 1:] != IGNORE_INDEX], known[place][context.labels[place, 1:] != IGNORE_INDEX]
        )
        weights = torch.ones(len(values)) if not weighted else torch.from_numpy(examples[row].token_weights)
        total += (values * weights).sum().item()
        weight_sum += weights.sum().item()
    output, taught = model(batch), teacher.read(model, batch)
    assert taught is not None
    assert teacher.loss(model, batch, output, taught).item() == pytest.approx(total / weight_sum, rel=1e-4)


@pytest.mark.parametrize("signals", ["distillation", "weights", "both"])
@pytest.mark.parametrize("tuning", Tuning)
def test_one_step_moves_exactly_what_the_mode_trains(
    tuning: Tuning, signals: str, with_texts: ContextCollator, collator: Collator, examples: Examples
) -> None:
    if signals != "distillation":
        losses = [np.linspace(0, 6, len(e.target_ids), dtype=np.float32) for e in examples]
        rows = residual_weights(losses)
        examples = [replace(e, token_weights=row) for e, row in zip(examples, rows, strict=True)]
    model, teacher = make_model(tuning), teacher_for(tuning)
    model.train()
    shake_lora(model)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    copy = {} if teacher.lm is None else {k: v.clone() for k, v in teacher.lm.state_dict().items()}
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    batch = collator(examples) if signals == "weights" else with_texts(examples)
    (model(batch).loss if batch.context is None else distilled(model, batch, teacher)).backward()
    optimiser.step()
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    outside = {name for name in before if not name.startswith("lm.")}
    inside = {name for name in before if name.startswith("lm.")}
    lora = {name for name in inside if "lora_" in name}
    assert moved == outside | {Tuning.FROZEN: set(), Tuning.LORA: lora, Tuning.FULL: inside}[tuning]
    assert set(model.trainable_state_dict()) - {"embedding_rms"} == moved
    if teacher.lm is not None:
        assert all(torch.equal(value, copy[name]) for name, value in teacher.lm.state_dict().items())
        assert all(parameter.grad is None for parameter in teacher.lm.parameters())


def test_training_brings_the_student_to_its_teacher(
    batch: PromptBatch, tmp_path: Path, collator: Collator, examples: Examples
) -> None:
    model, teacher = make_model(), teacher_for(Tuning.FROZEN, weight=5.0)

    def divergence() -> float:
        with torch.no_grad():
            taught = teacher.read(model, batch)
            assert taught is not None
            return teacher.loss(model, batch, model(batch), taught).item()

    start = divergence()
    module = ItemLanguageModule(model, OptimiserSettings(steps=30, adapter_lr=1e-2), teacher)
    runner = pl.Trainer(
        accelerator="cpu",
        max_steps=30,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        default_root_dir=tmp_path,
        num_sanity_val_steps=0,
    )
    loader = DataLoader([batch], batch_size=None)  # type: ignore[arg-type]
    runner.fit(module, loader, loader)
    assert divergence() < 0.8 * start
    assert "train/divergence" in runner.callback_metrics
    # what is validated is the plain loss of the targets, with or without a teacher
    plain = model.eval()(collator(examples)).token_losses.mean().item()
    assert math.isclose(runner.callback_metrics["val/loss"].item(), plain, rel_tol=1e-4)
    assert set(module.state_dict()) == set(ItemLanguageModule(model, module.settings).state_dict())


def test_a_bf16_teacher_trains_a_float32_adapter(batch: PromptBatch) -> None:
    exact = distilled(make_model(), batch, teacher_for(Tuning.FROZEN)).item()
    model = make_model(lm=tiny_llama().to(torch.bfloat16))
    model.compute_dtype = torch.bfloat16
    loss = distilled(model, batch, teacher_for(Tuning.FROZEN))
    assert loss.dtype is torch.float32
    assert loss.item() == pytest.approx(exact, rel=0.05)
    loss.backward()
    assert all(p.dtype is torch.float32 and p.grad is not None for p in model.adapter.parameters())


def test_a_batch_without_texts_is_trained_as_usual(collator: Collator, examples: Examples) -> None:
    model, teacher = make_model(), teacher_for(Tuning.FROZEN)
    batch = collator(examples)
    assert teacher.read(model, batch) is None
    module = ItemLanguageModule(model, OptimiserSettings(steps=1), teacher)
    assert module._loss(batch).item() == model(batch).loss.item()


def test_what_cannot_teach_is_refused(batch: PromptBatch) -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        ContextTeacher(0.0)
    with pytest.raises(ValueError, match="untrained copy"):
        ContextTeacher(1.0).read(make_model(Tuning.FULL), batch)


def test_residual_weights_have_mean_one_and_keep_their_bounds() -> None:
    rng = np.random.default_rng(1)
    losses = [rng.exponential(1.0, n).astype(np.float32) * 3 for n in (3, 50, 1)]
    weights = residual_weights(losses, 0.2, 4.0)
    assert [len(row) for row in weights] == [3, 50, 1]
    whole, raw = np.concatenate(weights), np.concatenate(losses)
    assert whole.mean() == pytest.approx(1.0, abs=1e-6)
    assert whole.max() / whole.min() == pytest.approx(4.0 / 0.2, rel=1e-5)
    # between the bounds a weight is in proportion to the loss
    inside = (raw > 0.2) & (raw < 4.0)
    ratio = whole[inside] / raw[inside]
    assert ratio == pytest.approx(np.full(inside.sum(), ratio[0]), rel=1e-5)
    assert residual_weights([np.full(4, 2.0, np.float32)])[0].tolist() == [1.0] * 4


@pytest.mark.parametrize(
    ("losses", "bounds", "message"),
    [
        ([np.ones(2, np.float32)], (0.0, 1.0), "0 < lowest"),
        ([np.ones(2, np.float32)], (2.0, 1.0), "0 < lowest"),
        ([np.array([1.0, np.nan], np.float32)], (0.1, 5.0), "finite"),
        ([], (0.1, 5.0), "at least one"),
    ],
)
def test_impossible_residuals_are_refused(losses: list[np.ndarray], bounds: tuple[float, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        residual_weights(losses, *bounds)
