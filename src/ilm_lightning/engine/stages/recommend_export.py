"""What a recommendation run leaves behind: metrics with their protocol, predictions, the portable model."""

import json
from dataclasses import asdict
from typing import Any

from ilm_lightning.engine.artifacts import Artifact, write_json
from ilm_lightning.engine.config import Config
from ilm_lightning.engine.results import log_results
from ilm_lightning.engine.stages.baselines import RANKS, filter_text, read_baselines, settings_of
from ilm_lightning.engine.stages.context import Context
from ilm_lightning.engine.stages.export import copy_file, copy_folder, copy_traces, run_facts
from ilm_lightning.engine.stages.recommend import objective
from ilm_lightning.engine.stages.tune import MODEL, Inputs, lm_name

RECOMMENDING = ("history", "soft_tokens", "user_vector", "head", "head_sample")
"""Settings of tasks that concern recommendation."""


def export(context: Context, inputs: Inputs, tuned: Artifact, ranked: Artifact, baselines: Artifact) -> float:
    """Fill the run folder and print the table; returns the objective of sweepers, HR@10."""
    from ilm_lightning.engine.screen import show_ranking

    folder = context.run_folder
    metrics = json.loads((ranked.path / "metrics.json").read_text(encoding="utf-8"))
    metrics["baselines"] = read_baselines(baselines)
    stages = (inputs.prepared, inputs.embedded, inputs.pretrained, tuned, ranked, baselines)
    made = [artifact for artifact in stages if artifact is not None]
    metrics["protocol"] = protocol(context, inputs)
    metrics["recipe"] = recipe(context)
    metrics["baseline_settings"] = settings_of(context.config)
    metrics["parameters"] = tuned.report["parameters"]
    metrics["counts"] = counts(inputs.prepared.report)
    metrics["run"] = run_facts(context, inputs, tuned, ranked)
    write_json(folder / "metrics.json", metrics)
    copy_file(ranked.path / "predictions.parquet", folder / "predictions.parquet")
    copy_file(baselines.path / RANKS, folder / RANKS)
    copy_traces(inputs, tuned, folder)
    log_results(context, metrics)
    copy_folder(tuned.path / MODEL, folder / MODEL)
    write_json(folder / "artifacts.json", {artifact.stage: artifact.id for artifact in made})
    show_ranking(metrics, folder)
    return objective(metrics)


def protocol(context: Context, inputs: Inputs) -> dict[str, Any]:
    """What stands beside each number."""
    config, evaluation = context.config, context.config.evaluation
    report = inputs.prepared.report
    free = evaluation.decoding == "free" and config.tasks.head == "text"
    return {
        "name": config.name,
        "data": data_text(config, report),
        "indexing": report["indexing"],
        "split": evaluation.split,
        "users": users_text(config, report),
        "candidates": "any text" if free else f"all {report['items']:,} items",
        "decoding": f"{_search(config)}, {filter_text(evaluation)}",
        "history": config.tasks.history,
        "soft_tokens": config.tasks.soft_tokens,
        "user_vector": config.tasks.user_vector,
        "language_model": lm_name(context.asset(config.lm.name)),
        "encoder": config.encoder.name,
        "tuning": config.tuning.mode,
        "seed": config.seed,
    }


def _search(config: Config) -> str:
    evaluation = config.evaluation
    if config.tasks.head == "item":
        sampled = (
            f", trained by a softmax over {config.tasks.head_sample} drawn items" if config.tasks.head_sample else ""
        )
        return f"item head (ours): all items ranked{sampled}"
    return f"{evaluation.decoding}, {evaluation.beams if evaluation.decoding == 'trie' else evaluation.top_k} beams"


def data_text(config: Config, report: dict[str, Any]) -> str:
    """The data set's name, marked where its file is no exact copy."""
    return config.data.name + (" (ties broken differently)" if report["reconstructed"] else "")


def users_text(config: Config, report: dict[str, Any]) -> str:
    """How many users are tested."""
    everybody = report["users"]
    return f"{min(config.evaluation.users or everybody, everybody):,} of {everybody:,}"


def recipe(context: Context) -> dict[str, Any]:
    """All settings that make a recommender, so that a table can name it from its numbers' file alone."""
    config = context.config
    described = json.loads((context.asset(config.lm.name).path / "config.json").read_text(encoding="utf-8"))
    made: dict[str, Any] = {
        "adapter": asdict(config.adapter),
        "tuning": asdict(config.tuning),
        "als": asdict(config.encoder.als),
    }
    if config.adapter.init == "pretrained":
        made["pretraining"] = asdict(config.pretraining)
    tasks = asdict(config.tasks)
    made["encoder_decoder"] = bool(described.get("is_encoder_decoder", False))
    return made | {"tasks": {key: tasks[key] for key in RECOMMENDING if key in tasks}}


def counts(report: dict[str, Any]) -> dict[str, int]:
    """What Table 5 counts."""
    return {key: value for key, value in report.items() if isinstance(value, int) and not isinstance(value, bool)}
