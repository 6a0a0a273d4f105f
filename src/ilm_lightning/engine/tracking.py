"""Weights & Biases, only where it was asked for."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from ilm_lightning.engine.config import Config


def wandb_logger(config: Config, run_folder: Path, stage: str) -> Any:
    """Lightning's W&B logger: group = row of the table, tags = its axes.

    Args:
        config: the run.
        run_folder: where offline files go.
        stage: pretrain, adapter or tune.

    Returns:
        The logger.

    Raises:
        ValueError: wandb is not installed.
    """
    try:
        import wandb  # noqa: F401
    except ImportError as error:
        raise ValueError("logger=wandb needs the wandb package: pip install 'ilm-lightning[wandb]'") from error
    from lightning.pytorch.loggers import WandbLogger

    tags = [f"encoder={config.encoder.name}", f"adapter={config.adapter.kind}", f"tuning={config.tuning.mode}"]
    return WandbLogger(
        project=config.logger.project,
        name=f"{config.name}-{stage}-seed{config.seed}",
        group=config.name,
        job_type=stage,
        tags=[*tags, f"queries={config.adapter.num_queries}"],
        save_dir=run_folder,
        offline=config.logger.offline,
        config=asdict(config),
    )
