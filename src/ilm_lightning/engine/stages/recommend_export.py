"""What a recommendation run leaves behind: metrics with their protocol, predictions, the portable model."""

import json
import shutil
from typing import Any

from ilm_lightning.engine.artifacts import Artifact, write_json
from ilm_lightning.engine.config import Config
from ilm_lightning.engine.stages.context import Context
from ilm_lightning.engine.stages.export import run_facts
from ilm_lightning.engine.stages.recommend import objective
from ilm_lightning.engine.stages.tune import MODEL, Inputs, lm_name


def export(context: Context, inputs: Inputs, tuned: Artifact, ranked: Artifact) -> float:
    """Fill the run folder and print the table; returns the objective of sweepers, HR@10."""
    from ilm_lightning.engine.screen import show_ranking

    folder = context.run_folder
    metrics = json.loads((ranked.path / "metrics.json").read_text(encoding="utf-8"))
    made = [a for a in (inputs.prepared, inputs.embedded, inputs.pretrained, tuned, ranked) if a is not None]
    metrics["protocol"] = protocol(context, inputs)
    metrics["run"] = run_facts(context, inputs, tuned, ranked)
    write_json(folder / "metrics.json", metrics)
    shutil.copyfile(ranked.path / "predictions.parquet", folder / "predictions.parquet")
    shutil.copytree(tuned.path / MODEL, folder / MODEL, dirs_exist_ok=True)
    write_json(folder / "artifacts.json", {artifact.stage: artifact.id for artifact in made})
    show_ranking(metrics, folder)
    return objective(metrics)


def protocol(context: Context, inputs: Inputs) -> dict[str, Any]:
    """What stands beside each number."""
    config, evaluation = context.config, context.config.evaluation
    report = inputs.prepared.report
    users = report["users"] if not evaluation.users else min(evaluation.users, report["users"])
    return {
        "name": config.name,
        "data": config.data.name + (" (ties broken differently)" if report["reconstructed"] else ""),
        "indexing": report["indexing"],
        "split": evaluation.split,
        "users": f"{users:,} of {report['users']:,}",
        "decoding": f"{_search(config)}, seen items {'filtered' if evaluation.filter_seen else 'not filtered'}",
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
