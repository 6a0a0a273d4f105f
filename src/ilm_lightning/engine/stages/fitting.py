"""Settings of phase 2 as optimiser and training loop take them, and what of a model each part of a run trains."""

from typing import TYPE_CHECKING, Any

from ilm_lightning.engine.config import Config, TuningConfig

if TYPE_CHECKING:
    from ilm_lightning.engine.training import FitSettings
    from ilm_lightning.lm.module import OptimiserSettings


def optimiser_settings(tuning: TuningConfig, steps: int) -> "OptimiserSettings":
    """AdamW and its schedule over so many steps."""
    from ilm_lightning.lm.module import OptimiserSettings

    warmup = min(1.0, tuning.warmup_steps / steps)
    return OptimiserSettings(steps, tuning.adapter_lr, tuning.lm_lr, warmup, tuning.weight_decay)


def fit_settings(config: Config, label: str, steps: int) -> "FitSettings":
    """How long a part of phase 2 trains, and how often its state is looked at."""
    from ilm_lightning.engine.training import FitSettings

    tuning = config.tuning
    in_use = {"tuning.batch_size": tuning.batch_size}
    clip, every = tuning.gradient_clip, tuning.checkpoint_every_s
    return FitSettings(label, steps, tuning.val_every, config.seed, clip, every, sizes=in_use)


def phases(share: float, steps: int, mode: str) -> list[tuple[str, int, str]]:
    """Label, steps and tuning mode of each part: a share of the steps may train the adapter alone first (ELM).

    >>> phases(0.25, 8, "full")
    [('adapter', 2, 'frozen'), ('tune', 6, 'full')]
    """
    first = round(share * steps)
    parts = [("adapter", first, "frozen"), ("tune", steps - first, mode)]
    return [part for part in parts if part[1] > 0]


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
