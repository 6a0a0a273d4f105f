"""Item recommendation by beam search over the tree of existing items.

Every prompt is read once: the tokens that all items share are read with it, and a user's beams then run as further
positions of the same row under a tree-shaped attention mask: keys and values of the prompt are held once for all beams,
and beams are written beside them. Only allowed children are scored; their log-probabilities are those over the whole
vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ilm_lightning.evaluation.trie import NO_ITEM, ItemTrie
from ilm_lightning.lm.backbone import causal_lm
from ilm_lightning.lm.batch import PromptBatch
from ilm_lightning.lm.cache import roomy_cache
from ilm_lightning.lm.collate import Collator, sorted_batches
from ilm_lightning.lm.generate import SoftTokenBank
from ilm_lightning.lm.model import ItemLanguageModel
from ilm_lightning.lm.prompts import TokenisedExample
from ilm_lightning.lm.reading import begin
from ilm_lightning.progress import track

if TYPE_CHECKING:
    from transformers import Cache

Ints = NDArray[np.int64]
SeenRows = Callable[[Sequence[int]], NDArray[np.bool_]]
"""Example places to ``[n, I]``: items that may not be recommended."""
LEVELS, MOST_ROOM = 4, 512
"""Levels of the tree for whose beams there is room beside the prompt, and the most such room in tokens: what lies there
is copied only where a search goes on beyond."""
SLACK = 1e-3
"""Nats by which two computations of one score may differ."""


@dataclass(frozen=True)
class Recommendations:
    """Ranked items per prompt.

    Attributes:
        items: ``[U, k]`` catalogue rows, best first; -1 where fewer items were found.
        scores: ``[U, k]`` log-probabilities of the items' texts given the prompt, in nats; -inf where there is none.
        exact: ``[U]`` bool; True where no beam that was dropped could have led to a better item than the list's last,
            so that the list is what scoring every item gives.
    """

    items: Ints
    scores: NDArray[np.float32]
    exact: NDArray[np.bool_]


@dataclass
class _Tree:
    """The trie's arrays on the model's device."""

    tokens: Tensor
    first_child: Tensor
    items: Tensor
    low: Tensor
    high: Tensor
    order: Tensor

    @classmethod
    def on(cls, trie: ItemTrie, device: torch.device) -> "_Tree":
        names = ("tokens", "first_child", "items", "low", "high", "order")
        return cls(*(torch.from_numpy(getattr(trie, name)).to(device) for name in names))


@dataclass
class _Beams:
    """Unfinished beams of each user.

    Attributes:
        nodes: ``[U, b]``.
        scores: ``[U, b]``; -inf where there is no beam.
        hidden: ``[U, b, d]``, of the last token.
        ancestors: ``[U, b, E]`` bool; which of the positions after the prompt each beam may attend to.
    """

    nodes: Tensor
    scores: Tensor
    hidden: Tensor
    ancestors: Tensor


@torch.inference_mode()
def recommend(
    model: ItemLanguageModel,
    examples: Sequence[TokenisedExample],
    collator: Collator,
    trie: ItemTrie,
    k: int = 10,
    beams: int = 30,
    seen: SeenRows | None = None,
    batch_size: int = 16,
    label: str = "recommending",
    certain: bool = False,
) -> Recommendations:
    """Rank items for every prompt.

    Args:
        model: the model; its mode is restored afterwards.
        examples: prompts; their targets are not read.
        collator: holds the item vectors.
        trie: the items' texts.
        k: length of the lists.
        beams: beams of each user; as many as there are items make the search exact.
        seen: items left out for each prompt; None leaves out none.
        batch_size: prompts that run together.
        label: what the progress bar says.
        certain: search again where the list is not known to be exact: without a limit to the beams, and only where
            something that scores like the list's last item can still lie.

    Returns:
        The lists in the order of ``examples``; equal scores go by catalogue row.

    Raises:
        ValueError: ``k`` or ``beams`` below 1.
    """
    if k < 1 or beams < 1:
        raise ValueError(f"k={k} and beams={beams} must be at least 1")
    items = np.full((len(examples), k), NO_ITEM, dtype=np.int64)
    scores = np.full((len(examples), k), -np.inf, dtype=np.float32)
    exact = np.zeros(len(examples), dtype=np.bool_)
    training = model.training
    model.eval()
    bank = SoftTokenBank(model, examples, collator)
    batches = sorted_batches([len(example.prompt_ids) for example in examples], batch_size)

    def search(places: list[int], beams: int, floor: Tensor | None = None) -> None:
        chosen = [examples[place] for place in places]
        batch = collator.prompts(chosen).to(model.device)
        hidden_items = None if seen is None else torch.from_numpy(seen(places)).to(model.device)
        found = beam_search(model, batch, trie, k, beams, hidden_items, bank.soft(chosen), floor)
        items[places], scores[places], exact[places] = found.items, found.scores, found.exact

    for places in track(batches, len(batches), label):
        search(places, beams)
        # many beams at once take memory: users one by one
        for place in places if certain else ():
            if not exact[place]:
                search([place], trie.n_items, torch.from_numpy(scores[[place], -1] - SLACK).to(model.device))
    model.train(training)
    return Recommendations(items, scores, exact)


@torch.inference_mode()
def beam_search(
    model: ItemLanguageModel,
    batch: PromptBatch,
    trie: ItemTrie,
    k: int,
    beams: int,
    seen: Tensor | None = None,
    soft: Tensor | None = None,
    floor: Tensor | None = None,
) -> Recommendations:
    """Search the tree of items for one batch.

    With the same beams this ranks as transformers' beam search does with a prefix function and length penalty 0.

    Args:
        model: the model, in evaluation mode.
        batch: prompts padded on the left.
        trie: the items' texts.
        k: length of the lists.
        beams: beams of each user.
        seen: ``[U, I]`` bool, items left out; None leaves out none.
        soft: soft tokens of the batch's distinct slots; computed if None.
        floor: ``[U]``; items that score less are not looked for. None looks for all.

    Returns:
        The lists.
    """
    tree = _Tree.on(trie, model.device)
    unseen = _unseen_before(tree, seen)
    with model.lm_precision():
        room = min(LEVELS * beams, MOST_ROOM)
        state, prompt_mask, position, cache = _prefill(model, batch, trie, soft, room)
        ended: tuple[Tensor, Tensor] = (
            state.nodes.new_full((len(batch), 0), NO_ITEM),
            state.scores.new_zeros(len(batch), 0),
        )
        # scores only fall from a beam to its items, so what was dropped bounds what was lost
        lost = state.scores.new_full((len(batch),), -torch.inf)
        while True:
            nodes, scores, parents, rest = _candidates(model, tree, state, unseen, 2 * beams, floor)
            finished = (tree.items[nodes] != NO_ITEM) & torch.isfinite(scores)
            # as in transformers, an end counts only among the best `beams` candidates
            ended = _merge(ended, tree.items[nodes], scores, finished, beams, max(k, beams))
            uncounted = scores[:, beams:].masked_fill(~finished[:, beams:], -torch.inf)
            nodes, scores, parents, narrow = _unfinished(nodes, scores, parents, finished, beams)
            lost = torch.stack([lost, rest, narrow, _best(uncounted)]).max(0).values
            if _done(scores, ended[1], max(k, beams)):
                break
            position = position + 1
            state = _step(model, tree, state, nodes, scores, parents, prompt_mask, position, cache)
    return _lists(ended, k, lost)


def _unseen_before(tree: _Tree, seen: Tensor | None) -> Tensor | None:
    """``[U, I + 1]``: how many items before each leaf may be recommended; a node's count is a difference of two."""
    if seen is None:
        return None
    counts = (~seen[:, tree.order]).long().cumsum(1)
    return torch.cat([counts.new_zeros(len(counts), 1), counts], dim=1)


def _prefill(
    model: ItemLanguageModel, batch: PromptBatch, trie: ItemTrie, soft: Tensor | None, room: int
) -> tuple[_Beams, Tensor, Tensor, "Cache"]:
    """Read prompts and forced tokens; returns each user's beam, mask and last place of what was read, the cache."""
    users, forced = len(batch), torch.tensor(trie.forced, dtype=torch.long, device=model.device)
    words = causal_lm(model.lm).get_input_embeddings()(forced)
    start = begin(model, batch, soft, partial(roomy_cache, room=room))
    embeddings = torch.cat([start.embeddings, words.to(start.embeddings.dtype).expand(users, -1, -1)], dim=1)
    mask = torch.cat([start.mask, start.mask.new_ones(users, len(forced))], dim=1)
    positions = (mask.cumsum(1) - 1).clamp_min(0)
    hidden = model.run_lm(embeddings, mask, positions, start.cache).last_hidden_state
    scores = torch.zeros(users, 1, device=model.device)
    if len(forced):
        before = hidden[:, -len(forced) - 1 : -1]
        log_p = torch.log_softmax(model.logits(before.reshape(-1, before.shape[-1])), dim=-1)
        scores = log_p.view(users, len(forced), -1).gather(2, forced.expand(users, -1)[..., None]).sum(1)
    nodes = torch.full((users, 1), trie.start, device=model.device)
    ancestors = torch.zeros(users, 1, 0, dtype=torch.bool, device=model.device)
    return _Beams(nodes, scores, hidden[:, -1:], ancestors), mask.bool(), positions[:, -1:], start.cache


def _candidates(
    model: ItemLanguageModel, tree: _Tree, state: _Beams, unseen: Tensor | None, count: int, floor: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Score all allowed children; scores only fall, so that one below the floor leads to no item above it.

    Returns:
        Each user's best ``count`` as nodes, scores and the beams they come from; the best score ``[U]`` of the others.
    """
    users, width = state.nodes.shape
    first = tree.first_child[state.nodes]
    sizes = tree.first_child[state.nodes + 1] - first
    widest = max(int(sizes.max()), 1)
    place = torch.arange(widest, device=first.device)
    valid = place < sizes[..., None]
    nodes = torch.where(valid, first[..., None] + place, 0)
    if unseen is not None:
        rows = torch.arange(users, device=first.device)[:, None, None]
        valid &= unseen[rows, tree.high[nodes]] > unseen[rows, tree.low[nodes]]
    logits = model.logits(state.hidden.reshape(users * width, -1)).view(users, width, -1)
    chosen = logits.gather(2, tree.tokens[nodes].clamp_min(0)) - logits.logsumexp(-1, keepdim=True)
    scores = (state.scores[..., None] + chosen).masked_fill(~valid, -torch.inf).flatten(1)
    if floor is not None:
        scores = scores.masked_fill(scores < floor[:, None], -torch.inf)
    # stable, so that equal scores keep one order
    scores, index = scores.sort(dim=1, descending=True, stable=True)
    rest = _best(scores[:, count : count + 1])
    scores, index = scores[:, :count], index[:, :count]
    return nodes.flatten(1).gather(1, index), scores, index // widest, rest


def _merge(
    ended: tuple[Tensor, Tensor], items: Tensor, scores: Tensor, finished: Tensor, beams: int, keep: int
) -> tuple[Tensor, Tensor]:
    """Add finished candidates to the finished items of each user and keep the best, equal scores by row."""
    counts = finished.clone()
    counts[:, beams:] = False
    every_item = torch.cat([ended[0], items.masked_fill(~counts, NO_ITEM)], dim=1)
    every_score = torch.cat([ended[1], scores.masked_fill(~counts, -torch.inf)], dim=1)
    by_row = every_item.argsort(dim=1, stable=True)
    every_item, every_score = every_item.gather(1, by_row), every_score.gather(1, by_row)
    every_score, order = every_score.sort(dim=1, descending=True, stable=True)
    return every_item.gather(1, order)[:, :keep], every_score[:, :keep]


def _unfinished(
    nodes: Tensor, scores: Tensor, parents: Tensor, finished: Tensor, beams: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The best ``beams`` candidates that go on, and the best score ``[U]`` among those that do not."""
    scores = scores.masked_fill(finished, -torch.inf)
    scores, order = scores.sort(dim=1, descending=True, stable=True)
    left = _best(scores[:, beams:])
    # beams that no user has left would only cost time
    alive = max(1, int(torch.isfinite(scores).sum(1).max()))
    order, scores = order[:, : min(beams, alive)], scores[:, : min(beams, alive)]
    return nodes.gather(1, order), scores, parents.gather(1, order), left


def _best(scores: Tensor) -> Tensor:
    """The highest score ``[U]`` of ``[U, n]``; -inf where n is 0."""
    return scores.max(1).values if scores.shape[1] else scores.new_full((len(scores),), -torch.inf)


def _done(running: Tensor, ended: Tensor, wanted: int) -> bool:
    """Whether no running beam of any user can still enter the list: scores only fall."""
    best = running.max(1).values
    worst = ended[:, wanted - 1] if ended.shape[1] >= wanted else torch.full_like(best, -torch.inf)
    return bool(((best <= worst) | ~torch.isfinite(best)).all())


def _step(
    model: ItemLanguageModel,
    tree: _Tree,
    state: _Beams,
    nodes: Tensor,
    scores: Tensor,
    parents: Tensor,
    prompt_mask: Tensor,
    position: Tensor,
    cache: "Cache",
) -> _Beams:
    """Read one more token of every beam: further positions of the row, each seeing the prompt and its own ancestors."""
    users, width = nodes.shape
    inherited = state.ancestors.gather(1, parents[..., None].expand(-1, -1, state.ancestors.shape[2]))
    itself = torch.eye(width, dtype=torch.bool, device=nodes.device).expand(users, -1, -1)
    ancestors = torch.cat([inherited, itself], dim=2)
    visible = torch.cat([prompt_mask[:, None].expand(-1, width, -1), ancestors], dim=2)
    dtype = model.compute_dtype
    mask = torch.zeros(visible.shape, dtype=dtype, device=nodes.device).masked_fill(~visible, torch.finfo(dtype).min)
    words = causal_lm(model.lm).get_input_embeddings()(tree.tokens[nodes].clamp_min(0))
    output = model.run_lm(words, mask[:, None], position.expand(-1, width), cache)
    return _Beams(nodes, scores, output.last_hidden_state, ancestors)


def _lists(ended: tuple[Tensor, Tensor], k: int, lost: Tensor) -> Recommendations:
    last = ended[1][:, k - 1] if ended[1].shape[1] >= k else torch.full_like(lost, -torch.inf)
    exact = ((last > lost) | torch.isneginf(lost)).cpu().numpy()
    items, scores = ended[0][:, :k].cpu().numpy(), ended[1][:, :k].float().cpu().numpy()
    items = np.where(np.isfinite(scores), items, NO_ITEM)
    missing = ((0, 0), (0, max(0, k - items.shape[1])))
    return Recommendations(
        np.pad(items, missing, constant_values=NO_ITEM), np.pad(scores, missing, constant_values=-np.inf), exact
    )
