"""Phase 2 as a stage: adapter and language model trained on the tasks; also the blind control and the references."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from ilm_lightning.embeddings.vectors import ItemVectors
from ilm_lightning.engine.artifacts import Artifact, write_json
from ilm_lightning.engine.config import AdapterConfig, Config, TuningConfig
from ilm_lightning.engine.stages.context import Context
from ilm_lightning.engine.stages.data import read_examples, read_tables, training_examples
from ilm_lightning.engine.stages.figure1 import slot_vectors
from ilm_lightning.engine.stages.fitting import fit_settings, frozen_lm, optimiser_settings, phases
from ilm_lightning.engine.stages.panels import text_panel
from ilm_lightning.engine.stages.pretrain import (
    adapter_key,
    adapter_settings,
    init_qformer,
    lm_embeddings,
    load_pretrained,
)
from ilm_lightning.engine.stages.reference import prompts_with
from ilm_lightning.engine.stages.signals import context_prompts, context_teacher, rows_read, with_residual_weights
from ilm_lightning.engine.stages.sizes import compared_sizes
from ilm_lightning.engine.stages.start import START_CODE, start_at_first, starts_at_first

if TYPE_CHECKING:
    from ilm_lightning.assets import ResolvedAsset
    from ilm_lightning.engine.datamodule import Stream
    from ilm_lightning.engine.samples import Panel
    from ilm_lightning.lm import ContextTeacher, ItemLanguageModel, LengthGroupedSampler

log = logging.getLogger("ilm_lightning")
CODE = 2
MODEL = "model"
"""Sub folder with the portable model."""


@dataclass(frozen=True)
class Inputs:
    """Artefacts that phase 2 reads.

    Attributes:
        pretrained: where the adapter comes from phase 1.
        trials: where learning rates were tried.
        residuals: where target tokens are weighted.
        first: the model whose updates are part of the language model, see ``tuning.lm_first_steps``.
    """

    prepared: Artifact
    embedded: Artifact
    examples: Artifact
    pretrained: Artifact | None = None
    trials: Artifact | None = None
    residuals: Artifact | None = None
    first: Artifact | None = None

    @property
    def updates(self) -> Path | None:
        """Folder of the LoRA updates that are part of the language model before phase 2."""
        from ilm_lightning.lm.portable import LORA_FOLDER

        return None if self.first is None else self.first.path / MODEL / LORA_FOLDER


def control(config: Config, name: str) -> Config:
    """The run that a control or reference needs, at the same budget and tuning mode.

    Args:
        config: the variant's configuration.
        name: ``blind`` (free soft tokens shared by all items), ``title`` or ``facts`` (the same, with the item's title,
            or all the teacher's facts, as text in the prompt).

    Returns:
        The configuration of that run: no item is known, so there is no text to distil and nothing to weight.
    """
    adapter = AdapterConfig(kind="constant", init="random", num_queries=config.adapter.num_queries)
    tuning = replace(config.tuning, distillation_weight=0.0, residual_weighting=False)
    return replace(config, name=name, adapter=adapter, tuning=tuning, logger=replace(config.logger, samples=0))


def recipe(context: Context, inputs: Inputs, reference: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings and input artefacts that determine a training of phase 2."""
    config = context.config
    settings = {
        "code": CODE,
        "adapter": adapter_key(config.adapter),
        "tuning": _that_matters(config.tuning),
        # free soft tokens read no vector: one blind control serves every encoder
        "encoder": None if config.adapter.kind == "constant" else config.encoder.name,
        "title_in_prompt": config.tasks.title_in_prompt,
        "reference": reference,
        **context.arithmetic,
        "seed": config.seed,
    }
    artifacts: dict[str, Artifact | str] = {
        "prepare": inputs.prepared,
        "embed": inputs.embedded,
        "tasks": inputs.examples,
        "lm": context.asset(config.lm.name).sha256,
    }
    if starts_at_first(inputs.first, context):
        settings["start"] = START_CODE
    for name, artifact in (("trials", inputs.trials), ("residuals", inputs.residuals), ("first", inputs.first)):
        if artifact is not None:
            artifacts[name] = artifact
    if config.adapter.init == "pretrained":
        assert inputs.pretrained is not None
        artifacts["pretrain"] = inputs.pretrained
    elif config.adapter.init == "bert":
        artifacts["bert"] = context.asset(config.adapter.bert).sha256
    return settings, artifacts


def _that_matters(tuning: TuningConfig) -> dict[str, Any]:
    """The settings without those of what is off, and of what is an input of its own."""
    off = {"lr_trials", "trial_steps", "residual_steps", "lm_first_steps", "lm_first_lr", "lm_first_seed"}
    off |= {"history", "history_block"}
    off |= set() if tuning.distillation_weight else {"distillation_weight", "distillation_tokens"}
    off |= set() if tuning.residual_weighting else {"residual_weighting", "residual_clip"}
    # how often the state is saved changes no weight: a run may go on under another interval
    same = replace(tuning, checkpoint_every_s=TuningConfig().checkpoint_every_s)
    return {key: value for key, value in asdict(same).items() if key not in off}


def tune(context: Context, inputs: Inputs, reference: str | None = None) -> Artifact:
    """Train on the tasks and leave the portable model with the best validation weights.

    The settings are taken as they stand; `phase2` tries learning rates and makes residuals first.

    Args:
        context: the run.
        inputs: artefacts.
        reference: ``title`` or ``facts``: text about the item added to every prompt.

    Returns:
        The artefact; its ``model`` folder is what ``ItemLanguageModel.from_pretrained`` reads.
    """
    settings, artifacts = recipe(context, inputs, reference)
    return context.store.get(
        "tune", settings, artifacts, lambda to: _build(context, inputs, reference, to), together=True
    )


def new_model(context: Context, inputs: Inputs) -> tuple["ItemLanguageModel", dict[str, str]]:
    """Build adapter and language model as configured.

    Returns:
        The model, and where the weights of each component came from.
    """
    import lightning as lt

    from ilm_lightning.adapters import build_adapter
    from ilm_lightning.lm import ItemLanguageModel, LoRASettings, load_backbone

    config = context.config
    lt.seed_everything(config.seed, verbose=False)
    asset = context.asset(config.lm.name)
    vectors = ItemVectors.load(inputs.embedded.path).select(config.encoder.name)
    if config.adapter.init == "pretrained":
        assert inputs.pretrained is not None
        adapter, origin = load_pretrained(inputs.pretrained), f"phase 1 ({inputs.pretrained.id})"
    else:
        width = lm_embeddings(asset.path).shape[1]
        adapter, origin = build_adapter(adapter_settings(config.adapter, vectors.dims, width)), "new, random"
        if config.adapter.init == "bert":
            copied = init_qformer(context, adapter, None)
            origin = (
                f"{config.adapter.bert}; cross-attention and maps new ({len(copied)} tensors listed in origin.json)"
            )
    tuning = config.tuning
    targets = "all-linear" if tuning.lora_targets == ["all-linear"] else tuple(tuning.lora_targets)
    lora = LoRASettings(rank=tuning.lora_rank, alpha=tuning.lora_alpha, target_modules=targets)
    backbone = load_backbone(
        asset.path, config.tuning.mode, context.lm_dtype, lora, name=lm_name(asset), updates=inputs.updates
    )
    source = f"{asset.name} ({asset.source})"
    if inputs.first is not None:
        source += f", the tasks' format learned first ({inputs.first.id})"
    model = ItemLanguageModel(adapter, backbone, config.tasks.head == "item")
    origins = {"adapter": origin, "language model": source}
    if starts_at_first(first := inputs.first, context):
        start_at_first(model, first.path / MODEL, vectors, read_tables(inputs.prepared)[2] == "train")
        origins["start"] = f"soft tokens of {first.id}"
    return model, origins


def lm_name(asset: "ResolvedAsset") -> str:
    """What an exported model calls its language model: the asset's name, or the path it was read from."""
    return asset.key or str(asset.path)


def tokenised(context: Context, num_queries: int, frame: pl.DataFrame) -> tuple[Any, list[Any]]:
    """Tokenise examples; returns the tokenizer and one tokenised example a row."""
    from ilm_lightning.lm.prompts import read_tokenizer

    tokenizer = read_tokenizer(context.asset(context.config.lm.name).path, num_queries)
    return tokenizer, tokenizer.encode(frame.iter_rows(named=True))


def _build(context: Context, inputs: Inputs, reference: str | None, folder: Path) -> dict[str, Any]:
    from ilm_lightning.engine.screen import show_parameters
    from ilm_lightning.lm import parameter_report
    from ilm_lightning.ranks import is_main

    model, origins = new_model(context, inputs)
    show_parameters(parameter_report(model, origins))
    sizes = compared_sizes(context, model)
    write_json(folder / "origin.json", origins)
    report = train(context, inputs, model, reference, folder)
    if is_main():
        model.save_pretrained(folder / MODEL, extra={"prompt": "chat template", "seed": context.config.seed})
    tuning = context.config.tuning
    return {
        "parameters": [asdict(row) for row in parameter_report(model, origins)],
        "sizes": sizes,
        "learning_rates": {"adapter": tuning.adapter_lr, "lm": None if tuning.mode == "frozen" else tuning.lm_lr},
        "trials": [] if inputs.trials is None else inputs.trials.report["trials"],
        **report,
    }


def examples_of(context: Context, inputs: Inputs, reference: str | None) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Examples to train on, through the gate that lets no held-out text pass, and all validation examples."""
    _, catalog, split = read_tables(inputs.prepared)
    title = "title" if context.config.tasks.title_in_prompt else None
    frame = prompts_with(read_examples(inputs.examples), catalog, reference or title)
    return training_examples(frame, catalog, split), frame.filter(pl.col("split") == "validation")


def order_of(context: Context, rows: Sequence[Any]) -> "LengthGroupedSampler":
    """The order in which training reads tokenised examples."""
    from ilm_lightning.lm import LengthGroupedSampler

    return LengthGroupedSampler([len(row) for row in rows], context.config.tuning.batch_size, context.config.seed)


def train(
    context: Context, inputs: Inputs, model: "ItemLanguageModel", reference: str | None, folder: Path
) -> dict[str, Any]:
    """Fit a new model; it ends with its best validation weights.

    Args:
        context: the run.
        inputs: artefacts.
        model: from ``new_model``.
        reference: as in ``tune``.
        folder: the stage's unfinished folder.

    Returns:
        The report: numbers of examples and tokens, and of each phase its best validation loss and its cost.
    """
    from ilm_lightning.engine.datamodule import StreamDataModule
    from ilm_lightning.engine.forecast import phase2_forecast
    from ilm_lightning.engine.training import fit, training_device
    from ilm_lightning.lm.module import ItemLanguageModule

    config, tuning = context.config, context.config.tuning
    read = _what_is_read(context, inputs, model, reference)
    report, tokens = dict(read.report), int(read.report["mean_tokens"] * tuning.batch_size)
    device, distilled = training_device(config.trainer), read.teacher is not None
    twice = config.trainer.activation_checkpointing
    log.info("tune      %s", phase2_forecast(model, tokens, tuning.steps, device, distilled, 0.0, read.largest, twice))
    done = 0
    for label, steps, mode in phases(tuning.adapter_first_share, tuning.steps, tuning.mode):
        with frozen_lm(model, mode == "frozen" and tuning.mode != "frozen"):
            report[label] = fit(
                ItemLanguageModule(model, optimiser_settings(tuning, steps), read.teacher),
                StreamDataModule(read.stream.after(done), read.checks),
                fit_settings(config, label, steps),
                config.trainer,
                folder,
                context.tracker(label),
                read.panel,
            )
        done += steps
    return report


@dataclass(frozen=True)
class _Read:
    """What a training reads.

    Attributes:
        stream: training batches by step.
        checks: validation batches.
        panel: validation examples that are answered meanwhile, None for none.
        teacher: of context distillation, None without.
        report: numbers of examples and tokens.
        largest: tokens of a batch of the longest examples.
    """

    stream: "Stream"
    checks: list[Any]
    panel: "Panel | None"
    teacher: "ContextTeacher | None"
    report: dict[str, Any]
    largest: int


def _what_is_read(context: Context, inputs: Inputs, model: "ItemLanguageModel", reference: str | None) -> _Read:
    from ilm_lightning.engine.datamodule import Stream
    from ilm_lightning.lm import Collator, ContextCollator, sorted_batches

    config, tuning = context.config, context.config.tuning
    frame, validation = examples_of(context, inputs, reference)
    vectors = ItemVectors.load(inputs.embedded.path).select(config.encoder.name)
    collator = Collator(slot_vectors(vectors, frame))
    panel = text_panel(context, model, validation, collator)
    validation = validation.sample(min(tuning.val_examples, len(validation)), seed=0, shuffle=True)
    tokenizer, rows = tokenised(context, model.num_queries, frame)
    _, check_rows = tokenised(context, model.num_queries, validation)
    sampler = order_of(context, rows)
    read = rows_read(sampler, tuning.steps)
    if inputs.residuals is not None:
        rows = with_residual_weights(rows, read, inputs.residuals, tuning.residual_clip)
    stream, teacher = Stream(rows, sampler, collator), context_teacher(context, inputs.updates)
    report: dict[str, Any] = {"train_examples": len(rows), "mean_tokens": sum(map(len, rows)) / len(rows)}
    if teacher is not None:
        _, catalog, _ = read_tables(inputs.prepared)
        prompts = context_prompts(context, frame, read, catalog, tokenizer)
        stream = Stream(rows, sampler, ContextCollator(collator, prompts))
        report["distilled_share"] = len(prompts) / len(read)
    checks = [collator([check_rows[i] for i in part]) for part in sorted_batches([len(r) for r in check_rows], 16)]
    return _Read(stream, checks, panel, teacher, report, max(len(rows[row]) for row in read) * tuning.batch_size)
