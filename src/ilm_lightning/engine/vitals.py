"""What training does to weights and machine, logged beside the losses: gradients, learning rates, speed, memory."""

import time
from typing import Any

import lightning as pl
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn.utils import get_total_norm

from ilm_lightning.hardware import peak_memory

LM = "lm"
ADAPTER = "adapter"


def part_of(name: str) -> str:
    """Which part of the model a parameter belongs to: the language model, or what is trained around it.

    >>> part_of("model.lm.layers.0.q_proj.weight"), part_of("model.adapter.queries"), part_of("model.gain")
    ('lm', 'adapter', 'adapter')
    """
    return LM if name.removeprefix("model.").partition(".")[0] == LM else ADAPTER


class Vitals(pl.Callback):
    """Logs every so many steps, to ``history.csv`` and every logger.

    ``train/gradient_norm`` (before clipping; of each part too), ``train/lr_adapter`` and ``train/lr_lm`` (of the step),
    ``train/items_per_second`` (examples or pairs) and ``train/tokens_per_second`` since the last entry, validation and
    checkpoints left out, ``train/memory_gib`` and ``train/gpu_memory_gib`` (peaks of this process).

    Args:
        every: steps between entries.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self._began = self._seconds = 0.0
        self._items = self._tokens = 0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start the clock."""
        self._began = time.perf_counter()

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Log norms and rates."""
        if (trainer.global_step + 1) % self.every:
            return
        gradients: dict[str, list[Tensor]] = {}
        owners: dict[int, str] = {}
        for name, parameter in pl_module.named_parameters():
            owners[id(parameter)] = part_of(name)
            if parameter.grad is not None:
                gradients.setdefault(owners[id(parameter)], []).append(parameter.grad)
        norms = {part: _whole(get_total_norm(found)) for part, found in gradients.items()}
        values = {f"gradient_norm_{part}": norm for part, norm in norms.items()}
        if norms:
            values["gradient_norm"] = torch.stack([norm.cpu() for norm in norms.values()]).norm()
        rates = {f"lr_{owners[id(group['params'][0])]}": group["lr"] for group in optimizer.param_groups}
        _log(pl_module, {**values, **rates})

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count, and log speed and memory."""
        self._seconds += time.perf_counter() - self._began
        # processes go in step; in phase 1 each reads the joint batch, in phase 2 its share
        shares = 1 if getattr(batch, "joint", False) else trainer.world_size
        self._items += shares * len(batch)
        self._tokens += shares * getattr(batch, "n_tokens", 0)
        if trainer.global_step % self.every:
            return
        per_second = 1 / max(self._seconds, 1e-9)
        values = {"items_per_second": self._items * per_second, "memory_gib": peak_memory()}
        if self._tokens:
            values["tokens_per_second"] = self._tokens * per_second
        if pl_module.device.type == "cuda":
            values["gpu_memory_gib"] = torch.cuda.max_memory_allocated(pl_module.device) / 2**30
        _log(pl_module, values)
        self._seconds, self._items, self._tokens = 0.0, 0, 0


def _whole(norm: Tensor) -> Tensor:
    """A norm on every process, also where the gradients are shared out between them."""
    return norm.full_tensor() if isinstance(norm, DTensor) else norm


def _log(module: pl.LightningModule, values: dict[str, Any]) -> None:
    module.log_dict({f"train/{name}": float(value) for name, value in values.items()}, batch_size=1)
