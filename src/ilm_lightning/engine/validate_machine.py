"""Checks of what a run needs of this machine: processes, devices, folders it can write."""

import tempfile
from pathlib import Path

from ilm_lightning.engine.checks import ConfigError, one_of, positive
from ilm_lightning.engine.config import Config
from ilm_lightning.engine.config_trainer import TrainerConfig
from ilm_lightning.hardware import usable_cores, visible_gpus


def check_machine(config: Config) -> None:
    """Raise where the machine cannot do what is asked.

    Args:
        config: the typed configuration.

    Raises:
        ConfigError: names the key and what to set instead.
    """
    trainer = config.trainer
    one_of("trainer.strategy", trainer.strategy, ("auto", "ddp"))
    positive(trainer__devices=trainer.devices, trainer__nodes=trainer.nodes)
    _devices(trainer)
    for key, size in (
        ("pretraining.batch_size", config.pretraining.batch_size),
        ("pretraining.pair_batch_size", config.pretraining.pair_batch_size),
        ("tuning.batch_size", config.tuning.batch_size),
    ):
        if 0 < size < trainer.devices * trainer.nodes:
            count = trainer.devices * trainer.nodes
            raise ConfigError(f"{key}={size} cannot be shared by {count} processes; raise it, or use fewer")
    check_writable("outputs", config.outputs)
    check_writable("artifacts", config.artifacts)


def _devices(trainer: TrainerConfig) -> None:
    """Compare the devices asked for with those that are there, as far as that can be told in no time."""
    gpus, cores = visible_gpus(), usable_cores()
    on_gpu = trainer.accelerator in ("gpu", "cuda") or (trainer.accelerator == "auto" and bool(gpus))
    if on_gpu and gpus is not None and trainer.devices > len(gpus):
        fix = f"set trainer.devices={len(gpus)}" if gpus else "set trainer.accelerator=cpu"
        raise ConfigError(f"trainer.devices={trainer.devices}: {len(gpus)} GPUs are visible here; {fix}")
    # two processes are allowed anywhere, to try things out
    if not on_gpu and trainer.devices > max(cores, 2):
        raise ConfigError(
            f"trainer.devices={trainer.devices}: each is a process here, and there are {cores} cores; "
            f"set trainer.devices={cores}"
        )


def check_writable(key: str, folder: str) -> None:
    """Refuse a folder that cannot be made or written, without leaving anything behind.

    Args:
        key: of the configuration.
        folder: its value.

    Raises:
        ConfigError: names both, and why.
    """
    path = Path(folder).absolute()
    nearest = next(place for place in (path, *path.parents) if place.exists())
    try:
        # permission bits say nothing to root, or on a read-only disk
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        reason = "it is a file" if nearest.is_file() else error.strerror
        raise ConfigError(f"{key}={folder} cannot be written: {nearest}: {reason}; choose another folder") from None
