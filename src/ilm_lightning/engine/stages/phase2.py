"""Phase 2 with what comes before it: trials of the learning rate, the blind model's losses; and the controls' runs."""

import logging
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from ilm_lightning.embeddings.vectors import ItemVectors
from ilm_lightning.engine.artifacts import Artifact, write_json
from ilm_lightning.engine.config import TuningConfig
from ilm_lightning.engine.stages.context import Context
from ilm_lightning.engine.stages.figure1 import slot_vectors
from ilm_lightning.engine.stages.generate import load_model
from ilm_lightning.engine.stages.lm_first import with_lm_first
from ilm_lightning.engine.stages.signals import RESIDUALS, rows_read
from ilm_lightning.engine.stages.tune import (
    Inputs,
    control,
    examples_of,
    new_model,
    order_of,
    recipe,
    tokenised,
    train,
    tune,
)

log = logging.getLogger("ilm_lightning")
CODE = 1


def phase2(context: Context, inputs: Inputs, reference: str | None = None) -> Artifact:
    """Train phase 2: first the language model alone, the blind model whose losses weight the targets, and trials.

    Args:
        context: the run.
        inputs: artefacts of the stages before.
        reference: ``title`` or ``facts``: text about the item added to every prompt.

    Returns:
        What ``tune`` made; its report names the learning rates, and the trials behind them.
    """
    inputs = with_lm_first(context, inputs, phase2)
    if context.config.tuning.residual_weighting:
        inputs = replace(inputs, residuals=residuals(context, inputs))
    if context.config.tuning.lr_trials:
        found = trials(context, inputs, reference)
        chosen = found.report["chosen"]
        log.info(
            "%-9s adapter_lr %g has the least validation loss of %d trials",
            "trials",
            chosen["adapter_lr"],
            len(found.report["trials"]),
        )
        context = _with(context, adapter_lr=chosen["adapter_lr"], lm_lr=chosen["lm_lr"])
        inputs = replace(inputs, trials=found)
    return tune(context, inputs, reference)


def train_control(
    context: Context, inputs: Inputs, name: str, steps: int | None = None
) -> tuple[Context, Inputs, Artifact]:
    """Train a control or reference at the variant's budget, tuning mode and number of trials.

    Args:
        context: the variant's run.
        inputs: its artefacts.
        name: ``blind``, ``title`` or ``facts``, see ``control``.
        steps: other than the variant's.

    Returns:
        The control's run, its input artefacts, and what ``tune`` made.
    """
    other = Context(control(context.config, name), context.store, context.run_folder, context.assets)
    if steps is not None:
        other = _with(other, steps=steps, trial_steps=min(steps, other.config.tuning.trial_steps))
    bare = replace(inputs, pretrained=None, trials=None, residuals=None, first=None)
    return other, bare, phase2(other, bare, None if name == "blind" else name)


def residuals(context: Context, inputs: Inputs) -> Artifact:
    """Losses of the blind model on the target tokens of the training examples that the run will read, no others."""
    config = context.config
    other, bare, blind = train_control(context, inputs, "blind", config.tuning.residual_steps)
    settings = {
        "code": CODE,
        "steps": config.tuning.steps,
        "batch_size": config.tuning.batch_size,
        "title_in_prompt": config.tasks.title_in_prompt,
        "dtype": context.lm_dtype,
        "seed": config.seed,
    }
    artifacts: dict[str, Artifact | str] = {"blind": blind, "prepare": inputs.prepared, "tasks": inputs.examples}

    def build(folder: Path) -> dict[str, Any]:
        from ilm_lightning.engine.account import FlopCount
        from ilm_lightning.lm import Collator, target_losses

        model = load_model(other, blind)
        frame, _ = examples_of(other, bare, None)
        _, rows = tokenised(other, model.num_queries, frame)
        examples = [rows[row] for row in rows_read(order_of(context, rows), config.tuning.steps)]
        vectors = ItemVectors.load(inputs.embedded.path).select(config.encoder.name)
        begin = time.perf_counter()
        with FlopCount() as counter:
            losses = target_losses(model, examples, Collator(slot_vectors(vectors, frame)), label="blind: losses")
        rows_of = pl.Series("losses", [row.tolist() for row in losses.token_losses], dtype=pl.List(pl.Float32))
        pl.DataFrame([pl.Series("example_id", losses.example_ids), rows_of]).write_parquet(folder / RESIDUALS)
        return {
            "examples": len(examples),
            "mean_loss": losses.mean,
            "train_seconds": round(time.perf_counter() - begin, 2),
            "train_flops": counter.total,
        }

    return context.store.get("residuals", settings, artifacts, build)


def trials(context: Context, inputs: Inputs, reference: str | None) -> Artifact:
    """Try each learning rate for a few steps with a whole schedule, and compare validation losses.

    Each trial is an artefact of its own, so an interrupted search continues where it stopped.

    Returns:
        ``trials.json`` and a report: ``trials`` with the rates, validation loss and cost of each, ``chosen`` among
        them; the smaller rate where two are equal.

    Raises:
        ValueError: every trial diverged.
    """
    tuning = context.config.tuning
    made = [_trial(_with(context, **rates), inputs, reference) for rates in trial_rates(tuning)]
    found = [artifact.report for artifact in made]
    finite = [one for one in found if one["val_loss"] is not None]
    if not finite:
        raise ValueError(f"tuning.lr_trials={list(tuning.lr_trials)}: every trial diverged; give smaller values")
    best = min(finite, key=lambda one: (one["val_loss"], one["adapter_lr"]))
    chosen = {key: best[key] for key in ("adapter_lr", "lm_lr", "val_loss")}

    def build(folder: Path) -> dict[str, Any]:
        report = {"trials": found, "chosen": chosen}
        write_json(folder / "trials.json", report)
        return report

    inputs_by_rate: dict[str, Artifact | str] = {f"{one.report['adapter_lr']:g}": one for one in made}
    return context.store.get("trials", {"code": CODE}, inputs_by_rate, build)


def trial_rates(tuning: TuningConfig) -> list[dict[str, Any]]:
    """Settings of each trial: the language model's rate keeps its proportion to the adapter's, warm-up its share."""
    return [
        {
            "adapter_lr": rate,
            "lm_lr": rate * tuning.lm_lr / tuning.adapter_lr,
            "steps": tuning.trial_steps,
            "val_every": tuning.trial_steps,
            "warmup_steps": round(tuning.warmup_steps * tuning.trial_steps / tuning.steps),
        }
        for rate in dict.fromkeys(tuning.lr_trials)
    ]


def _trial(context: Context, inputs: Inputs, reference: str | None) -> Artifact:
    # a trial is judged by its validation loss alone
    config = replace(context.config, logger=replace(context.config.logger, samples=0))
    context, tuning = replace(context, config=config), config.tuning
    settings, artifacts = recipe(context, inputs, reference)

    def build(folder: Path) -> dict[str, Any]:
        log.info("%-9s adapter_lr %g, lm_lr %g", "trial", tuning.adapter_lr, tuning.lm_lr)
        model, _ = new_model(context, inputs)
        rates = {"adapter_lr": tuning.adapter_lr, "lm_lr": tuning.lm_lr, "steps": tuning.steps}
        try:
            report = train(context, inputs, model, reference, folder)
        except FloatingPointError as error:
            from ilm_lightning.engine.account import cost_until_now

            log.warning("%-9s diverged: %s", "trial", error)
            return {**rates, "val_loss": None, "diverged": str(error), **cost_until_now(folder)}
        phases = [report[label] for label in ("adapter", "tune") if label in report]
        loss = phases[-1]["best_val_loss"]
        cost = {key: sum(phase[key] for phase in phases) for key in ("train_seconds", "train_flops")}
        return {**rates, "val_loss": loss if math.isfinite(loss) else None, **cost}

    return context.store.get("trial", settings, artifacts, build, together=True)


def _with(context: Context, **tuning: Any) -> Context:
    """The same run with other settings of phase 2."""
    config = replace(context.config, tuning=replace(context.config.tuning, **tuning))
    return Context(config, context.store, context.run_folder, context.assets)
