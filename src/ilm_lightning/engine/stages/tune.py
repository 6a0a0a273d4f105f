"""Phase 2 as a stage: adapter and language model trained on the tasks; also the blind control and the references."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from ilm_lightning.embeddings.vectors import ItemVectors
from ilm_lightning.engine.artifacts import Artifact, write_json
from ilm_lightning.engine.config import AdapterConfig, Config
from ilm_lightning.engine.stages.context import Context
from ilm_lightning.engine.stages.data import read_examples, read_tables, training_examples
from ilm_lightning.engine.stages.pretrain import adapter_settings, init_qformer, lm_embeddings, load_pretrained

if TYPE_CHECKING:
    from ilm_lightning.assets import ResolvedAsset
    from ilm_lightning.lm import ItemLanguageModel

log = logging.getLogger("ilm_lightning")
CODE = 1
MODEL = "model"
"""Sub folder with the portable model."""


@dataclass(frozen=True)
class Inputs:
    """Artefacts that phase 2 reads; ``pretrained`` only where the adapter comes from phase 1."""

    prepared: Artifact
    embedded: Artifact
    examples: Artifact
    pretrained: Artifact | None = None


def control(config: Config, name: str) -> Config:
    """The run that a control or reference needs, at the same budget and tuning mode.

    Args:
        config: the variant's configuration.
        name: ``blind`` (free soft tokens shared by all items), ``title`` or ``facts`` (the same, with the item's title,
            or all the teacher's facts, as text in the prompt).

    Returns:
        The configuration of that run.
    """
    adapter = AdapterConfig(kind="constant", init="random", num_queries=config.adapter.num_queries)
    return replace(config, name=name, adapter=adapter)


def tune(context: Context, inputs: Inputs, reference: str | None = None) -> Artifact:
    """Train on the tasks and leave the portable model with the best validation weights.

    Args:
        context: the run.
        inputs: artefacts.
        reference: ``title`` or ``facts``: text about the item added to every prompt.

    Returns:
        The artefact; its ``model`` folder is what ``ItemLanguageModel.from_pretrained`` reads.
    """
    config = context.config
    settings = {
        "code": CODE,
        "adapter": asdict(config.adapter),
        "tuning": asdict(config.tuning),
        # free soft tokens read no vector: one blind control serves every encoder
        "encoder": None if config.adapter.kind == "constant" else config.encoder.name,
        "title_in_prompt": config.tasks.title_in_prompt,
        "reference": reference,
        "dtype": context.lm_dtype,
        "seed": config.seed,
    }
    artifacts: dict[str, Artifact | str] = {
        "prepare": inputs.prepared,
        "embed": inputs.embedded,
        "tasks": inputs.examples,
        "lm": context.asset(config.lm.name).sha256,
    }
    if config.adapter.init == "pretrained":
        assert inputs.pretrained is not None
        artifacts["pretrain"] = inputs.pretrained
    elif config.adapter.init == "bert":
        artifacts["bert"] = context.asset(config.adapter.bert).sha256
    return context.store.get("tune", settings, artifacts, lambda folder: _build(context, inputs, reference, folder))


def prompts_with(frame: pl.DataFrame, catalog: Any, reference: str | None) -> pl.DataFrame:
    """Add text about the items to prompts.

    Args:
        frame: examples.
        catalog: the items.
        reference: ``title``, ``facts`` or None for none.

    Returns:
        The examples with longer prompts.
    """
    if reference is None:
        return frame
    from ilm_lightning.tasks.elm import facts_prompt, title_prompt

    describe = facts_prompt if reference == "facts" else title_prompt
    texts = {i: describe(catalog[i]) for i in {i for items in frame["items"].to_list() for i in items}}
    prompts = [
        prompt + " " + " ".join(texts[i] for i in items)
        for prompt, items in zip(frame["prompt"].to_list(), frame["items"].to_list(), strict=True)
    ]
    return frame.with_columns(pl.Series("prompt", prompts))


def new_model(context: Context, inputs: Inputs) -> tuple["ItemLanguageModel", dict[str, str]]:
    """Build adapter and language model as configured.

    Returns:
        The model, and where the weights of each component came from.
    """
    from ilm_lightning.adapters import build_adapter
    from ilm_lightning.lm import ItemLanguageModel, LoRASettings, load_backbone

    config = context.config
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
    backbone = load_backbone(asset.path, config.tuning.mode, context.lm_dtype, lora, name=lm_name(asset))
    return ItemLanguageModel(adapter, backbone), {"adapter": origin, "language model": f"{asset.name} ({asset.source})"}


def lm_name(asset: "ResolvedAsset") -> str:
    """What an exported model calls its language model: the asset's name, or the path it was read from."""
    return asset.key or str(asset.path)


def tokenised(context: Context, num_queries: int, frame: pl.DataFrame) -> tuple[Any, list[Any]]:
    """Tokenise examples; returns the tokenizer and one tokenised example a row."""
    from transformers import AutoTokenizer

    from ilm_lightning.lm import PromptTokenizer

    tokenizer = PromptTokenizer(
        AutoTokenizer.from_pretrained(str(context.asset(context.config.lm.name).path)), num_queries
    )
    return tokenizer, tokenizer.encode(frame.iter_rows(named=True))


def _build(context: Context, inputs: Inputs, reference: str | None, folder: Path) -> dict[str, Any]:
    import lightning as lt

    from ilm_lightning.engine.screen import show_parameters
    from ilm_lightning.lm import parameter_report

    config = context.config
    lt.seed_everything(config.seed, verbose=False)
    _, catalog, split = read_tables(inputs.prepared)
    frame = prompts_with(
        read_examples(inputs.examples), catalog, reference or ("title" if config.tasks.title_in_prompt else None)
    )
    train = training_examples(frame, catalog, split)
    validation = frame.filter(pl.col("split") == "validation")
    validation = validation.sample(min(config.tuning.val_examples, len(validation)), seed=0, shuffle=True)
    model, origins = new_model(context, inputs)
    show_parameters(parameter_report(model, origins))
    sizes = compared_sizes(context, model)
    write_json(folder / "origin.json", origins)
    report = _fit(context, inputs, model, train, validation, folder)
    model.save_pretrained(folder / MODEL, extra={"prompt": "chat template", "seed": config.seed})
    return {"parameters": [asdict(row) for row in parameter_report(model, origins)], "sizes": sizes, **report}


def compared_sizes(context: Context, model: "ItemLanguageModel") -> dict[str, int]:
    """Parameters of the adapter beside those that a Q-Former of the same settings runs in phase 2; said on screen."""
    from ilm_lightning.adapters import count_parameters, qformer_phase2_parameters

    adapter = model.adapter
    twin = adapter_settings(replace(context.config.adapter, kind="qformer"), adapter.source_dims, adapter.output_dim)
    sizes = {"adapter": count_parameters(adapter), "qformer_phase2": qformer_phase2_parameters(twin)}
    if adapter.kind == "mlp":
        log.info(
            "%-9s MLP of %s parameters beside %s of a Q-Former in phase 2 (%+.2f %%), %d soft tokens each",
            "tune",
            f"{sizes['adapter']:,}",
            f"{sizes['qformer_phase2']:,}",
            100 * (sizes["adapter"] / sizes["qformer_phase2"] - 1),
            adapter.num_queries,
        )
    return sizes


def _fit(
    context: Context, inputs: Inputs, model: Any, train: pl.DataFrame, validation: pl.DataFrame, folder: Path
) -> dict[str, Any]:
    from ilm_lightning.engine.datamodule import StreamDataModule
    from ilm_lightning.engine.forecast import phase2_forecast
    from ilm_lightning.engine.training import FitSettings, fit
    from ilm_lightning.lm import Collator, LengthGroupedSampler, sorted_batches
    from ilm_lightning.lm.module import ItemLanguageModule, OptimiserSettings

    config, tuning = context.config, context.config.tuning
    vectors = ItemVectors.load(inputs.embedded.path).select(config.encoder.name)
    collator = Collator(vectors.tensors())
    _, train_rows = tokenised(context, model.num_queries, train)
    _, check_rows = tokenised(context, model.num_queries, validation)
    lengths = [len(row) for row in train_rows]
    stream = Stream(train_rows, LengthGroupedSampler(lengths, tuning.batch_size, config.seed), collator)
    checks = [collator([check_rows[i] for i in rows]) for rows in sorted_batches([len(r) for r in check_rows], 16)]
    report: dict[str, Any] = {"train_examples": len(train_rows), "mean_tokens": sum(lengths) / len(lengths)}
    tokens = int(report["mean_tokens"] * tuning.batch_size)
    log.info("%-9s %s", "tune", phase2_forecast(model, tokens, tuning.steps))
    for label, steps, mode in _phases(tuning.adapter_first_share, tuning.steps, tuning.mode):
        settings = OptimiserSettings(
            steps, tuning.adapter_lr, tuning.lm_lr, min(1.0, tuning.warmup_steps / steps), tuning.weight_decay
        )
        with frozen_lm(model, mode == "frozen" and tuning.mode != "frozen"):
            fitting = FitSettings(
                label, steps, tuning.val_every, config.seed, tuning.gradient_clip, tuning.checkpoint_every_s
            )
            data = StreamDataModule(stream, checks)
            report[label] = fit(
                ItemLanguageModule(model, settings), data, fitting, config.trainer, folder, context.logger(label)
            )
    return report


def _phases(share: float, steps: int, mode: str) -> list[tuple[str, int, str]]:
    first = round(share * steps)
    phases = [("adapter", first, "frozen"), ("tune", steps - first, mode)]
    return [phase for phase in phases if phase[1] > 0]


class frozen_lm:  # noqa: N801 - reads as a statement
    """Freeze the language model for the duration of a ``with`` block (ELM's first stage)."""

    def __init__(self, model: Any, active: bool) -> None:
        self.parameters = [p for p in model.lm.parameters() if p.requires_grad] if active else []

    def __enter__(self) -> None:
        """Freeze."""
        for parameter in self.parameters:
            parameter.requires_grad_(False)

    def __exit__(self, *error: object) -> None:
        """Thaw what was trained before."""
        for parameter in self.parameters:
            parameter.requires_grad_(True)


@dataclass
class Stream:
    """Training batch of each step: the sampler's order is a function of (seed, epoch), so of the step."""

    rows: Sequence[Any]
    sampler: Any
    collator: Any
    _epoch: int = -1

    def __call__(self, step: int) -> Any:
        """Collate the batch of a step."""
        epoch, place = divmod(step, len(self.sampler))
        if epoch != self._epoch:
            self._batches, self._epoch = self.sampler.batches(epoch), epoch
        return self.collator([self.rows[i] for i in self._batches[place]])
