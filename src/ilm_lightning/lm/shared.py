"""Examples that begin with the same words read these words once: one trunk, and a branch of each example.

A user's examples at the positions of one window repeat the same history. Here the longest example is the trunk; each
other one joins it at the end of what both have in common and goes on as a branch. A branch sees its own prefix and
itself, at the positions it would have alone, so every loss and every gradient equal those of the examples apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from ilm_lightning.lm.attention import GROUPED, Branches
from ilm_lightning.lm.backbone import causal_lm
from ilm_lightning.lm.batch import PromptBatch, Targets, moved
from ilm_lightning.lm.collate import Collator, Slot, empty_batch
from ilm_lightning.lm.prompts import TokenisedExample
from ilm_lightning.lm.trees import Ints, Tree, grow, lay_branches
from ilm_lightning.ranks import rank, world_size

if TYPE_CHECKING:
    from ilm_lightning.lm.model import ItemLanguageModel

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class SharedBatch(PromptBatch):
    """Trunks and branches. ``labels`` is empty: the targets are listed apart, for one token may predict several.

    Attributes:
        position_ids: ``[R, N]``, int64; each token's position in its example.
        ends: ``[R, N]``, int64; column of the last token that may see a token: all between descend from it.
        listed: the targets.
        lasts: ``[B]``, int64; the place ``row * N + column`` of each example's last prompt token.
        branches: the trees of the one row, for attention that knows them; None where each tree is a row.
    """

    position_ids: Tensor
    ends: Tensor
    listed: Targets
    lasts: Tensor
    branches: Branches | None = None

    @property
    def targets(self) -> Targets:
        """The target tokens, example by example."""
        return self.listed

    def visible(self) -> Tensor:
        """Who sees whom: ``[R, N, N]``, True where the row's token may read the column's."""
        place = torch.arange(self.ends.shape[1], device=self.ends.device)
        seen, reader = place[None, None, :], place[None, :, None]
        return (seen <= reader) & (reader <= self.ends[:, None, :])

    def attention_inputs(self, attention: str | None, dtype: torch.dtype) -> dict[str, Any]:
        """Positions, and who sees whom: as trees where the attention reads them, else as a mask."""
        if self.branches is not None and attention == GROUPED:
            branches = self.branches.to_dtype(dtype)
            # a mask of four dimensions is handed on as it is
            mask = torch.zeros(1, 1, 1, 1, dtype=dtype, device=self.ends.device)
            return {"attention_mask": mask, "position_ids": self.position_ids, "branches": branches}
        visible = self.visible()[:, None]
        mask = torch.zeros(visible.shape, dtype=dtype, device=visible.device)
        mask = mask.masked_fill(~visible, torch.finfo(dtype).min)
        return {"attention_mask": mask, "position_ids": self.position_ids}

    def to(self, device: torch.device | str) -> "SharedBatch":
        """Return the batch with all its tensors on ``device``."""
        there = super().to(device)
        assert isinstance(there, SharedBatch)
        return there._map_own(lambda tensor: moved(tensor, device))

    def pin_memory(self) -> "SharedBatch":
        """Return the batch in page-locked memory."""
        pinned = super().pin_memory()
        assert isinstance(pinned, SharedBatch)
        return pinned._map_own(Tensor.pin_memory)

    def _map_own(self, change: Any) -> "SharedBatch":
        return replace(
            self,
            position_ids=change(self.position_ids),
            ends=change(self.ends),
            listed=self.listed.map(change),
            lasts=change(self.lasts),
            branches=None if self.branches is None else self.branches.map(change),
        )


class SharedCollator:
    """Builds a ``SharedBatch`` from groups of examples that begin alike.

    Args:
        collator: knows the vectors of slots.
        packed: all trees in one row without padding, for attention that knows trees; False: one row a tree.
    """

    def __init__(self, collator: Collator, packed: bool) -> None:
        self.collator, self.packed = collator, packed

    def __call__(self, groups: Sequence[Sequence[TokenisedExample]]) -> SharedBatch:
        """Lay groups out and look the vectors of their slots up.

        Args:
            groups: examples with targets. What the examples of a group begin with in common is read once.

        Raises:
            ValueError: an example has no target.
        """
        for example in (example for group in groups for example in group):
            if len(example.target_ids) == 0:
                raise ValueError(f"example {example.example_id!r} has no target, so there is nothing to train on")
        return self._batch(groups)

    def prompts(self, groups: Sequence[Sequence[TokenisedExample]]) -> SharedBatch:
        """Lay prompts out without answers, to be read at ``lasts``."""
        return self._batch([[replace(example, target_ids=example.target_ids[:0]) for example in g] for g in groups])

    def _batch(self, groups: Sequence[Sequence[TokenisedExample]]) -> SharedBatch:
        known: dict[Slot, int] = {}
        trees = [grow(group, known) for group in groups]
        sizes = [len(tree.ids) for tree in trees]
        width = sum(sizes) if self.packed else max(sizes)
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]) if self.packed else np.arange(len(trees)) * width
        ids, mask, labels = empty_batch(1 if self.packed else len(trees), width)
        # padding sees itself alone
        positions, ends = torch.zeros_like(ids), torch.arange(width).repeat(len(ids), 1)
        for tree, start in zip(trees, starts.tolist(), strict=True):
            row, column = divmod(start, width)
            part = slice(column, column + len(tree.ids))
            ids[row, part], mask[row, part] = torch.from_numpy(tree.ids), 1
            positions[row, part] = torch.from_numpy(tree.positions)
            ends[row, part] = torch.from_numpy(tree.ends + column)
        distinct: dict[Slot, int] = {}
        index = [distinct.setdefault(slot, len(distinct)) for tree in trees for slot in tree.slots]
        return SharedBatch(
            ids, mask, labels, self.collator.slot_sources(list(distinct)), torch.tensor(index, dtype=torch.long),
            [example.example_id for group in groups for example in group],
            position_ids=positions, ends=ends, listed=list_targets(groups, trees, starts),
            lasts=torch.from_numpy(list_lasts(groups, trees, starts)),
            branches=lay_branches(trees, starts) if self.packed else None,
        )  # fmt: skip


def own_part(groups: Sequence[Sequence[T]]) -> list[list[T]]:
    """This process's part of a batch of all processes: examples in a row, so that few groups are cut; may be empty."""
    total = sum(map(len, groups))
    start, end = (total * number // world_size() for number in (rank(), rank() + 1))
    parts, place = [], 0
    for group in groups:
        part = list(group[max(start - place, 0) : max(end - place, 0)])
        parts += [part] if part else []
        place += len(group)
    return parts


def idle(groups: Sequence[Sequence[TokenisedExample]]) -> list[list[TokenisedExample]]:
    """What a process reads that has no part: one example whose tokens weigh nothing."""
    first = groups[0][0]
    return [[replace(first, token_weights=np.zeros(len(first.target_ids), np.float32))]]


def list_lasts(groups: Sequence[Sequence[TokenisedExample]], trees: Sequence[Tree], starts: Ints) -> Ints:
    """The place of each example's last prompt token."""
    return np.array(
        [
            start + path[len(example.prompt_ids) - 1]
            for group, tree, start in zip(groups, trees, starts.tolist(), strict=True)
            for example, path in zip(group, tree.paths, strict=True)
        ]
    )


def list_targets(groups: Sequence[Sequence[TokenisedExample]], trees: Sequence[Tree], starts: Ints) -> Targets:
    """Where every target token is predicted; predictions that examples share appear once."""
    places, ids, owners, weights = [], [], [], []
    number = 0
    for group, tree, start in zip(groups, trees, starts.tolist(), strict=True):
        for example, path in zip(group, tree.paths, strict=True):
            count = len(example.target_ids)
            places.append(start + path[len(path) - count :])
            ids.append(example.target_ids.astype(np.int64))
            owners.append(np.full(count, number))
            given = example.token_weights
            weights.append(np.ones(count, np.float32) if given is None else given)
            number += 1
    weighted = any(example.token_weights is not None for group in groups for example in group)
    pairs = np.stack([np.concatenate(places), np.concatenate(ids)])
    unique, copies = np.unique(pairs, axis=1, return_inverse=True) if pairs.size else (pairs, pairs[0])
    distinct = unique.shape[1] == pairs.shape[1]
    shown = torch.from_numpy(pairs if distinct else unique)
    return Targets(
        shown[0].contiguous(),
        shown[1].contiguous(),
        torch.from_numpy(np.concatenate(owners)),
        torch.from_numpy(np.concatenate(weights)) if weighted else None,
        None if distinct else torch.from_numpy(copies.reshape(-1)),
    )


def reads_trees(model: "ItemLanguageModel") -> bool:
    """Whether a model's attention knows trunks and branches, so that trees may be packed into one row."""
    return model.attention == GROUPED


@torch.no_grad()
def sharing_error(model: "ItemLanguageModel") -> float:
    """How differently a language model reads examples that share their first words, tried on a few words.

    Architectures that follow no mask or no positions of ours (recurrent ones, those that look back a few words only)
    would be trained on something else without a word.

    Returns:
        The largest difference between hidden states apart and together, relative to the largest hidden state; a
        model that refuses masks or positions counts as 1.
    """
    # spread over the vocabulary: the first ids are often special tokens that nothing was trained on, whose hidden
    # states turn rounding into large differences
    rows = causal_lm(model.lm).get_input_embeddings().weight.shape[0]
    words = np.linspace(0, rows - 1, 14)[1:-1].astype(np.int32)
    examples = [TokenisedExample(f"probe {cut}", words[:cut], words[[cut - 1, 1, 3]], ()) for cut in (4, 12, 8)]
    collator = Collator({"probe": torch.zeros(1, 1)})
    training = model.training
    model.eval()
    try:
        apart = model(collator(examples).to(model.device)).hidden
        try:
            together = model(SharedCollator(collator, reads_trees(model))([examples]).to(model.device)).hidden
        except (TypeError, RuntimeError):
            return 1.0
    finally:
        model.train(training)
    return float((apart - together).abs().max() / apart.abs().max().clamp_min(1e-12))
