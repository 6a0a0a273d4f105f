"""Lightning wiring of phase 1."""

from __future__ import annotations

import logging
import math
from typing import Any

import lightning as pl
import torch
from torch import Tensor, nn

from ilm_lightning.optimiser import adamw, clip_gradients, scheduled
from ilm_lightning.pretraining.batches import Batch, PairBatch
from ilm_lightning.pretraining.model import PretrainingModel
from ilm_lightning.pretraining.pairs import Ints, TextPairs
from ilm_lightning.pretraining.priors import nothing_learned
from ilm_lightning.pretraining.retrieval import bag_retrieval, retrieval
from ilm_lightning.ranks import Means, anywhere, rank, world_size

log = logging.getLogger("ilm_lightning")


class NonFiniteLossError(ArithmeticError):
    """A loss became infinite or not a number."""


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters for AdamW: biases, norms and other tensors of at most one dimension do not decay."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


class PretrainingModule(pl.LightningModule):
    """Batches of `PairBatches` and `EvaluationBatches` through a `PretrainingModel`.

    Logs every term under `train/` and `val/`; `val/loss` is the weighted sum of the held-out losses.

    Args:
        model: to train.
        total_steps: length of the learning-rate schedule.
        learning_rate: its peak.
        warmup_steps: of the schedule.
        weight_decay: of AdamW.
        seed: of the draws in validation; those in training follow torch's generator, to be seeded by step.
        held_out: item-text pairs for retrieval after each validation.
        vocabulary: LLM token ids of the grounding vocabulary, for retrieval through VG.

    Attributes:
        step_loss: the last training step's loss as a number: read from the device once, for all who ask.
    """

    def __init__(
        self,
        model: PretrainingModel,
        total_steps: int,
        learning_rate: float = 1e-4,
        warmup_steps: int = 50,
        weight_decay: float = 0.05,
        seed: int = 0,
        held_out: TextPairs | None = None,
        vocabulary: Ints | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters("total_steps", "learning_rate", "warmup_steps", "weight_decay", "seed")
        self.model, self.held_out, self.vocabulary = model, held_out, vocabulary
        self.step_loss: float | None = None
        self._means = Means()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Weighted sum of the batch's losses; stops on a loss that is not a number."""
        terms = self.model(batch)
        total = self.model.total(terms)
        self.step_loss = float(total.detach())
        # together, or the other processes would wait for this one
        if anywhere(not math.isfinite(self.step_loss)):
            ids = batch.left if isinstance(batch, PairBatch) else batch.items
            values = ", ".join(f"{name}={value.item():.4g}" for name, value in terms.items())
            raise NonFiniteLossError(
                f"phase 1, batch {batch.step}: a loss is not finite ({values}); rows {ids.tolist()}; "
                "lower pretraining.lr, or look at these rows' vectors"
            )
        terms = {"loss": total, **terms}
        shared = world_size() > 1
        self.log_dict({f"train/{k}": v.detach() for k, v in terms.items()}, batch_size=1, sync_dist=shared)
        return total

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Sum up the held-out terms, each weighted by the pairs it was taken over; ranks take turns."""
        if batch_idx % world_size() != rank():
            return
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(self.hparams["seed"] * 1_000_003 + batch_idx)
            terms = self.model(batch)
        size = len(batch.left if isinstance(batch, PairBatch) else batch.items)
        values = {name: value.item() for name, value in terms.items()}
        if "itc" in values:
            # what equal similarities give
            values["itc_prior"] = math.log(size)
        for name, value in values.items():
            self._means.add(name, value, size)

    def on_validation_epoch_end(self) -> None:
        """Log held-out means, their weighted sum and retrieval; warn of a loss that learned nothing."""
        means = self._means.take()
        if not means:
            return
        values = {f"val/{name}": value for name, value in means.items()}
        values["val/loss"] = float(self.model.total({name: torch.tensor(value) for name, value in means.items()}))
        if self.held_out is not None and "itc" in self.model.settings.losses:
            values |= {f"val/text_{name}": value for name, value in retrieval(self.model, self.held_out).items()}
        if self.held_out is not None and self.vocabulary is not None and "vg" in self.model.settings.losses:
            found = bag_retrieval(self.model, self.held_out, self.vocabulary)
            values |= {f"val/bag_{name}": value for name, value in found.items()}
        self.log_dict(values)
        for name, rest in nothing_learned(means, self.model.settings).items() if self.global_step else ():
            message = (
                "%s is %.4f, its prior alone gives %.4f: nothing learned so far; train longer or change pretraining.lr"
            )
            log.warning(message, name.upper(), means[name], rest)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by norm."""
        clip_gradients(optimizer, gradient_clip_val)

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW with warm-up and cosine, by step."""
        settings = self.hparams
        groups = parameter_groups(self.model, settings["weight_decay"])
        optimizer = adamw(groups, settings["learning_rate"])
        return scheduled(optimizer, settings["warmup_steps"], settings["total_steps"])
