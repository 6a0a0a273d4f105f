"""One data module for both phases: training batch ``k`` is a function of ``k``, so a resumed run starts there."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import lightning as pl
from torch.utils.data import DataLoader, IterableDataset

from ilm_lightning.lm.collate import own_share


class BatchStream(IterableDataset[Any]):
    """The training batches from step ``start`` on, without end."""

    def __init__(self, batch: Callable[[int], Any], start: int = 0) -> None:
        self.batch = batch
        self.start = start

    def __iter__(self) -> Iterator[Any]:
        """Yield the batches of steps ``start``, ``start + 1`` and so on."""
        step = self.start
        while True:
            yield self.batch(step)
            step += 1


class StreamDataModule(pl.LightningDataModule):
    """Training batches by step number, validation batches from a list.

    Args:
        batch: step number -> collated batch.
        validation: collated validation batches; may be empty.
    """

    def __init__(self, batch: Callable[[int], Any], validation: Sequence[Any]) -> None:
        super().__init__()
        self.batch = batch
        self.validation = validation

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches from the trainer's present step on."""
        start = self.trainer.global_step if self.trainer is not None else 0
        return DataLoader(BatchStream(self.batch, start), batch_size=None, num_workers=0, pin_memory=self._for_gpu())

    def val_dataloader(self) -> DataLoader[Any]:
        """Every validation batch once."""
        return DataLoader(self.validation, batch_size=None, num_workers=0)  # type: ignore[arg-type]

    def _for_gpu(self) -> bool:
        """Whether batches go to a GPU: from page-locked memory they do so while the step before still runs."""
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"


@dataclass
class Stream:
    """Training batch of each step: the sampler's order is a function of (seed, epoch), so of the step."""

    rows: Sequence[Any]
    sampler: Any
    collator: Any
    _epoch: int = -1

    def __call__(self, step: int) -> Any:
        """Collate this process's share of the batch of a step."""
        epoch, place = divmod(step, len(self.sampler))
        if epoch != self._epoch:
            self._batches, self._epoch = self.sampler.batches(epoch), epoch
        return self.collator(own_share([self.rows[i] for i in self._batches[place]]))

    def after(self, done: int) -> Callable[[int], Any]:
        """The batches behind the first ``done``: a second fit counts its steps from 0 again."""
        return lambda step: self(done + step)
