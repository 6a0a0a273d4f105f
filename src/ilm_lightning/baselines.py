"""HR and NDCG of recommenders without a language model: ``python -m ilm_lightning.baselines data=openp5_beauty``."""

import os
import shlex
import shutil
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig

from ilm_lightning.engine.checks import ConfigError
from ilm_lightning.engine.command import hydra_command
from ilm_lightning.engine.config import Config
from ilm_lightning.engine.validate_openp5 import check_ranking
from ilm_lightning.reporting.text import redact

if TYPE_CHECKING:
    from ilm_lightning.engine.artifacts import Artifact


def run(config: Config) -> float:
    """Rank every user's held-out item with each baseline and leave the numbers in a run folder.

    Args:
        config: the composed configuration; language model, adapter and prompts are not used.

    Returns:
        HR@10 of the best baseline.

    Raises:
        ConfigError: data without sequences.
    """
    if config.data.kind != "openp5":
        raise ConfigError(
            f"data.kind={config.data.kind}: baselines rank held-out items of sequences; give data=openp5_… or "
            "data=openp5 data.path=FOLDER data.name=NAME"
        )
    check_ranking(config)
    if not config.evaluation.baselines:
        raise ConfigError("evaluation.baselines is empty: nothing would be ranked; leave it out for all")
    # nothing is ranked by text
    config = replace(config, name="baselines", encoder=replace(config.encoder, name="behavioral"))

    from ilm_lightning.engine.artifacts import write_json
    from ilm_lightning.engine.pipeline import open_context, set_threads
    from ilm_lightning.engine.runs import write_status
    from ilm_lightning.engine.screen import show_ranking
    from ilm_lightning.engine.stages.baselines import RANKS, rank_baselines, read_baselines, settings_of
    from ilm_lightning.engine.stages.data import prepare
    from ilm_lightning.engine.stages.embed import embed
    from ilm_lightning.engine.stages.recommend_export import counts

    set_threads(config)
    context = open_context(config)
    prepared = prepare(context)
    embedded = embed(context, prepared)
    ranked = rank_baselines(context, prepared, embedded)
    metrics: dict[str, Any] = {
        "ranking": {},
        "baselines": read_baselines(ranked),
        "protocol": _protocol(config, prepared.report),
        "baseline_settings": settings_of(config),
        "counts": counts(prepared.report),
        "run": _facts(prepared, embedded, ranked),
    }
    write_json(context.run_folder / "metrics.json", metrics)
    shutil.copyfile(ranked.path / RANKS, context.run_folder / RANKS)
    best = max(float(row["hr"]["10"]) for row in metrics["baselines"].values())
    write_status(context.run_folder, "finished", objective=best)
    show_ranking(metrics, context.run_folder)
    return best


def _protocol(config: Config, report: dict[str, Any]) -> dict[str, Any]:
    from ilm_lightning.engine.stages.baselines import filter_text, settings_of
    from ilm_lightning.engine.stages.recommend_export import data_text, users_text

    evaluation = config.evaluation
    return {
        "name": config.name,
        "data": data_text(config, report),
        "split": evaluation.split,
        "users": users_text(config, report),
        "candidates": f"all {report['items']:,} items",
        "decoding": f"whole catalogue scored, {filter_text(evaluation)}",
        **{
            name: ", ".join(f"{key} {value}" for key, value in settings.items() if value not in (None, ""))
            for name, settings in settings_of(config).items()
        },
        "seed": config.seed,
    }


def _facts(prepared: "Artifact", embedded: "Artifact", ranked: "Artifact") -> dict[str, Any]:
    from ilm_lightning.engine.artifacts import code_version
    from ilm_lightning.engine.hardware_report import hardware_report

    # of a sweep this configuration's own
    made = (prepared, embedded, ranked)
    words = list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else sys.argv[1:]
    return {
        "artifacts": [artifact.id for artifact in made],
        "seconds": {artifact.stage: artifact.manifest["seconds"] for artifact in made} | embedded.report["seconds"],
        "versions": code_version(),
        "hardware": hardware_report(),
        "command": redact(
            os.environ.get("ILM_COMMAND", shlex.join(["python", "-m", "ilm_lightning.baselines", *words]))
        ),
    }


def main() -> None:
    """Entry point."""
    sys.exit(hydra_command("train", run, in_turn=True))


if __name__ == "__main__":
    main()
