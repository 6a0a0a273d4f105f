"""Trials of the learning rate, and what phase 2 is made from, without any model."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from torch import nn

from ilm_lightning.engine.account import COST, spent
from ilm_lightning.engine.artifacts import SCRATCH, Artifact, Store, write_json
from ilm_lightning.engine.config import Config, LMConfig, TuningConfig
from ilm_lightning.engine.config_trainer import TrainerConfig
from ilm_lightning.engine.datamodule import Stream
from ilm_lightning.engine.stages import phase2, tune
from ilm_lightning.engine.stages.context import Context
from ilm_lightning.engine.stages.fitting import frozen_lm, optimiser_settings, phases
from ilm_lightning.engine.stages.lm_first import lm_first_config
from ilm_lightning.engine.stages.signals import (
    RESIDUALS,
    context_prompts,
    rows_read,
    shortened,
    with_residual_weights,
)
from ilm_lightning.engine.stages.start import starts_at_first
from ilm_lightning.engine.stages.tune import Inputs, _Read, _that_matters, control
from ilm_lightning.lm import LengthGroupedSampler, TokenisedExample

RATES = [3e-4, 1e-3, 3e-3]


def context_of(folder: Path, **tuning: Any) -> Context:
    settings = TuningConfig(mode="frozen", steps=100, adapter_lr=1e-3, lm_lr=2e-4, lr_trials=RATES, **tuning)
    return Context(Config(tuning=settings), Store(folder), folder)


@pytest.mark.parametrize("mode", ["frozen", "full"])
@pytest.mark.parametrize("dtype", ["auto", "float32"])
def test_another_precision_is_another_artefact(tmp_path: Path, mode: str, dtype: str) -> None:
    found = []
    for precision in ("32-true", "bf16-mixed", "16-mixed"):
        trainer = TrainerConfig(accelerator="cpu", precision=precision)
        config = Config(tuning=TuningConfig(mode=mode), lm=LMConfig(dtype=dtype), trainer=trainer)
        found.append(tuple(sorted(Context(config, Store(tmp_path), tmp_path).arithmetic.items())))
    assert len(set(found)) == 3


@pytest.mark.parametrize("mode", ["frozen", "lora", "full"])
def test_a_language_model_computes_in_what_was_asked_for_whatever_is_trained(tmp_path: Path, mode: str) -> None:
    for precision, dtype in (("bf16-mixed", "bfloat16"), ("32-true", "float32")):
        trainer = TrainerConfig(accelerator="cpu", precision=precision)
        config = Config(tuning=TuningConfig(mode=mode), trainer=trainer)
        assert Context(config, Store(tmp_path), tmp_path).lm_dtype == dtype


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    made = Store(tmp_path).get("prepare", {}, {}, lambda folder: {})
    return Inputs(made, made, made)


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch) -> dict[float, float | BaseException]:
    """Validation loss, or error, of a training at each rate; nothing is trained."""
    results: dict[float, float | BaseException] = {3e-4: 2.0, 1e-3: 1.5, 3e-3: 1.8}

    def train(context: Context, *others: Any) -> dict[str, Any]:
        found = results[context.config.tuning.adapter_lr]
        calls.append(context.config.tuning.adapter_lr)
        if isinstance(found, BaseException):
            # what a fit leaves that diverges
            phase = others[-1] / SCRATCH / "tune"
            phase.mkdir(exist_ok=True)
            write_json(phase / COST, {"train_seconds": 0.5, "train_flops": 3.0})
            raise found
        return {"tune": {"best_val_loss": found, "train_seconds": 1.0, "train_flops": 7.0}}

    calls: list[float] = []
    monkeypatch.setattr(phase2, "train", train)
    monkeypatch.setattr(phase2, "new_model", lambda *_: (None, {}))
    monkeypatch.setattr(
        phase2, "recipe", lambda context, inputs, reference: ({"tuning": _that_matters(context.config.tuning)}, {})
    )
    results["calls"] = calls  # type: ignore[index, assignment]
    return results


def test_the_rate_with_the_least_validation_loss_is_chosen_and_all_are_recorded(
    tmp_path: Path, inputs: Inputs, losses: dict[Any, Any]
) -> None:
    made = phase2.trials(context_of(tmp_path), inputs, None)
    assert made.report["chosen"]["adapter_lr"] == 1e-3
    assert made.report["chosen"]["lm_lr"] == pytest.approx(2e-4)
    rows = json.loads((made.path / "trials.json").read_text())["trials"]
    assert [(row["adapter_lr"], row["val_loss"], row["steps"]) for row in rows] == [
        (3e-4, 2.0, 60), (1e-3, 1.5, 60), (3e-3, 1.8, 60),
    ]  # fmt: skip
    # the language model's rate keeps its proportion to the adapter's
    assert [row["lm_lr"] / row["adapter_lr"] for row in rows] == pytest.approx([0.2] * 3)
    assert all(row["train_flops"] == 7.0 for row in rows)


def test_a_trial_warms_up_for_the_same_share_of_its_steps_as_the_run() -> None:
    tuning = TuningConfig(steps=180, trial_steps=30, warmup_steps=30, lr_trials=RATES)
    assert {rates["warmup_steps"] for rates in phase2.trial_rates(tuning)} == {5}
    shares = [
        optimiser_settings(replace(tuning, **rates), rates["steps"]).warmup
        for rates in (*phase2.trial_rates(tuning), {"steps": 180})
    ]
    assert shares == pytest.approx([1 / 6] * 4)


@pytest.mark.parametrize("first_seed", [None, 0, 2**32 - 1])
def test_the_language_model_first_reads_in_an_order_of_its_own(first_seed: int | None) -> None:
    for seed in (0, 1, 2, 2**32 - 1):
        config = Config(seed=seed, tuning=TuningConfig(lm_first_steps=10, lm_first_seed=first_seed))
        first = lm_first_config(config).seed
        assert 0 <= first < 2**32
        assert first not in (0, 1, 2, 2**32 - 1)
    same = [lm_first_config(Config(seed=seed, tuning=TuningConfig(lm_first_seed=4))).seed for seed in (0, 1)]
    assert same[0] == same[1]


def test_a_second_fit_reads_on_where_the_first_ended() -> None:
    sampler = LengthGroupedSampler([5] * 24, 4, 0)
    stream = Stream(list(range(24)), sampler, list)
    whole = [stream(step) for step in range(9)]
    first, second = stream.after(0), stream.after(4)
    assert [first(step) for step in range(4)] + [second(step) for step in range(5)] == whole


def test_elm_reads_as_many_different_examples_as_every_other_row(
    tmp_path: Path, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []

    def fit(module: object, data: Any, settings: Any, *_: object) -> dict[str, float]:
        read.extend(x for step in range(settings.steps) for x in data.batch(step))
        return {}

    stream = Stream(list(range(80)), LengthGroupedSampler([5] * 80, 4, 0), list)
    seen = _Read(stream, [], None, None, {"mean_tokens": 5.0}, 5)
    monkeypatch.setattr(tune, "_what_is_read", lambda *_: seen)
    monkeypatch.setattr("ilm_lightning.engine.training.fit", fit)
    monkeypatch.setattr("ilm_lightning.lm.module.ItemLanguageModule", lambda *_: None)
    monkeypatch.setattr("ilm_lightning.engine.forecast.phase2_forecast", lambda *_: "")
    context = context_of(tmp_path)
    tuning = replace(context.config.tuning, mode="full", steps=20, adapter_first_share=0.25)
    model = nn.Module()
    model.lm = nn.Linear(2, 2)
    tune.train(replace(context, config=replace(context.config, tuning=tuning)), inputs, model, None, tmp_path)  # type: ignore[arg-type]
    assert len(read) == len(set(read)) == 80


def test_equal_losses_take_the_smaller_rate(tmp_path: Path, inputs: Inputs, losses: dict[Any, Any]) -> None:
    losses[3e-3] = 1.5
    assert phase2.trials(context_of(tmp_path), inputs, None).report["chosen"]["adapter_lr"] == 1e-3


def test_a_diverged_trial_counts_but_is_not_chosen(tmp_path: Path, inputs: Inputs, losses: dict[Any, Any]) -> None:
    losses[1e-3] = FloatingPointError("the loss is nan at step 3")
    losses[3e-3] = float("nan")
    report = phase2.trials(context_of(tmp_path), inputs, None).report
    assert report["chosen"]["adapter_lr"] == 3e-4
    assert [row["val_loss"] for row in report["trials"]] == [2.0, None, None]
    assert "step 3" in report["trials"][1]["diverged"]
    # what it cost is part of the variant's compute
    assert [row["train_flops"] for row in report["trials"]] == [7.0, 3.0, 7.0]
    made = phase2.trials(context_of(tmp_path), inputs, None)
    assert spent(tmp_path, made)["flops"] == 17.0


def test_when_every_trial_diverges_smaller_rates_are_asked_for(
    tmp_path: Path, inputs: Inputs, losses: dict[Any, Any]
) -> None:
    for rate in RATES:
        losses[rate] = FloatingPointError("nan")
    with pytest.raises(ValueError, match=r"every trial diverged; give smaller"):
        phase2.trials(context_of(tmp_path), inputs, None)


def test_an_interrupted_search_continues_with_the_trial_that_was_not_finished(
    tmp_path: Path, inputs: Inputs, losses: dict[Any, Any]
) -> None:
    losses[3e-3] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        phase2.trials(context_of(tmp_path), inputs, None)
    losses[3e-3] = 1.0
    assert phase2.trials(context_of(tmp_path), inputs, None).report["chosen"]["adapter_lr"] == 3e-3
    assert losses["calls"] == [3e-4, 1e-3, 3e-3, 3e-3]
    # one rate more: only that one is trained
    more = context_of(tmp_path)
    more.config = replace(more.config, tuning=replace(more.config.tuning, lr_trials=[*RATES, 1e-2]))
    losses[1e-2] = 9.0
    assert len(phase2.trials(more, inputs, None).report["trials"]) == 4
    assert losses["calls"][4:] == [1e-2]


def test_the_run_takes_the_chosen_rates(
    tmp_path: Path, inputs: Inputs, losses: dict[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[TuningConfig, Inputs]] = []
    monkeypatch.setattr(phase2, "tune", lambda context, inputs, _: seen.append((context.config.tuning, inputs)))
    phase2.phase2(context_of(tmp_path), inputs)
    tuning, given = seen[0]
    assert (tuning.adapter_lr, tuning.lm_lr, tuning.steps) == (1e-3, pytest.approx(2e-4), 100)
    assert given.trials is not None
    assert given.residuals is None


def test_controls_learn_from_targets_alone() -> None:
    tuning = TuningConfig(mode="lora", distillation_weight=1.0, residual_weighting=True, lr_trials=RATES)
    blind = control(Config(tuning=tuning), "blind")
    assert (blind.tuning.distillation_weight, blind.tuning.residual_weighting) == (0.0, False)
    assert blind.tuning.lr_trials == RATES
    plain = control(Config(tuning=replace(tuning, distillation_weight=0.0, residual_weighting=False)), "blind")
    # one blind control serves the plain variant and the weighted one
    assert _that_matters(blind.tuning) == _that_matters(plain.tuning)


def test_settings_of_what_is_off_do_not_make_another_run() -> None:
    plain = TuningConfig(mode="frozen")
    for change in (
        {"residual_clip": [0.2, 3.0]}, {"residual_steps": 5}, {"distillation_tokens": 9}, {"trial_steps": 3},
        {"checkpoint_every_s": 30.0},
    ):  # fmt: skip
        assert _that_matters(replace(plain, **change)) == _that_matters(plain)  # type: ignore[arg-type]
    for change in ({"distillation_weight": 0.5}, {"residual_weighting": True}, {"adapter_lr": 1e-4}):
        assert _that_matters(replace(plain, **change)) != _that_matters(plain)  # type: ignore[arg-type]


def test_elms_first_stage_trains_the_adapter_alone() -> None:
    model = nn.ModuleDict({"adapter": nn.Linear(2, 2), "lm": nn.Linear(2, 2)})
    assert phases(0.25, 8, "full") == [("adapter", 2, "frozen"), ("tune", 6, "full")]
    assert phases(0.0, 8, "lora") == [("tune", 8, "lora")]
    owner: Any = SimpleNamespace(lm=model["lm"])
    for active, expected in ((True, {"adapter.weight", "adapter.bias"}), (False, set(dict(model.named_parameters())))):
        with frozen_lm(owner, active):
            assert {name for name, p in model.named_parameters() if p.requires_grad} == expected
        assert all(p.requires_grad for p in model.parameters())


def example(name: str, tokens: int) -> TokenisedExample:
    return TokenisedExample(name, np.zeros(2, np.int32), np.zeros(tokens, np.int32), ())


def test_only_rows_that_are_read_need_weights(tmp_path: Path) -> None:
    rows = [example(f"e{i}", i % 3 + 1) for i in range(40)]
    sampler = LengthGroupedSampler([len(row) for row in rows], batch_size=4, seed=1)
    read = rows_read(sampler, 3)
    assert read == sorted({row for step in range(3) for row in sampler.batch_at(step)})
    assert len(read) == 12
    assert rows_read(sampler, 25) == list(range(40))
    table = {
        "example_id": [rows[i].example_id for i in read],
        "losses": [[float(i)] * len(rows[i].target_ids) for i in read],
    }
    pl.DataFrame(table).write_parquet(tmp_path / RESIDUALS)
    weighted = with_residual_weights(rows, read, Artifact("residuals", "x", tmp_path, {}), [0.1, 100.0])
    found = [row for row, one in enumerate(weighted) if one.token_weights is not None]
    assert found == read
    whole = np.concatenate([weighted[row].token_weights for row in read])  # type: ignore[arg-type]
    assert whole.mean() == pytest.approx(1.0, abs=1e-5)
    heavy, light = max(read), min(r for r in read if r)
    assert weighted[heavy].token_weights[0] / weighted[light].token_weights[0] == pytest.approx(heavy / light, rel=1e-4)  # type: ignore[index]


class Words:
    """A tokenizer whose tokens are words."""

    def __call__(self, text: str, add_special_tokens: bool) -> SimpleNamespace:
        return SimpleNamespace(input_ids=text.split())

    def decode(self, ids: list[str]) -> str:
        return " ".join(ids)


def test_texts_are_cut_by_tokens() -> None:
    assert shortened(Words(), "one two three", 2) == "one two"
    assert shortened(Words(), "one  two", 2) == "one  two"
    assert shortened(Words(), None, 2) is None


class NoTexts:
    """A catalogue of one item without a text."""

    def __len__(self) -> int:
        return 1

    def item_text(self, row: int) -> str | None:
        assert row == 0
        return None


def test_a_catalogue_without_texts_cannot_teach(tmp_path: Path) -> None:
    prompts = {"example_id": ["a", "b"], "prompt": ["Sum up {item}.", "Who is {user}?"], "slots": [[[0]], [[1]]]}
    frame = pl.DataFrame(prompts)
    tokenizer: Any = SimpleNamespace(tokenizer=Words(), encode=lambda rows: pytest.fail("nothing to encode"))
    catalog: Any = NoTexts()
    with pytest.raises(ValueError, match="no training item has a text"):
        context_prompts(context_of(tmp_path), frame, [0, 1], catalog, tokenizer)


def test_only_a_language_model_that_learned_with_soft_tokens_gives_a_start(tmp_path: Path) -> None:
    first = Artifact("tune", "0" * 16, tmp_path, {})
    context = context_of(tmp_path)
    assert starts_at_first(first, context)
    assert not starts_at_first(None, context)
    # there it learns on text ids alone
    recommending = replace(context, config=replace(context.config, tasks=replace(context.config.tasks, kind="openp5")))
    assert not starts_at_first(first, recommending)
