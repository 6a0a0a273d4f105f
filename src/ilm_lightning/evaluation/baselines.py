"""Recommenders without a language model, for scale: Markov, popularity, item-kNN and ALS.

Each scores the whole catalogue for a block of users from training data alone.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from ilm_lightning.evaluation.ranking import Ints, Ranking, Scores, blocks, ranking_from_ranks, ranks_of_scores

Scorer = Callable[[slice], Scores]
"""Scores ``[users in the block, I]`` of a block of users."""


@dataclass(frozen=True)
class Markov:
    """Counts of ordered consecutive training pairs; equal counts, and items that never followed, by popularity.

    Attributes:
        counts: ``[I, I]`` how often the column's item followed the row's.
        popularity: ``[I]`` training interactions.
        last: ``[U]`` the item before the target.
    """

    counts: sparse.csr_matrix
    popularity: Ints
    last: Ints

    def __call__(self, users: slice) -> Scores:
        """Score: the count, and as its fraction the popularity."""
        share = self.popularity / (self.popularity.max() + 1.0)
        # counts are small integers, so float32 holds count and fraction apart
        scores: Scores = (self.counts[self.last[users]].toarray() + share).astype(np.float32)
        return scores


@dataclass(frozen=True)
class Popularity:
    """The same list for everybody.

    Attributes:
        popularity: ``[I]`` training interactions.
        users: U.
    """

    popularity: Ints
    users: int

    def __call__(self, users: slice) -> Scores:
        """Score: the count."""
        count = len(range(*users.indices(self.users)))
        return np.broadcast_to(self.popularity.astype(np.float32), (count, len(self.popularity))).copy()


def item_knn(train: sparse.csr_matrix, history: sparse.csr_matrix, neighbours: int = 20) -> Scorer:
    """Item-kNN with cosine similarity (``implicit``).

    Args:
        train: ``[U, I]`` binary training interactions.
        history: ``[U, I]`` what each user is known to have met before the target.
        neighbours: similar items kept of each item.

    Returns:
        The scorer.
    """
    from implicit.nearest_neighbours import CosineRecommender

    model = CosineRecommender(K=neighbours)
    with warnings.catch_warnings():
        # the library warns about a conversion of its own
        warnings.simplefilter("ignore")
        model.fit(train.tocsr().astype(np.float64), show_progress=False)
    similarity = model.similarity.tocsr().astype(np.float32)
    met = history.tocsr().astype(np.float32)

    def score(users: slice) -> Scores:
        scores: Scores = (met[users] @ similarity).toarray()
        return scores

    return score


def dot_product(users: Scores, items: Scores) -> Scorer:
    """ALS: users' factors times items' factors.

    Args:
        users: ``[U, k]``.
        items: ``[I, k]``.

    Returns:
        The scorer.
    """

    def score(block: slice) -> Scores:
        scores: Scores = users[block] @ items.T
        return scores

    return score


def ranks_of(scorer: Scorer, targets: Ints, seen: sparse.csr_matrix | None = None) -> Ints:
    """Rank every user's target among the whole catalogue.

    Args:
        scorer: scores of a block of users.
        targets: ``[U]``.
        seen: ``[U, I]`` items that are filtered out; None filters nothing.

    Returns:
        ``[U]`` ranks from 1.
    """
    ranks = [
        ranks_of_scores(scorer(part), targets[part], None if seen is None else seen[part])
        for part in blocks(len(targets))
    ]
    return np.concatenate(ranks)


def evaluate(scorer: Scorer, targets: Ints, seen: sparse.csr_matrix | None = None) -> Ranking:
    """HR and NDCG over all users; arguments as in `ranks_of`."""
    return ranking_from_ranks(ranks_of(scorer, targets, seen))
