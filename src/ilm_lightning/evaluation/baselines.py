"""Recommenders without a language model, for scale: Markov, popularity, item-kNN and ALS.

Each scores the whole catalogue for a block of users from training data alone.
"""

import warnings
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy import sparse

from ilm_lightning.evaluation.ranking import Ints, Ranking, Scores, blocks, ranking_from_ranks, ranks_of_scores


class Scorer(Protocol):
    """Scores the whole catalogue for blocks of users."""

    @property
    def parameters(self) -> int:
        """Numbers that were counted or learned from training data."""

    def __call__(self, users: slice) -> Scores:
        """Scores ``[users in the block, I]``."""


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

    @property
    def parameters(self) -> int:
        """Pairs that occur, and the popularities."""
        return int(self.counts.nnz + self.popularity.size)

    def __call__(self, users: slice) -> Scores:
        """Score: the count, and as its fraction the popularity."""
        # one step of popularity must not vanish beside a count, as it would in single precision
        share = self.popularity / (self.popularity.max() + 1.0)
        return np.asarray(self.counts[self.last[users]].toarray().astype(np.float64) + share)


@dataclass(frozen=True)
class Popularity:
    """The same list for everybody.

    Attributes:
        popularity: ``[I]`` training interactions.
        users: U.
    """

    popularity: Ints
    users: int

    @property
    def parameters(self) -> int:
        """One count an item."""
        return int(self.popularity.size)

    def __call__(self, users: slice) -> Scores:
        """Score: the count."""
        count = len(range(*users.indices(self.users)))
        return np.broadcast_to(self.popularity.astype(np.float32), (count, len(self.popularity))).copy()


@dataclass(frozen=True)
class Linear:
    """Users times items.

    Attributes:
        users: ``[U, k]``, dense or sparse.
        items: ``[k, I]``, dense or sparse.
    """

    users: sparse.csr_matrix | Scores
    items: sparse.csr_matrix | Scores

    @property
    def parameters(self) -> int:
        """Numbers of the items' side that are not zero; the users' side follows from it and the history."""
        return int(np.count_nonzero(self.items) if isinstance(self.items, np.ndarray) else self.items.nnz)

    def __call__(self, users: slice) -> Scores:
        """Score: the product."""
        product = self.users[users] @ self.items
        scores: Scores = product if isinstance(product, np.ndarray) else product.toarray()
        return scores


def item_knn(train: sparse.csr_matrix, history: sparse.csr_matrix, neighbours: int = 20) -> Linear:
    """Item-kNN with cosine similarity (``implicit``).

    Args:
        train: ``[U, I]`` binary training interactions.
        history: ``[U, I]`` what each user is known to have met before the target.
        neighbours: other items kept of each item, the most similar ones.

    Returns:
        The scorer.
    """
    from implicit.nearest_neighbours import CosineRecommender

    # the library counts each item among its own neighbours
    model = CosineRecommender(K=neighbours + 1)
    with warnings.catch_warnings():
        # the library warns about a conversion of its own
        warnings.simplefilter("ignore")
        model.fit(train.tocsr().astype(np.float64), show_progress=False)
    entries = model.similarity.tocoo()
    others = entries.row != entries.col
    places = (entries.row[others], entries.col[others])
    kept = sparse.csr_matrix((entries.data[others].astype(np.float32), places), shape=entries.shape)
    return Linear(history.tocsr().astype(np.float32), kept)


def dot_product(users: Scores, items: Scores) -> Linear:
    """ALS: users' factors ``[U, k]`` times items' factors ``[I, k]``."""
    return Linear(users, items.T)


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
