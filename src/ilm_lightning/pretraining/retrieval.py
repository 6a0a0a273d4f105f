"""A readable measure of phase 1's progress: does an item find its own text among held-out texts?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ilm_lightning.pretraining.batches import EvaluationBatches, ItemTextBatch, bag_entries
from ilm_lightning.pretraining.losses import bag_log_probs, positive_mask
from ilm_lightning.pretraining.model import PretrainingModel
from ilm_lightning.pretraining.pairs import ITEM_TEXT, Ints, TextPairs

CUTOFFS = (1, 5, 10)


def recall_at(scores: Tensor, positives: Tensor, cutoffs: Sequence[int] = CUTOFFS) -> dict[str, float]:
    """Share of rows whose best positive is among the first k columns, and what a random order would give.

    A positive that ties with other columns is ranked after them: scores that are all equal earn nothing.

    Args:
        scores: [N, M], larger is better.
        positives: [N, M] bool, at least one true in each row.
        cutoffs: the k.

    Returns:
        `r@k` and `chance@k` for each k.

    Example:
        >>> recall_at(torch.tensor([[3.0, 1.0], [2.0, 1.0]]), torch.eye(2).bool(), (1,))
        {'r@1': 0.5, 'chance@1': 0.5}
    """
    best = scores.masked_fill(~positives, -torch.inf).amax(dim=1, keepdim=True)
    ahead = ((scores >= best) & ~positives).sum(dim=1)
    n_candidates = scores.shape[1]
    others = (n_candidates - positives.sum(dim=1)).double()
    result: dict[str, float] = {}
    for k in cutoffs:
        # no positive among k draws without replacement
        missed = torch.ones_like(others)
        for drawn in range(min(k, n_candidates)):
            missed *= ((others - drawn) / (n_candidates - drawn)).clamp(min=0)
        result[f"r@{k}"] = (ahead < k).double().mean().item()
        result[f"chance@{k}"] = (1 - missed).mean().item()
    return result


@torch.no_grad()
def retrieval(model: PretrainingModel, pairs: TextPairs, batch_size: int = 256) -> dict[str, float]:
    """Item-to-text retrieval in the contrastive space among `pairs`; equal items and equal texts count as hits.

    Args:
        model: with ITC on; its mode (train or eval) is restored.
        pairs: held-out item-text pairs.
        batch_size: items or texts at a time.

    Returns:
        As `recall_at`.
    """
    queries, texts, items, text_ids = [], [], [], []
    was_training = model.training
    model.eval()
    for batch in EvaluationBatches({ITEM_TEXT: pairs}, {ITEM_TEXT: batch_size}, seed=0):
        assert isinstance(batch, ItemTextBatch)
        device = model.device
        queries.append(model.item_queries(batch.items.to(device)))
        texts.append(model.texts(batch.token_ids.to(device), batch.mask.to(device)))
        items.append(batch.items)
        text_ids.append(batch.text_ids)
    model.train(was_training)
    all_texts = torch.cat(texts)
    scores = torch.cat([torch.einsum("aqe,be->abq", part, all_texts).amax(dim=2) for part in queries]).float().cpu()
    return recall_at(scores, positive_mask(torch.cat(items), torch.cat(text_ids)))


@torch.no_grad()
def bag_retrieval(
    model: PretrainingModel, pairs: TextPairs, vocabulary: Ints, batch_size: int = 64
) -> dict[str, float]:
    """The same through vocabulary grounding: texts ranked by the mean log-probability of their bags' tokens.

    A text's mean score over all items is taken off: common words must not decide the order.

    Args:
        model: with VG on.
        pairs: held-out item-text pairs with bags; those without a known token are left out.
        vocabulary: sorted LLM token ids of the model's `llm_embeddings`.
        batch_size: items at a time.

    Returns:
        As `recall_at`; empty if no bag holds a known token.
    """
    known = np.flatnonzero([np.isin(bag, vocabulary).any() for bag in pairs.bags])
    if len(known) == 0:
        return {}
    pairs = pairs.take(known)
    device = model.device
    bags, tokens = (torch.from_numpy(entry).to(device) for entry in bag_entries(pairs.bags, vocabulary))
    sizes = torch.bincount(bags, minlength=len(pairs)).float()
    was_training = model.training
    model.eval()
    scores = []
    for start in range(0, len(pairs), batch_size):
        log_probs = _mixture(model, torch.from_numpy(pairs.items[start : start + batch_size]).to(device))[:, tokens]
        scores.append(log_probs.new_zeros(len(log_probs), len(pairs)).index_add(1, bags, log_probs) / sizes)
    model.train(was_training)
    positives = positive_mask(torch.from_numpy(pairs.items), torch.from_numpy(pairs.text_ids))
    table = torch.cat(scores).cpu()
    return recall_at(table - table.mean(dim=0), positives)


def _mixture(model: PretrainingModel, rows: Tensor) -> Tensor:
    """Log-probabilities [n, V'] of the grounding vocabulary for the items at `rows`."""
    embeddings = model.get_buffer("llm_embeddings")
    soft = model.adapter(model.items(rows))
    n, size = len(rows), len(embeddings)
    items = torch.arange(n, device=soft.device)[:, None].expand(n, size).flatten()
    tokens = torch.arange(size, device=soft.device).repeat(n)
    return bag_log_probs(soft, embeddings, items, tokens, model.scale()).view(n, size)
