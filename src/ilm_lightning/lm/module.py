"""Phase 2 for Lightning: batch to loss to log."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import lightning as pl
import torch
from torch import Tensor, nn

from ilm_lightning.lm.batch import PromptBatch
from ilm_lightning.lm.distillation import ContextTeacher
from ilm_lightning.lm.model import ItemLanguageModel, LMOutput
from ilm_lightning.optimiser import adamw, clip_gradients, scheduled
from ilm_lightning.ranks import Means, anywhere, joint_mean, turn, world_size


@dataclass(frozen=True)
class OptimiserSettings:
    """AdamW with linear warm-up, then cosine to zero, per step.

    Attributes:
        steps: optimiser steps of the whole run.
        adapter_lr: peak learning rate of the adapter and the gain.
        lm_lr: peak learning rate of the language model's trained weights.
        warmup: share of the steps that warm up.
        weight_decay: decay of matrices; biases, norms and scalars have none.
    """

    steps: int
    adapter_lr: float = 1e-3
    lm_lr: float = 1e-4
    warmup: float = 0.05
    weight_decay: float = 0.05


def parameter_groups(model: nn.Module, settings: OptimiserSettings) -> list[dict[str, Any]]:
    """Group trained parameters by part of the model and by whether they decay."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((name.startswith("lm."), parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": settings.lm_lr if is_lm else settings.adapter_lr,
            "weight_decay": settings.weight_decay if decays else 0.0,
        }
        for (is_lm, decays), parameters in groups.items()
    ]


class ItemLanguageModule(pl.LightningModule):
    """Trains an ``ItemLanguageModel``; its checkpoints hold trained weights only.

    Args:
        model: the model.
        settings: the optimiser's settings.
        teacher: of context distillation, for batches that hold a context; it is no part of checkpoints.

    Attributes:
        step_loss: the last training step's loss as a number: read from the device once, for all who ask.
    """

    def __init__(
        self, model: ItemLanguageModel, settings: OptimiserSettings, teacher: ContextTeacher | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.settings = settings
        self.teacher = teacher
        self.step_loss: float | None = None
        self._means = Means()

    def training_step(self, batch: PromptBatch, batch_idx: int) -> Tensor:
        """Return the loss; log it.

        Raises:
            FloatingPointError: if the loss is not finite; it names the examples.
        """
        loss = self._loss(batch)
        self.step_loss = float(loss.detach())
        # together, or the other processes would wait for this one
        if anywhere(not math.isfinite(self.step_loss)):
            raise FloatingPointError(
                f"the loss is {self.step_loss} at step {self.global_step}, "
                f"examples {', '.join(batch.example_ids)}; lower the learning rate or look at their vectors"
            )
        self.log("train/loss", loss.detach(), batch_size=1, sync_dist=world_size() > 1)
        return loss

    def _loss(self, batch: PromptBatch) -> Tensor:
        """Cross-entropy of the targets and, with a teacher, the divergence from it; token weights apply to both."""
        # first the teacher: it switches LoRA's updates off and on again
        taught = None if self.teacher is None else self.teacher.read(self.model, batch)
        output: LMOutput = self.model(batch)
        loss = joint_mean(output.loss, output.weight())
        if self.teacher is None or (taught is None and world_size() == 1):
            return loss
        divergence, weight = loss.new_zeros(()), loss.new_zeros(())
        if taught is not None:
            assert batch.context is not None
            divergence = self.teacher.loss(self.model, batch, output, taught)
            weight = output.weight(batch.context.rows)
        divergence = joint_mean(divergence, weight)
        self.log("train/divergence", divergence.detach(), batch_size=1, sync_dist=world_size() > 1)
        return loss + self.teacher.weight * divergence

    def validation_step(self, batch: PromptBatch, batch_idx: int) -> None:
        """Sum up the losses of all target tokens, unweighted and without a teacher; ranks take turns."""
        runs, counts = turn(batch_idx, int(self.trainer.num_val_batches[0]))
        if runs:
            losses = self.model(batch).token_losses
            self._means.add("val/loss", losses.mean().item(), len(losses) * counts)

    def on_validation_epoch_end(self) -> None:
        """Log the mean loss over all target tokens, by which variants compare."""
        self.log_dict(self._means.take())

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by norm."""
        clip_gradients(optimizer, gradient_clip_val)

    def configure_optimizers(self) -> dict[str, Any]:
        """Return AdamW and its schedule."""
        settings = self.settings
        optimiser = adamw(parameter_groups(self.model, settings))
        return scheduled(optimiser, round(settings.warmup * settings.steps), settings.steps)

    def state_dict(self, *args: object, **kwargs: object) -> dict[str, Tensor]:
        """Return the weights that a checkpoint keeps, without the frozen language model."""
        return self.model.trainable_state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Tensor], strict: bool = True, assign: bool = False) -> None:
        """Load such weights; always strict, so that no weight stays behind unnoticed."""
        self.model.load_trainable_state_dict(state_dict)
