"""The teacher's spread: how far apart the targets of different movies are, which is all that vectors can win."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# below this many points a task says nothing about the vectors
INFORMATIVE = 10.0


@dataclass(frozen=True)
class Spread:
    """A task's spread.

    Attributes:
        other: mean SC of another movie's target to this movie's.
        room: ``100 - other``, what vectors can win.
        informative: whether ``room`` is at least 10 points.
        n: number of targets.
    """

    other: float
    room: float
    informative: bool
    n: int


def teacher_spread(targets: NDArray[np.float32], movies: Sequence[Hashable]) -> Spread | None:
    """Measure one task's spread over all pairs of targets of different movies.

    Args:
        targets: ``[n, d]`` embeddings of unit length.
        movies: ``[n]`` whose target each is.

    Returns:
        The spread; None with fewer than two movies.

    Raises:
        ValueError: not one movie per target.
    """
    if len(targets) != len(movies):
        raise ValueError(f"{len(targets)} targets, {len(movies)} movies: give one movie per target")
    vectors = targets.astype(np.float64)
    sums: dict[Hashable, NDArray[np.float64]] = {}
    counts: dict[Hashable, int] = {}
    for movie, vector in zip(movies, vectors, strict=True):
        sums[movie] = sums.get(movie, np.zeros_like(vector)) + vector
        counts[movie] = counts.get(movie, 0) + 1
    # all pairs, less the pairs within a movie
    pairs = len(vectors) ** 2 - sum(count**2 for count in counts.values())
    if pairs == 0:
        return None
    total = float((vectors.sum(0) ** 2).sum() - sum(float((own**2).sum()) for own in sums.values()))
    other = 100.0 * total / pairs
    return Spread(other, 100.0 - other, 100.0 - other >= INFORMATIVE, len(vectors))
