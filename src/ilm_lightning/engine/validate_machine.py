"""Checks of what a run needs of this machine: processes, devices, folders it can write."""

import importlib.util
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ilm_lightning.engine.checks import ConfigError, one_of, positive
from ilm_lightning.engine.config import Config
from ilm_lightning.engine.config_trainer import TrainerConfig
from ilm_lightning.hardware import usable_cores, visible_gpus

PLUGINS = {
    "hydra/launcher=slurm": ("hydra_submitit_launcher", "slurm"),
    "hydra/launcher=ray_tasks": ("hydra_ray_launcher", "ray"),
    "hydra/sweeper=search": ("hydra_optuna_sweeper", "optuna"),
}
"""What elsewhere than on this machine starts jobs, or searches settings: the plugin that it needs, and our extra."""
SEARCHED_ON = "evaluation.split=validation"
COMPILED = ("adapter", "text", "lm")
"""Parts that ``trainer.compile`` may name."""


def check_machine(config: Config) -> None:
    """Raise where the machine cannot do what is asked.

    Args:
        config: the typed configuration.

    Raises:
        ConfigError: names the key and what to set instead.
    """
    trainer = config.trainer
    one_of("trainer.strategy", trainer.strategy, ("auto", "ddp", "fsdp"))
    for part in trainer.compile:
        one_of("trainer.compile", part, COMPILED)
    positive(trainer__devices=trainer.devices, trainer__nodes=trainer.nodes)
    check_devices(trainer)
    _sharding(config)
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


def check_plugins(arguments: Sequence[str]) -> None:
    """Refuse a launcher or sweeper that is not installed, before Hydra looks for it.

    Args:
        arguments: the command line.

    Raises:
        ConfigError: says how to get it.
    """
    for choice, (plugin, extra) in PLUGINS.items():
        if choice not in arguments:
            continue
        if importlib.util.find_spec(f"hydra_plugins.{plugin}") is None:
            raise ConfigError(f"{choice} needs a plugin of Hydra: pip install 'ilm-lightning[{extra}]'")
        if extra == "slurm" and shutil.which("srun") is None:
            raise ConfigError(f"{choice} submits with SLURM's own commands, and there is no srun here")
        if extra == "optuna" and SEARCHED_ON not in arguments:
            raise ConfigError(f"{choice} would choose settings on the very movies that test them: add {SEARCHED_ON}")


def check_devices(trainer: TrainerConfig) -> None:
    """Compare the devices asked for with those that are there, as far as that can be told in no time.

    Raises:
        ConfigError: there are fewer; says how many.
    """
    gpus, cores = visible_gpus(), usable_cores()
    on_gpu = trainer.accelerator in ("gpu", "cuda") or (trainer.accelerator == "auto" and bool(gpus))
    if on_gpu and gpus is not None and trainer.devices > len(gpus):
        if not gpus:
            raise ConfigError(
                f"trainer.accelerator={trainer.accelerator}: no GPU is visible here; set trainer.accelerator=cpu"
            )
        there = "1 GPU is" if len(gpus) == 1 else f"{len(gpus)} GPUs are"
        raise ConfigError(f"trainer.devices={trainer.devices}: {there} visible here; set trainer.devices={len(gpus)}")
    # two processes are allowed anywhere, to try things out
    if not on_gpu and trainer.devices > max(cores, 2):
        unseen = "no GPU is visible here; on the CPU " if trainer.accelerator == "auto" else ""
        raise ConfigError(
            f"trainer.devices={trainer.devices}: {unseen}each is a process, and there are {cores} cores here; "
            f"set trainer.devices={cores}"
        )


def _sharding(config: Config) -> None:
    """Refuse what cannot be shared out between processes."""
    if config.trainer.strategy != "fsdp":
        return
    if config.tuning.mode != "full":
        raise ConfigError(
            f"trainer.strategy=fsdp shares out a language model that is trained whole, but tuning.mode="
            f"{config.tuning.mode}: set tuning=full, or trainer=ddp"
        )
    if config.trainer.precision not in ("auto", "32-true", "bf16-mixed"):
        raise ConfigError(
            f"trainer.strategy=fsdp with trainer.precision={config.trainer.precision}: take bf16-mixed or 32-true"
        )
    if config.tasks.kind == "openp5" and config.tasks.head == "item":
        raise ConfigError("tasks.head=item reads the language model outside its one forward pass: set trainer=ddp")
    if config.tuning.distillation_weight:
        raise ConfigError(
            "tuning.distillation_weight needs an untrained copy of the language model in every process, which "
            "trainer.strategy=fsdp is there to avoid: leave it out, or set trainer=ddp"
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
