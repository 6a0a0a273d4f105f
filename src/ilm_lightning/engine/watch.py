"""Watches a fit: losses that are no numbers, losses that do not move, memory that does not suffice."""

import logging
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as pl
import torch
from torch import Tensor

from ilm_lightning.engine.artifacts import write_json
from ilm_lightning.ranks import anywhere, is_main, rank

log = logging.getLogger("ilm_lightning")
NOT_FINITE = "not-finite.json"
KEPT_LOSSES = 20
LEAST_LOSSES = 20
"""Fewer losses say nothing about a trend."""
NO_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory")


class ShortOfMemoryError(RuntimeError):
    """The machine's memory, or the GPU's, does not suffice; the message names the setting to lower."""


@contextmanager
def memory_advice(label: str, sizes: Mapping[str, int]) -> Iterator[None]:
    """Turn a lack of memory in this block into advice.

    Args:
        label: what is being done.
        sizes: settings that could be lower, with the values in use.

    Raises:
        ShortOfMemoryError: memory did not suffice.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        lacking = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not lacking and not any(words in str(error).lower() for words in NO_MEMORY):
            raise
        wishes = " or ".join(f"{key} (now {value})" for key, value in sizes.items()) or "the batch size"
        cause = (str(error).splitlines() or ["MemoryError"])[0][:200]
        raise ShortOfMemoryError(f"{label}: out of memory; lower {wishes}. The cause: {cause}") from error


def movement(losses: Sequence[float]) -> tuple[float, float, float] | None:
    """How training losses have moved.

    Args:
        losses: one a step.

    Returns:
        Means over the first tenth and over the second half, and twice the standard error of their difference, by the
        spread within the second half; None where there are too few losses.

    >>> first, second, noise = movement([4.0, 2.0] * 10)
    >>> first, second, round(noise, 3)
    (3.0, 3.0, 1.549)
    """
    if len(losses) < LEAST_LOSSES:
        return None
    first, second = losses[: len(losses) // 10], losses[len(losses) // 2 :]
    noise = 2 * statistics.pstdev(second) * math.sqrt(1 / len(first) + 1 / len(second))
    return statistics.fmean(first), statistics.fmean(second), noise


def step_loss(module: pl.LightningModule, outputs: Any) -> float:
    """The loss of the step that has just ended, as a number.

    A GPU's host waits for each value that it reads: a module that has read the loss keeps it as ``step_loss``.

    Args:
        module: being trained.
        outputs: of its training step, as Lightning hands them to callbacks.
    """
    known = getattr(module, "step_loss", None)
    return float(outputs["loss"] if isinstance(outputs, dict) else outputs) if known is None else float(known)


class LossWatch(pl.Callback):
    """Stops before a loss that is no number changes a weight, and tells at the end whether losses fell.

    Args:
        label: of the phase.
        folder: of its checkpoints.
    """

    def __init__(self, label: str, folder: Path) -> None:
        self.label = label
        self.folder = folder
        self.losses: dict[str, list[float]] = {}
        self._batch: Any = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Remember what is being read."""
        self._batch = batch

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Refuse a loss that is no number, on all processes of a run together, unless the module has looked itself."""
        if getattr(pl_module, "step_loss", None) is not None:
            return
        fine = bool(torch.isfinite(loss).all())
        if anywhere(not fine):
            raise FloatingPointError(
                "another process's loss is no number" if fine else f"the loss is {float(loss.detach())}"
            )

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the loss, apart for each kind of batch: their sizes differ."""
        loss = step_loss(pl_module, outputs)
        self.losses.setdefault(getattr(batch, "kind", "all"), []).append(loss)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Write down the batch whose loss was no number."""
        if not isinstance(exception, ArithmeticError):
            return
        last = {kind: losses[-KEPT_LOSSES:] for kind, losses in self.losses.items()}
        facts = {"phase": self.label, "step": trainer.global_step, "error": str(exception)}
        name = NOT_FINITE if is_main() else f"rank{rank()}-{NOT_FINITE}"
        write_json(self.folder / name, {**facts, "batch": batch_ids(self._batch), "last_losses": last})

    def told(self, error: ArithmeticError, step: int) -> FloatingPointError:
        """The error with where it happened and what was kept."""
        return FloatingPointError(
            f"{self.label}, step {step}: {error}. The batch's examples and the last losses are in "
            f"{self.folder / NOT_FINITE}; the last checkpoint stays"
        )

    def state_dict(self) -> dict[str, Any]:
        """The losses so far."""
        return {"losses": self.losses}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a checkpoint's losses."""
        self.losses = {kind: list(losses) for kind, losses in state_dict["losses"].items()}

    def report(self) -> dict[str, float]:
        """``loss_moved``: whether the loss of any kind of batch fell; without an entry where steps are too few."""
        moves = {kind: move for kind, losses in self.losses.items() if (move := movement(losses)) is not None}
        if not moves:
            return {}
        moved = any(first - second > noise for first, second, noise in moves.values())
        if not moved:
            kinds = "; ".join(f"{kind} {a:.4g} to {b:.4g}, noise {noise:.2g}" for kind, (a, b, noise) in moves.items())
            log.warning("%-9s the training loss did not move (first tenth to second half: %s)", self.label, kinds)
        return {"loss_moved": moved}


def batch_ids(batch: Any) -> dict[str, list[Any]]:
    """Names of a batch's examples, or the rows of its items and users."""
    found = {name: getattr(batch, name) for name in ("example_ids", "items", "left", "right") if hasattr(batch, name)}
    return {name: value.tolist() if isinstance(value, Tensor) else list(value) for name, value in found.items()}
