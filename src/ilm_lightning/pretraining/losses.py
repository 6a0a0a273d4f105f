"""Losses of phase 1 as pure functions: ITC, ITM, ITG, the pair losses IIC and UIC, and vocabulary grounding (VG).

Letters in shapes: B pairs in the batch, q queries, e width of the contrastive space, V vocabulary, d width of the LLM.
ITC, ITM and ITG follow BLIP-2 (arXiv 2301.12597, 3.2); the pair loss is equation 2 of the ILM paper; VG is ours.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

ITM_PRIOR = 0.6365
"""Entropy in nats of ITM's labels, one match to two mismatches. A loss resting here means "nothing learned"."""

IGNORED = -100
"""Target value of positions that do not count."""


class ItcOutput(NamedTuple):
    """Result of `itc_loss`.

    Attributes:
        loss: scalar, mean of both directions.
        similarities: [B, B], items in rows and texts in columns, already divided by the temperature.
    """

    loss: Tensor
    similarities: Tensor


class HardNegatives(NamedTuple):
    """Result of `sample_hard_negatives`; all three are [B].

    Attributes:
        items: for each text, the row of an item that it does not describe.
        texts: for each item, the row of a text that does not describe it.
        valid: False where the batch holds no negative for this row; `items` and `texts` then hold the row itself.
    """

    items: Tensor
    texts: Tensor
    valid: Tensor


def positive_mask(item_ids: Tensor, text_ids: Tensor) -> Tensor:
    """Which texts of the batch fit which items: equal item or equal text.

    Args:
        item_ids: [B], the catalogue row of each pair's item.
        text_ids: [B], equal for equal texts.

    Returns:
        [B, B] bool, symmetric.

    Example:
        >>> positive_mask(torch.tensor([7, 8, 7]), torch.tensor([1, 2, 3])).int().tolist()
        [[1, 0, 1], [0, 1, 0], [1, 0, 1]]
    """
    return (item_ids[:, None] == item_ids) | (text_ids[:, None] == text_ids)


def itc_loss(
    query_proj: Tensor,
    text_proj: Tensor,
    temperature: Tensor | float,
    item_ids: Tensor,
    text_ids: Tensor,
    *,
    label_smoothing: float = 0.1,
) -> ItcOutput:
    """Item-text contrast: each item finds its text among the batch's texts, and each text its item.

    The similarity of an item and a text is the largest over the item's queries, chosen for each candidate apart.
    Targets are uniform over the positives of `positive_mask`, so that an equal item or text is never a negative.

    Args:
        query_proj: [B, q, e], L2-normalised.
        text_proj: [B, e], L2-normalised.
        temperature: similarities are divided by it.
        item_ids: [B].
        text_ids: [B].
        label_smoothing: share of each target spread evenly over all candidates.

    Returns:
        The loss and the similarities.

    Example:
        Two items with one query each, orthogonal: the logits are [[1, 0], [0, 1]], the loss log(1 + 1/e).

        >>> eye, ids = torch.eye(2), torch.arange(2)
        >>> round(itc_loss(eye[:, None], eye, 1.0, ids, ids, label_smoothing=0.0).loss.item(), 4)
        0.3133
    """
    similarities = torch.einsum("aqe,be->abq", query_proj, text_proj).amax(dim=2) / temperature
    positives = positive_mask(item_ids, text_ids).to(similarities.dtype)
    targets = positives / positives.sum(dim=1, keepdim=True)
    item_to_text = F.cross_entropy(similarities, targets, label_smoothing=label_smoothing)
    text_to_item = F.cross_entropy(similarities.T, targets, label_smoothing=label_smoothing)
    return ItcOutput((item_to_text + text_to_item) / 2, similarities)


def sample_hard_negatives(
    similarities: Tensor, item_ids: Tensor, text_ids: Tensor, generator: torch.Generator | None = None
) -> HardNegatives:
    """Draw one negative item per text and one negative text per item, the more similar the likelier.

    One draw for all rows: a candidate's weight is the softmax of its similarity over the row's true negatives.

    Args:
        similarities: [B, B], items in rows, divided by the temperature; used without gradient.
        item_ids: [B].
        text_ids: [B].
        generator: source of randomness, on the device of `similarities`.

    Returns:
        The drawn rows.

    Example:
        With two different pairs there is only one choice; a batch of one item has none.

        >>> ids = torch.arange(2)
        >>> [t.tolist() for t in sample_hard_negatives(torch.zeros(2, 2), ids, ids)]
        [[1, 0], [1, 0], [True, True]]
        >>> sample_hard_negatives(torch.zeros(1, 1), ids[:1], ids[:1]).valid.tolist()
        [False]
    """
    candidates = ~positive_mask(item_ids, text_ids)
    valid = candidates.any(dim=1)
    # a row without a candidate takes itself, so that the one draw stays defined for all rows
    allowed = candidates | torch.diag(~valid)
    # a loss that is not a number is reported with its batch later; the draw must not fail first
    scores = similarities.detach().float().nan_to_num()
    both = torch.stack([scores.T, scores])
    weights = both.masked_fill(~allowed, -torch.inf).softmax(dim=2)
    drawn = torch.multinomial(weights.flatten(0, 1), 1, generator=generator).view(2, -1)
    return HardNegatives(drawn[0], drawn[1], valid)


def itm_loss(logits: Tensor, n_matched: int | None = None) -> tuple[Tensor, Tensor]:
    """Item-text matching: tell true pairs from hard negatives.

    Args:
        logits: [3B, 2], already averaged over the queries; column 1 means "match". The B true pairs come first.
        n_matched: number of true pairs, where it is not a third of the rows.

    Returns:
        Mean cross-entropy and accuracy, both scalars.

    Example:
        Logits that only know the prior, one match to two mismatches:

        >>> prior = torch.tensor([[2 / 3, 1 / 3]]).log().expand(3, 2)
        >>> loss, accuracy = itm_loss(prior)
        >>> round(loss.item(), 4) == ITM_PRIOR, round(accuracy.item(), 4)
        (True, 0.6667)
    """
    matched = len(logits) // 3 if n_matched is None else n_matched
    labels = (torch.arange(len(logits), device=logits.device) < matched).long()
    accuracy = (logits.argmax(dim=1) == labels).float().mean()
    return F.cross_entropy(logits.float(), labels), accuracy


def itg_loss(logits: Tensor, targets: Tensor, *, label_smoothing: float = 0.1) -> tuple[Tensor, Tensor]:
    """Item-grounded text generation: the mean cross-entropy of the next token.

    Args:
        logits: [..., V]; position t predicts `targets[..., t]`, the shift is done by the caller.
        targets: [...], token ids; `IGNORED` (-100) for positions that do not count.
        label_smoothing: share of each target spread over the vocabulary, in the first value returned only.

    Returns:
        Smoothed loss (to train on) and plain negative log-likelihood (to report). Both 0 if nothing is left to predict.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0], [9.0, 9.0]])
        >>> smoothed, plain = itg_loss(logits, torch.tensor([0, -100]))
        >>> round(plain.item(), 4), round(smoothed.item(), 4)  # log(1 + e^-2), and 0.05 * 2 on top
        (0.1269, 0.2269)
    """
    keep = targets != IGNORED
    rows, wanted = logits[keep].float(), targets[keep]
    if len(wanted) == 0:
        zero = logits.sum() * 0.0
        return zero, zero.detach()
    log_probs = rows.log_softmax(dim=-1)
    plain = -log_probs.gather(1, wanted[:, None]).mean()
    smoothed = (1.0 - label_smoothing) * plain - label_smoothing * log_probs.mean()
    return smoothed, plain.detach()


def pair_contrastive_loss(
    left: Tensor, right: Tensor, together: Tensor, *, margin: float = 1.0, eps: float = 1e-12
) -> tuple[Tensor, Tensor]:
    """Equation 2 of the ILM paper: related pairs are drawn together, others pushed apart up to the margin.

    L = 1/(2N) sum_i [y d^2 + (1 - y) max(0, m - d)^2] with d the Euclidean distance and N the number of pairs.
    With as many unrelated as related pairs, a loss at m^2 / 8 means that the two are not told apart (all at m / 2).

    Args:
        left: [N, e].
        right: [N, e].
        together: [N], true where the pair is related (y = 1).
        margin: distance m beyond which an unrelated pair costs nothing.
        eps: added inside the root, where the gradient of two equal vectors would be infinite.

    Returns:
        The loss and the share of unrelated pairs still within the margin (0 if there is none), both scalars.

    Example:
        A related pair at distance 1 and an unrelated one at 0.5: (1 + 0.25) / 4.

        >>> x, y = torch.zeros(2, 1), torch.tensor([[1.0], [0.5]])
        >>> loss, active = pair_contrastive_loss(x, y, torch.tensor([True, False]))
        >>> round(loss.item(), 4), active.item()
        (0.3125, 1.0)
    """
    squared = (left - right).float().square().sum(dim=1)
    related = together.bool()
    hinge = (margin - (squared + eps).sqrt()).clamp(min=0.0)
    loss = torch.where(related, squared, hinge.square()).sum() / (2 * max(len(squared), 1))
    unrelated = ~related
    active = ((hinge > 0) & unrelated).sum() / unrelated.sum().clamp(min=1)
    return loss, active


def in_batch_pair_loss(
    left: Tensor, right: Tensor, related: Tensor, *, margin: float = 1.0, eps: float = 1e-12
) -> tuple[Tensor, Tensor]:
    """Equation 2 with every unrelated combination of the batch, related and unrelated pairs averaged apart.

    Args:
        left: [B, e].
        right: [B, e]; row b is related to row b of `left`.
        related: [B, B] bool, combinations that must not serve as negatives (the diagonal counts as related anyway).
        margin: as in `pair_contrastive_loss`.
        eps: as in `pair_contrastive_loss`.

    Returns:
        The loss (half the sum of the two means) and the share of active negatives.

    Example:
        Positives at distance 0; of the negatives at distance 0.5 one is masked: 1/2 * (0 + 0.25).

        >>> x = torch.tensor([[0.0], [0.5]])
        >>> loss, active = in_batch_pair_loss(x, x, torch.tensor([[True, True], [False, True]]))
        >>> round(loss.item(), 4), active.item()
        (0.125, 1.0)
    """
    difference = left.float()[:, None] - right.float()[None]
    squared = difference.square().sum(dim=2)
    negative = ~(related | torch.eye(len(left), dtype=torch.bool, device=left.device))
    hinge = (margin - (squared + eps).sqrt()).clamp(min=0.0) * negative
    n_negative = negative.sum().clamp(min=1)
    loss = (squared.diagonal().mean() + hinge.square().sum() / n_negative) / 2
    return loss, (hinge > 0).sum() / n_negative


def in_batch_info_nce(left: Tensor, right: Tensor, related: Tensor, *, temperature: float = 0.07) -> Tensor:
    """InfoNCE over the batch, both directions; known related combinations are left out of the denominators.

    Args:
        left: [B, e], L2-normalised.
        right: [B, e], L2-normalised; row b is related to row b of `left`.
        related: [B, B] bool, combinations that must not serve as negatives.
        temperature: cosines are divided by it.

    Returns:
        Scalar loss.

    Example:
        >>> round(in_batch_info_nce(torch.eye(2), torch.eye(2), torch.eye(2).bool(), temperature=1.0).item(), 4)
        0.3133
    """
    logits = (left.float() @ right.float().T) / temperature
    labels = torch.arange(len(left), device=left.device)
    own = torch.eye(len(left), dtype=torch.bool, device=left.device)
    logits = logits.masked_fill(related & ~own, -torch.inf)
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


def vocabulary_grounding_loss(
    soft: Tensor,
    embedding_rows: Tensor,
    bag_items: Tensor,
    bag_tokens: Tensor,
    scale: Tensor | float,
    *,
    token_weights: Tensor | None = None,
) -> Tensor:
    """Vocabulary grounding (ours): soft tokens name the words of the item's text in the LLM's own embedding space.

    Every query gives a softmax over scale * cosine to the embedding rows. The mean of the queries' distributions
    predicts the item's bag of tokens: cross-entropy, each distinct token once, averaged over items with a bag.

    Args:
        soft: [n, q, d], any length (normalised here).
        embedding_rows: [V', d], the LLM's input embeddings of the tokens that can be asked for.
        bag_items: [T], row of `soft` of each entry of the bags.
        bag_tokens: [T], row of `embedding_rows` of each entry; distinct within an item.
        scale: sharpness s of the softmaxes.
        token_weights: [V'], weight of a token in its bags (for instance idf); None = all equal.

    Returns:
        Scalar loss in nats a token; 0 if all bags are empty.

    Example:
        One query equal to the first of two orthogonal rows, the bag holds this token: log(1 + e^-2).

        >>> one = torch.tensor([[[3.0, 0.0]]])
        >>> zero = torch.zeros(1, dtype=torch.long)
        >>> round(vocabulary_grounding_loss(one, torch.eye(2), zero, zero, 2.0).item(), 4)
        0.1269
    """
    log_probs = bag_log_probs(soft, embedding_rows, bag_items, bag_tokens, scale)
    weights = torch.ones_like(log_probs) if token_weights is None else token_weights[bag_tokens].to(log_probs)
    total = weights.new_zeros(len(soft)).index_add(0, bag_items, weights)
    shares = weights / total[bag_items].clamp(min=torch.finfo(weights.dtype).tiny)
    return -(shares * log_probs).sum() / (total > 0).sum().clamp(min=1)


def bag_log_probs(
    soft: Tensor, embedding_rows: Tensor, bag_items: Tensor, bag_tokens: Tensor, scale: Tensor | float
) -> Tensor:
    """Log-probability [T] of each bag entry under its item's mixture; arguments as `vocabulary_grounding_loss`.

    Only the entries asked for leave the [n, q, V'] logits: log p = logsumexp_q(logit - logsumexp_V logit) - log q.

    Example:
        Two queries, one on each row: the mixture is even.

        >>> zero = torch.zeros(1, dtype=torch.long)
        >>> round(bag_log_probs(torch.eye(2)[None], torch.eye(2), zero, zero, 5.0).exp().item(), 4)
        0.5
    """
    directions = F.normalize(soft.float(), dim=-1)
    rows = F.normalize(embedding_rows.float(), dim=-1)
    logits = (directions @ rows.T).float() * scale
    normaliser = logits.logsumexp(dim=-1)
    chosen = logits[bag_items, :, bag_tokens] - normaliser[bag_items]
    return chosen.logsumexp(dim=1) - math.log(soft.shape[1])
