"""Phase 2 with an item head for Lightning."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ilm_lightning.lm.item_head import RankBatch, head_of, item_directions, item_losses, prompt_states, training_losses
from ilm_lightning.lm.model import ItemLanguageModel
from ilm_lightning.lm.module import ItemLanguageModule, OptimiserSettings
from ilm_lightning.ranks import joint_mean, rank, world_size


class ItemHeadModule(ItemLanguageModule):
    """Trains a model to rank the target first in the whole catalogue.

    Args:
        model: with an item head.
        settings: the optimiser's settings.
        sources: vectors of the whole catalogue per source ``[I, d_s]``; no part of checkpoints.
        sample: items drawn for each step's softmax; 0: all, the exact softmax.
    """

    def __init__(
        self, model: ItemLanguageModel, settings: OptimiserSettings, sources: Mapping[str, Tensor], sample: int = 0
    ) -> None:
        super().__init__(model, settings)
        head_of(model)
        self.names, self.sample = list(sources), sample
        for name, vectors in sources.items():
            self.register_buffer(f"catalogue_{name}", vectors.float(), persistent=False)
        self._items: Tensor | None = None

    @property
    def sources(self) -> dict[str, Tensor]:
        """The catalogue's vectors, where the model is."""
        return {name: getattr(self, f"catalogue_{name}") for name in self.names}

    def _loss(self, batch: RankBatch) -> Tensor:  # type: ignore[override]
        """Cross-entropy of the targets among the items, the mean over all processes' examples."""
        return joint_mean(training_losses(self.model, batch, self.sources, self.sample).mean(), batch.counted)

    def on_validation_start(self) -> None:
        """Forget the items as they were before the last steps."""
        self._items = None

    def validation_step(self, batch: RankBatch, batch_idx: int) -> None:  # type: ignore[override]
        """Sum up losses by the exact softmax, whatever training samples; the items are computed once a validation."""
        if batch_idx % world_size() != rank():
            return
        if self._items is None:
            self._items = item_directions(self.model, self.sources)
        scores = head_of(self.model)(prompt_states(self.model, batch.prompts), self._items)
        own, rows = scores.gather(1, batch.targets[:, None])[:, 0], torch.arange(scores.shape[1], device=scores.device)
        losses = item_losses(own, scores, rows, batch.targets, scores.shape[1])
        self._means.add("val/loss", losses.mean().item(), len(losses))
