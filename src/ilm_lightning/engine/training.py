"""Fit a LightningModule for a number of steps, resume where it stopped, and return with its best validation weights."""

import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning as pl
import torch
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy

from ilm_lightning.engine.acceleration import accelerate
from ilm_lightning.engine.account import Account
from ilm_lightning.engine.artifacts import SCRATCH
from ilm_lightning.engine.callbacks import FreedMemory, History, LastCheckpoint, Progress, StepSeed
from ilm_lightning.engine.checkpoints import BEST, LAST, BestCheckpoint, checkpoint_bytes, resume_from
from ilm_lightning.engine.config_trainer import TrainerConfig
from ilm_lightning.engine.datamodule import StreamDataModule
from ilm_lightning.engine.interruptions import active_signals
from ilm_lightning.engine.samples import Panel, Samples
from ilm_lightning.engine.storage import need_space
from ilm_lightning.engine.tracking import Tracker
from ilm_lightning.engine.vitals import Vitals
from ilm_lightning.engine.watch import LossWatch, memory_advice
from ilm_lightning.lm.module import ItemLanguageModule
from ilm_lightning.ranks import from_main, is_main, meet, world_size

log = logging.getLogger("ilm_lightning")


@dataclass(frozen=True)
class FitSettings:
    """How long and how often; steps are optimiser steps."""

    label: str
    steps: int
    val_every: int
    seed: int
    gradient_clip: float | None = 1.0
    checkpoint_every_s: float = 120.0
    monitor: str = "val/loss"
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Settings to lower where memory does not suffice, with their values."""


def precision_of(config: TrainerConfig) -> str:
    """Resolve ``precision=auto``: bf16 autocast where processor or GPU gain from it, else fp32."""
    from ilm_lightning.hardware import cpu_bf16

    if config.precision != "auto":
        return config.precision
    on_gpu = config.accelerator != "cpu" and torch.cuda.is_available()
    fast = torch.cuda.is_bf16_supported() if on_gpu else cpu_bf16()
    return "bf16-mixed" if fast else "32-true"


def training_device(config: TrainerConfig) -> torch.device:
    """Where training will run: the GPU where there is one and it was not refused."""
    return torch.device("cuda" if config.accelerator != "cpu" and torch.cuda.is_available() else "cpu")


def quiet_lightning() -> None:
    """Keep Lightning's advice on loaders and loggers out of the user's sight; errors and our own lines stay."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\..*")
    warnings.filterwarnings("ignore", message=r".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=r".*broadcast_buffers. is deprecated.*")


def validation_interval(steps: int, wish: int) -> int:
    """Steps between validations: near the wish, and such that one follows the last step.

    >>> [validation_interval(steps, 150) for steps in (450, 500, 7)]
    [150, 125, 7]
    """
    divisors = [n for n in range(1, steps + 1) if steps % n == 0]
    near = [n for n in divisors if n >= wish / 2] or divisors[-1:]
    return min(near, key=lambda n: abs(n - wish))


def _interval(settings: FitSettings) -> int:
    """``validation_interval`` of a phase, told where it is far from the wish."""
    interval = validation_interval(settings.steps, settings.val_every)
    if not 2 / 3 <= interval / min(settings.val_every, settings.steps) <= 1.5:
        why = f"validates every {interval} steps, not every {settings.val_every}: {settings.steps} are whole intervals"
        log.info("%-9s %s", settings.label, why)
    return interval


def fit(
    module: pl.LightningModule,
    data: StreamDataModule,
    settings: FitSettings,
    trainer_config: TrainerConfig,
    work: Path,
    tracker: Tracker | None = None,
    panel: Panel | None = None,
) -> dict[str, float]:
    """Train; on a second call on the same folder continue from the last checkpoint.

    Args:
        module: wired model; its checkpoint holds trainable weights only.
        data: training batches by step, validation batches.
        settings: budget.
        trainer_config: hardware.
        work: the stage's unfinished folder; checkpoints go to its ``checkpoints`` sub folder, ``history.csv`` beside.
        tracker: opens loggers beside the CSV files; None for none.
        panel: validation examples that are answered after each validation; None for none.

    Returns:
        ``{"best_step", "best_val_loss", "steps", "train_seconds", "train_flops"}``; the module holds the best
        validation weights.

    Raises:
        KeyboardInterrupt: a signal ended the fit; its state was saved.
        FloatingPointError: a loss or a weight is not a number any more; names phase, step and the file with the batch.
        ShortOfMemoryError: names the setting to lower.
    """
    quiet_lightning()
    if isinstance(model := getattr(module, "model", None), torch.nn.Module):
        accelerate(model, trainer_config)
    # all processes read and the first writes one folder
    work = Path(from_main(str(work)))
    folder = work / SCRATCH / settings.label
    folder.mkdir(parents=True, exist_ok=True)
    interval = _interval(settings) if len(data.validation) > 0 else None
    best = None if interval is None else BestCheckpoint(folder, settings.monitor)
    need_space(folder, checkpoint_bytes(module), f"phase {settings.label} with its checkpoints")
    signals = active_signals()
    last = LastCheckpoint(folder / LAST, settings.checkpoint_every_s, interval, signals)
    account, watch = Account(settings.steps), LossWatch(settings.label, folder)
    every = min(trainer_config.log_every, max(1, settings.steps // 5))
    # in this order, so that the last state knows the best one
    saved = [account, watch, *([] if best is None else [best]), last]
    answered = None if shared_out(trainer_config) else panel
    callbacks = [
        StepSeed(settings.seed),
        FreedMemory(),
        Vitals(every),
        *_shown(settings, folder, every, answered),
        *saved,
    ]
    loggers = [] if tracker is None else tracker.open(folder)
    told: dict[str, Any] = {"callbacks": callbacks, "logger": loggers or False, "log_every_n_steps": every}
    shared = sharing(trainer_config, module, settings.gradient_clip)
    trainer = _trainer(settings, trainer_config, interval, folder, **told, **shared)
    ended = False
    try:
        _run(trainer, module, data, folder, settings, watch)
        ended = True
    except FloatingPointError:
        account.keep(folder)
        raise
    finally:
        if tracker is not None:
            tracker.close(loggers, folder, ended)
    signals.check()
    # a later phase of the stage may diverge
    account.keep(folder)
    return _finish(module, trainer, best, work, settings) | account.report() | watch.report()


def _shown(settings: FitSettings, folder: Path, every: int, panel: Panel | None) -> list[pl.Callback]:
    """What a user sees of a fit, and its history; the main process alone shows it."""
    if not is_main():
        return []
    # before the history, which writes what it logs
    samples = [] if panel is None else [Samples(panel)]
    return [
        *samples,
        Progress(settings.label, settings.steps),
        History(folder / "history.csv", settings.label, every),
    ]


def _trainer(
    settings: FitSettings, config: TrainerConfig, interval: int | None, folder: Path, **more: Any
) -> pl.Trainer:
    """Lightning's trainer: counts in steps, validates every ``interval`` of them, None for never."""
    return pl.Trainer(
        accelerator=config.accelerator,
        devices=config.devices,
        num_nodes=config.nodes,
        use_distributed_sampler=False,
        precision=precision_of(config),
        max_steps=settings.steps,
        max_epochs=-1,
        val_check_interval=interval,
        check_val_every_n_epoch=None,
        limit_val_batches=0 if interval is None else 1.0,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **more,
    )


def _run(
    trainer: pl.Trainer,
    module: pl.LightningModule,
    data: StreamDataModule,
    folder: Path,
    settings: FitSettings,
    watch: LossWatch,
) -> None:
    """Fit from the last checkpoint on where there is one; what ends it early is told in our terms."""
    found = resume_from(folder)
    if found is not None:
        log.info("%-9s continues from step %d of %d", settings.label, found[1], settings.steps)
    signals = active_signals()
    try:
        with signals.saving_first(), memory_advice(settings.label, settings.sizes):
            trainer.fit(module, datamodule=data, ckpt_path=str(found[0]) if found else None, weights_only=True)
    except SystemExit:
        # Lightning turns Ctrl-C into an exit; callers want to know which it was
        signals.check()
        raise KeyboardInterrupt from None
    except ArithmeticError as error:
        raise watch.told(error, trainer.global_step) from error


def shared_out(config: TrainerConfig) -> bool:
    """Whether no process may hold the whole model, so that none can answer alone."""
    return config.strategy == "fsdp" and world_size() > 1


def sharing(config: TrainerConfig, module: pl.LightningModule, clip: float | None) -> dict[str, Any]:
    """How processes share the work, as arguments of a trainer; Lightning's own choice with one process.

    Args:
        config: hardware.
        module: what is trained; only a language model that is trained whole is large enough to be shared out.
        clip: highest norm of the gradients.
    """
    if world_size() == 1:
        return {"gradient_clip_val": clip}
    # the processes are there already, whatever cluster this is
    plugins = [LightningEnvironment()]
    if config.strategy == "fsdp" and isinstance(module, ItemLanguageModule) and module.model.tuning == "full":
        from ilm_lightning.engine.sharding import ShardedStrategy

        # gathered weights must stay ordinary tensors
        return {"strategy": ShardedStrategy(clip), "plugins": plugins, "inference_mode": False}
    # phase 1's batches take turns in what they use; vectors are buffers, equal everywhere
    strategy = DDPStrategy(find_unused_parameters=True, broadcast_buffers=False)
    return {"strategy": strategy, "plugins": plugins, "gradient_clip_val": clip}


def _finish(
    module: pl.LightningModule, trainer: pl.Trainer, best: BestCheckpoint | None, work: Path, settings: FitSettings
) -> dict[str, float]:
    for name in ("history", "samples"):
        kept = work / SCRATCH / settings.label / f"{name}.csv"
        if is_main() and kept.is_file():
            (work / f"{name}-{settings.label}.csv").write_bytes(kept.read_bytes())
    report: dict[str, float] = {"steps": trainer.global_step}
    chosen = BEST if best is not None and best.best_model_path else LAST
    path = work / SCRATCH / settings.label / chosen
    checkpoint = torch.load(path, weights_only=True, map_location="cpu")
    module.load_state_dict(checkpoint["state_dict"], strict=False)
    # the first process goes on to delete the checkpoints: not before all have read them
    meet()
    if best is not None and chosen == BEST:
        report |= {
            "best_step": checkpoint["global_step"],
            "best_val_loss": float(best.best_model_score or float("nan")),
        }
    return report
