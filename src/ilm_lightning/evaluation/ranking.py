"""HR@K and NDCG@K with one relevant item a user, from ranked lists or from scores of the whole catalogue."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Ints = NDArray[np.int64]
Scores = NDArray[np.floating[Any]]
NO_ITEM = -1
"""In a ranked list: a place that holds nothing, or an output that is not of an item's form."""
UNKNOWN_ITEM = -2
"""In a ranked list: an output of an item's form that names no item of the catalogue; it keeps its place."""
CUTS = (5, 10)


@dataclass(frozen=True)
class Ranking:
    """Measures over users.

    Attributes:
        hr: K -> share of users whose target is among the first K.
        ndcg: K -> mean of 1 / log2(rank + 1) where the target is among the first K, else 0.
        hr_error: K -> standard error of ``hr`` over users.
        ndcg_error: K -> standard error of ``ndcg``.
        users: number of users.
        invalid: share of list places that hold no item (0 where whole catalogues were scored).
        duplicates: share of list places that repeat an item of the same list.
    """

    hr: dict[int, float]
    ndcg: dict[int, float]
    hr_error: dict[int, float]
    ndcg_error: dict[int, float]
    users: int
    invalid: float = 0.0
    duplicates: float = 0.0


def ranking_of_users(ranks: Ints, tied: NDArray[np.bool_] | None, whole: Ranking | None = None) -> dict[str, Any]:
    """Measures over all users and, where times are known, over those whose last two items have times of their own.

    Which of two items with the same time is the test item was chance.

    Args:
        ranks: as in `ranking_from_ranks`.
        tied: ``[U]`` whose last two items have the same time; None: not known.
        whole: the measures over all, where they are there already.

    Returns:
        The measures as a mapping; ``untied`` holds the same of the users without a tie, if there are both kinds (the
        shares of invalid and repeated outputs are those of all).
    """
    found = asdict(whole or ranking_from_ranks(ranks))
    if tied is not None and tied.any() and not tied.all():
        shares = {key: found[key] for key in ("invalid", "duplicates")}
        found["untied"] = asdict(ranking_from_ranks(ranks[~tied], **shares))
    return found


def ranking_from_ranks(
    ranks: Ints, cuts: Sequence[int] = CUTS, invalid: float = 0.0, duplicates: float = 0.0
) -> Ranking:
    """Average over users.

    Args:
        ranks: ``[U]`` place of each user's target from 1; 0 where it is in no place.
        cuts: the K.
        invalid: share to report.
        duplicates: share to report.

    Returns:
        The measures.

    Raises:
        ValueError: no users.

    >>> found = ranking_from_ranks(np.array([1, 3, 0, 7]), cuts=(5,))
    >>> found.hr, round(found.ndcg[5], 3)
    ({5: 0.5}, 0.375)
    """
    if len(ranks) == 0:
        raise ValueError("no users to rank for; give at least one")
    hr, ndcg, hr_error, ndcg_error = {}, {}, {}, {}
    gains = np.where(ranks > 0, 1.0 / np.log2(np.maximum(ranks, 1) + 1.0), 0.0)
    for cut in cuts:
        hit = (ranks > 0) & (ranks <= cut)
        gain = np.where(hit, gains, 0.0)
        hr[cut], hr_error[cut] = float(hit.mean()), _error(hit.astype(np.float64))
        ndcg[cut], ndcg_error[cut] = float(gain.mean()), _error(gain)
    return Ranking(hr, ndcg, hr_error, ndcg_error, len(ranks), invalid, duplicates)


def _error(values: NDArray[np.float64]) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


def ranks_in_lists(lists: Ints, targets: Ints) -> Ints:
    """Find the targets in ranked lists; the first of equal items counts, and every place counts as it stands.

    Args:
        lists: ``[U, K]`` catalogue rows, best first; `NO_ITEM` or `UNKNOWN_ITEM` where an output named no item.
        targets: ``[U]`` catalogue rows.

    Returns:
        ``[U]`` places from 1, 0 where the target is not in the list.

    Raises:
        ValueError: not as many lists as targets.

    >>> ranks_in_lists(np.array([[4, 2, 2], [-1, 3, 1]]), np.array([2, 9])).tolist()
    [2, 0]
    """
    if lists.ndim != 2 or len(lists) != len(targets):
        raise ValueError(f"ranked lists of shape {lists.shape} do not fit {len(targets)} targets; give one list a user")
    hits = lists == targets[:, None]
    return np.where(hits.any(1), hits.argmax(1) + 1, 0).astype(np.int64)


def ranking_of_lists(lists: Ints, targets: Ints, drop_invalid: bool = True, cuts: Sequence[int] = CUTS) -> Ranking:
    """Measure ranked lists.

    Args:
        lists: ``[U, K]`` as in `ranks_in_lists`.
        targets: ``[U]``.
        drop_invalid: outputs that are not of an item's form are taken out and later ones move up (the paper); else
            they keep their place, as those of an unknown item always do.
        cuts: the K.

    Returns:
        The measures, with the shares of invalid and repeated places.
    """
    lists = np.asarray(lists, dtype=np.int64)
    kept = compact(lists) if drop_invalid else lists
    invalid = float((lists < 0).mean()) if lists.size else 0.0
    return ranking_from_ranks(ranks_in_lists(kept, targets), cuts, invalid, duplicate_share(lists))


def compact(lists: Ints) -> Ints:
    """Move what stands in each list before its empty places, in order; an unknown item is no empty place.

    >>> compact(np.array([[-1, 5, -2, -1, 6]])).tolist()
    [[5, -2, 6, -1, -1]]
    """
    order = np.argsort(lists == NO_ITEM, axis=1, kind="stable")
    return np.take_along_axis(lists, order, axis=1)


def duplicate_share(lists: Ints) -> float:
    """Share of places that repeat an earlier item of the same list.

    >>> duplicate_share(np.array([[1, 1, 2, -1], [3, 4, 5, 6]]))
    0.125
    """
    if not lists.size:
        return 0.0
    ordered = np.sort(lists, axis=1)
    repeats = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    return float(repeats.sum() / lists.size)


def ranks_of_scores(scores: Scores, targets: Ints, seen: sparse.csr_matrix | None = None) -> Ints:
    """Rank each user's target among the whole catalogue; equal scores by item row.

    Args:
        scores: ``[U, I]``.
        targets: ``[U]`` catalogue rows.
        seen: ``[U, I]``, true where an item may not be recommended.

    Returns:
        ``[U]`` ranks from 1; 0 where the target is one of those, as in a list that cannot hold it.

    Raises:
        ValueError: a score that is not a number.

    >>> ranks_of_scores(np.array([[0.5, 0.9, 0.5]], dtype=np.float32), np.array([2])).tolist()
    [3]
    """
    if np.isnan(scores).any():
        raise ValueError("a score is not a number (NaN); nothing can be ranked by it")
    rows = np.arange(len(targets))
    own = scores[rows, targets][:, None]
    above = scores > own
    above |= (scores == own) & (np.arange(scores.shape[1]) < targets[:, None])
    hidden = np.zeros(scores.shape, np.bool_) if seen is None else seen.toarray().astype(np.bool_)
    ranks: Ints = np.where(hidden[rows, targets], 0, (above & ~hidden).sum(1) + 1).astype(np.int64)
    return ranks


def top_items(scores: Scores, k: int, seen: sparse.csr_matrix | None = None) -> Ints:
    """Give each user's best items; equal scores by item row.

    Args:
        scores: ``[U, I]``.
        k: length of the lists.
        seen: ``[U, I]``, true where an item may not be recommended.

    Returns:
        ``[U, k]`` catalogue rows, best first; `NO_ITEM` where fewer items are allowed.
    """
    masked = scores.astype(np.float64)
    if seen is not None:
        masked[seen.toarray().astype(np.bool_)] = -np.inf
    order = np.argsort(-masked, axis=1, kind="stable")[:, :k]
    lists = np.where(np.isfinite(np.take_along_axis(masked, order, axis=1)), order, NO_ITEM)
    missing = k - lists.shape[1]
    return np.pad(lists, ((0, 0), (0, max(missing, 0))), constant_values=NO_ITEM).astype(np.int64)


def blocks(count: int, size: int = 1024) -> Iterator[slice]:
    """Cut users into blocks, so that a score matrix never holds them all.

    >>> list(blocks(5, 2))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))
