"""Lightning callbacks: progress lines, step-wise seeds, a history file."""

import csv
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

import lightning as pl
import torch
from lightning.pytorch.callbacks import Checkpoint
from tqdm import tqdm

from ilm_lightning.engine.checkpoints import write_checkpoint
from ilm_lightning.engine.interruptions import StoppedError, StopSignals
from ilm_lightning.engine.watch import step_loss
from ilm_lightning.hardware import give_memory_back
from ilm_lightning.progress import PLAIN_INTERVAL_S, clock
from ilm_lightning.ranks import anywhere, highest, is_main, own_part, rank

log = logging.getLogger("ilm_lightning")


class StepSeed(pl.Callback):
    """Seed every training step by (seed, step): a restarted run draws what an unbroken one would have drawn."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set torch's generators; ranks draw differently, rank 0 as one process would."""
        torch.manual_seed((self.seed * 1_000_003 + trainer.global_step + rank() * 2**40) % 2**63)


class FreedMemory(pl.Callback):
    """Hand freed memory back to the system between steps.

    Batches differ in size, and without this a process keeps growing over steps that each need no more.

    Args:
        every_s: least seconds between two times; one takes about a tenth of a second.
    """

    def __init__(self, every_s: float = 10.0) -> None:
        self.every_s = every_s
        self._last = -float("inf")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Do so if it is time."""
        if time.monotonic() - self._last >= self.every_s:
            give_memory_back()
            self._last = time.monotonic()


class LastCheckpoint(Checkpoint):
    """Save the state to resume from, every so many seconds, after each validation, and before a signal ends the fit.

    Args:
        path: the file, replaced as a whole.
        every_s: seconds between saves.
        val_every: steps between validations, None without. A step whose validation is still to come is not saved: a run
            resumed from there would go on without it.
        signals: those of this process.

    Raises:
        StoppedError: from a hook, once the state is saved.
    """

    def __init__(self, path: Path, every_s: float, val_every: int | None, signals: StopSignals | None = None) -> None:
        self.signals = signals or StopSignals()
        self.path = path
        self.every_s = every_s
        self.val_every = val_every
        self._saved = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock; take the signals back from Lightning, whose SIGTERM ends a fit without a checkpoint."""
        self.signals.install_again()
        self._saved = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save when the time has come, or a signal has."""
        if self.val_every is not None and trainer.global_step % self.val_every == 0:
            return
        # saving takes all processes, so one clock decides
        due = is_main() and time.monotonic() - self._saved >= self.every_s
        self._save_and_leave(trainer, highest(self._pending() or int(due)))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save with the validation's result."""
        if trainer.sanity_checking:
            return
        self._save_and_leave(trainer, highest(self._pending() or 1))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save a finished phase, which is not begun again after an interruption in a later one."""
        self._save(trainer)

    def _pending(self) -> int:
        """The signal that ends the fit, plus 1; 0 without."""
        return 0 if self.signals.pending is None else self.signals.pending + 1

    def _save_and_leave(self, trainer: pl.Trainer, word: int) -> None:
        """Save where the word, the same for all processes of a run, is above 0; above 1 it names the signal."""
        if word:
            self._save(trainer)
        if word > 1:
            # another process may have had the signal; Lightning turns what is raised here into a bare exit
            self.signals.pending = word - 1
            raise StoppedError(word - 1)

    def _save(self, trainer: pl.Trainer) -> None:
        # a finite loss can have gradients that are not; the state before them stays
        trained = [own_part(p) for p in trainer.lightning_module.parameters() if p.requires_grad]
        if anywhere(not all(bool(torch.isfinite(part).all()) for part in trained)):
            raise FloatingPointError("weights are not finite any more; lower the learning rate or tuning.gradient_clip")
        write_checkpoint(self.path, trainer.save_checkpoint, trainer.is_global_zero)
        self._saved = time.monotonic()

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Count the step that has just ended as completed; Lightning does so only after this hook."""
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        for part in ("total", "current"):
            progress[part]["completed"] = progress[part]["processed"]


class Progress(pl.Callback):
    """Step, loss, speed and time left: a bar on a terminal, a line every 15 s elsewhere."""

    def __init__(self, label: str, steps: int) -> None:
        self.label = label
        self.steps = steps
        self._bar: tqdm[Any] | None = None
        self._start = self._last = 0.0
        self._first = 0
        self._loss = float("nan")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._start = self._last = time.monotonic()
        self._first = trainer.global_step
        if sys.stderr.isatty():
            self._bar = tqdm(total=self.steps, initial=self._first, desc=self.label, dynamic_ncols=True, unit="step")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Show the running mean of the loss."""
        loss = step_loss(pl_module, outputs)
        self._loss = loss if self._loss != self._loss else 0.95 * self._loss + 0.05 * loss
        step, now = trainer.global_step, time.monotonic()
        if self._bar is not None:
            self._bar.update(1)
            self._bar.set_postfix(loss=f"{self._loss:.3f}", refresh=False)
        elif now - self._last >= PLAIN_INTERVAL_S:
            per_step = (now - self._start) / max(step - self._first, 1)
            left = clock(per_step * (self.steps - step))
            log.info(
                "%-9s step %d/%d  loss %.3f  %.2f s/step  %s left",
                self.label,
                step,
                self.steps,
                self._loss,
                per_step,
                left,
            )
            self._last = now

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()


class History(pl.Callback):
    """Append logged values to ``history.csv`` (step, seconds, name, value) and say validation losses on screen."""

    def __init__(self, path: Path, label: str, every: int) -> None:
        self.path = path
        self.label = label
        self.every = every
        self._start = time.monotonic()

    def _write(self, trainer: pl.Trainer, prefix: str) -> None:
        new = not self.path.exists() or not self.path.stat().st_size
        with self.path.open("a", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            if new:
                writer.writerow(["step", "seconds", "name", "value"])
            for name, value in sorted(trainer.callback_metrics.items()):
                if name.startswith(prefix):
                    writer.writerow([trainer.global_step, round(time.monotonic() - self._start, 1), name, float(value)])
            stream.flush()
            os.fsync(stream.fileno())

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget what a fit that was killed wrote after its last checkpoint: these steps are done again."""
        if not self.path.exists():
            return
        header, *lines = self.path.read_bytes().splitlines(keepends=True) or [b""]
        whole = [line for line in lines if line.endswith(b"\n") and line.count(b",") == header.count(b",")]
        kept = [line for line in whole if (s := line.split(b",")[0]).isdigit() and int(s) <= trainer.global_step]
        temporary = self.path.with_suffix(".new")
        temporary.write_bytes(b"".join([header, *kept]) if kept else b"")
        temporary.replace(self.path)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record training values every ``every`` steps."""
        if trainer.global_step % self.every == 0:
            self._write(trainer, "train/")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record and print validation values."""
        if trainer.sanity_checking:
            return
        self._write(trainer, "val/")
        values = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
        shown = "  ".join(f"{name} {value:.3f}" for name, value in sorted(values.items()))
        log.info("%-9s step %d/%d  %s", self.label, trainer.global_step, trainer.max_steps, shown)
