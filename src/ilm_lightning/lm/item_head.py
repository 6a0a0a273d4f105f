"""Item head (ours): the whole catalogue scored from one hidden state against the items' own soft tokens.

The language model reads the prompt, and its hidden state where the answer would begin is compared with every item. An
item is what the adapter makes of its vector, soft tokens that are pooled to one direction; nothing is written or
searched, and a ranking of all items costs one forward pass.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ilm_lightning.lm.batch import PromptBatch, moved
from ilm_lightning.lm.collate import Collator, sorted_batches
from ilm_lightning.lm.generate import ADAPTER_CHUNK, SoftTokenBank
from ilm_lightning.lm.model import ItemLanguageModel
from ilm_lightning.lm.prompts import TokenisedExample
from ilm_lightning.lm.reading import begin
from ilm_lightning.lm.seq2seq import is_encoder_decoder
from ilm_lightning.lm.shared import SharedBatch
from ilm_lightning.progress import track

if TYPE_CHECKING:
    from ilm_lightning.lm.heads import ItemHead

TRAINING_CHUNK = 1024
"""Items that the adapter maps at once in training; of larger catalogues one chunk's activations exist at a time."""


@dataclass(frozen=True)
class RankBatch:
    """Prompts without answers, and the items that are to be ranked first.

    Attributes:
        prompts: padded on the left, or sharing what they begin with; it has no labels.
        targets: ``[B]``, int64, catalogue rows.
        counted: how many examples the batch's mean counts for among those of all processes.
    """

    prompts: PromptBatch
    targets: Tensor
    counted: int

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.prompts)

    @property
    def n_tokens(self) -> int:
        """Number of tokens that are no padding."""
        return self.prompts.n_tokens

    @property
    def example_ids(self) -> list[str]:
        """The examples' ids."""
        return self.prompts.example_ids

    def to(self, device: torch.device | str) -> "RankBatch":
        """Return the batch with all its tensors on ``device``."""
        return replace(self, prompts=self.prompts.to(device), targets=moved(self.targets, device))

    def pin_memory(self) -> "RankBatch":
        """Return the batch in page-locked memory."""
        return replace(self, prompts=self.prompts.pin_memory(), targets=self.targets.pin_memory())


def pooled(soft: Tensor) -> Tensor:
    """Make one direction of an item's soft tokens: each at length 1, their mean at length 1 again.

    Every soft token counts alike, however long the adapter makes it: the language model too reads them at one scale.

    Args:
        soft: ``[n, q, d]``.

    Returns:
        ``[n, d]``, float32, of length 1.

    >>> pooled(torch.tensor([[[2.0, 0.0], [0.0, 5.0]]])).tolist()
    [[0.7071067690849304, 0.7071067690849304]]
    """
    return F.normalize(F.normalize(soft.float(), dim=-1).mean(1), dim=-1)


def item_directions(model: ItemLanguageModel, sources: Mapping[str, Tensor]) -> Tensor:
    """Compute what items are compared by, chunk by chunk.

    Args:
        model: the model.
        sources: the items' vectors per source ``[n, d_s]``, on the model's device.

    Returns:
        ``[n, d]``, of length 1. With gradients, activations of larger catalogues are computed again in the backward
        pass instead of being kept.
    """

    def directions(*vectors: Tensor) -> Tensor:
        return pooled(model.soft_tokens(dict(zip(names, vectors, strict=True))))

    names = list(sources)
    count = len(sources[names[0]])
    learning = torch.is_grad_enabled()
    size = TRAINING_CHUNK if learning else ADAPTER_CHUNK
    parts = []
    for start in range(0, count, size):
        chunk = [sources[name][start : start + size] for name in names]
        again: Callable[..., Any] = directions
        kept = checkpoint(again, *chunk, use_reentrant=False) if learning and count > size else directions(*chunk)
        parts.append(kept)
    return torch.cat(parts)


def item_losses(own: Tensor, others: Tensor, rows: Tensor, targets: Tensor, n_items: int) -> Tensor:
    """Cross-entropy of the targets among all items, exact or from a uniform sample of them.

    The sample's exponentials stand for those of all items but the target; a sample of all items is the exact softmax.

    Args:
        own: ``[B]`` scores of the targets.
        others: ``[B, n]`` scores of the sampled items.
        rows: ``[n]`` their catalogue rows, distinct, drawn uniformly.
        targets: ``[B]`` catalogue rows.
        n_items: size of the catalogue.

    Returns:
        ``[B]`` losses in nats.

    Example:
        Three items with scores 0, 0, 0: log 3, and the same from a sample of the one item that is not the target.

        >>> scores, target = torch.zeros(1, 3), torch.tensor([1])
        >>> whole = item_losses(scores[:, 1], scores, torch.arange(3), target, 3)
        >>> sampled = item_losses(scores[:, 1], scores[:, :2], torch.tensor([0, 1]), target, 3)
        >>> [round(float(loss), 4) for loss in (whole, sampled)]
        [1.0986, 1.0986]
    """
    is_target = rows[None] == targets[:, None]
    counted = (~is_target).sum(1).clamp_min(1)
    scaled = others + torch.log((n_items - 1) / counted)[:, None]
    scaled = scaled.masked_fill(is_target, -torch.inf)
    return torch.logsumexp(torch.cat([own[:, None], scaled], dim=1), dim=1) - own


def training_losses(model: ItemLanguageModel, batch: RankBatch, sources: Mapping[str, Tensor], sample: int) -> Tensor:
    """Losses of a batch with gradients for prompts and items alike.

    Args:
        model: with an item head.
        batch: prompts and targets.
        sources: vectors of the whole catalogue ``[I, d_s]``.
        sample: items drawn for the softmax, from torch's generator; 0: all.

    Returns:
        ``[B]`` losses in nats.
    """
    head, n_items = head_of(model), len(next(iter(sources.values())))
    if not 0 < sample < n_items:
        scores = head(prompt_states(model, batch.prompts), item_directions(model, sources))
        rows = torch.arange(n_items, device=scores.device)
        return item_losses(scores.gather(1, batch.targets[:, None])[:, 0], scores, rows, batch.targets, n_items)
    rows = moved(distinct_rows(n_items, sample), batch.targets.device)
    needed, place = torch.unique(torch.cat([batch.targets, rows]), return_inverse=True)
    items = item_directions(model, {name: vectors[needed] for name, vectors in sources.items()})
    scores = head(prompt_states(model, batch.prompts), items)
    mine, drawn = place[: len(batch)], place[len(batch) :]
    return item_losses(scores.gather(1, mine[:, None])[:, 0], scores[:, drawn], rows, batch.targets, n_items)


def distinct_rows(count: int, sample: int) -> Tensor:
    """Draw distinct rows uniformly, at the cost of the sample and not of all rows.

    Args:
        count: of all rows.
        sample: how many of them, drawn by torch's generator.

    Returns:
        ``[sample]``, int64.
    """
    seed = int(torch.randint(2**62, ()))
    rows = np.random.default_rng(seed).choice(count, sample, replace=False, shuffle=False)
    return torch.from_numpy(rows.astype(np.int64))


def head_of(model: ItemLanguageModel) -> "ItemHead":
    """The model's item head.

    Raises:
        ValueError: it has none.
    """
    if model.item_head is None:
        raise ValueError("the model has no item head: it was trained with tasks.head=text; decode its text instead")
    return model.item_head


def prompt_states(model: ItemLanguageModel, batch: PromptBatch, soft: Tensor | None = None) -> Tensor:
    """Hidden states where the answers would begin.

    Args:
        model: the model.
        batch: prompts padded on the left, or sharing what they begin with.
        soft: soft tokens of the batch's distinct slots; computed if None.

    Returns:
        ``[B, d]``.
    """
    if isinstance(batch, SharedBatch):
        with model.lm_precision():
            return model.hidden_at(batch, batch.lasts, soft)
    with model.lm_precision():
        start = begin(model, batch, soft)
        # keys and values are kept for what follows, and here nothing does; an encoder's prompts are in the cache
        cache = start.cache if is_encoder_decoder(model.lm) else None
        hidden: Tensor = model.run_lm(start.embeddings, start.mask, start.positions, cache).last_hidden_state
    return hidden[:, -1]


@torch.inference_mode()
def catalogue_scores(
    model: ItemLanguageModel,
    examples: Sequence[TokenisedExample],
    collator: Collator,
    n_items: int,
    batch_size: int = 16,
    label: str = "ranking",
) -> Iterator[tuple[list[int], NDArray[np.float32]]]:
    """Score all items for every prompt; the items' side is computed once.

    Args:
        model: with an item head; its mode is restored afterwards.
        examples: prompts; their targets are not read.
        collator: holds the item vectors.
        n_items: the first so many rows of the collator are the catalogue.
        batch_size: prompts that run together.
        label: what the progress bar says.

    Yields:
        Places in ``examples``, and of each the items' log-probabilities ``[b, I]`` in nats.

    Raises:
        ValueError: the model has no item head.
    """
    head, training = head_of(model), model.training
    model.eval()
    sources = collator.slot_sources([(row,) for row in range(n_items)])
    items = item_directions(model, {name: rows.to(model.device) for name, rows in sources.items()})
    bank = SoftTokenBank(model, examples, collator)
    batches = sorted_batches([len(example.prompt_ids) for example in examples], batch_size)
    for places in track(batches, len(batches), label):
        chosen = [examples[place] for place in places]
        states = prompt_states(model, collator.prompts(chosen).to(model.device), bank.soft(chosen))
        yield places, head(states, items).log_softmax(1).cpu().numpy()
    model.train(training)
