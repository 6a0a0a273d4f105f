"""Inputs and answers that know nothing, or little, of the item: what the item's own vector has to beat (PROTOCOL 6)."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]


def derangements(n: int, count: int = 5, seed: int = 0) -> Rows:
    """Draw permutations without fixed points, uniformly among all such.

    Args:
        n: number of movies.
        count: number of permutations.
        seed: of the draw.

    Returns:
        ``[count, n]``: row ``k`` gives movie ``i`` the vector of movie ``[k, i]``.

    Raises:
        ValueError: one movie only, which has no other to take a vector from.
    """
    if n == 1:
        raise ValueError("shuffling needs at least two movies; score more movies or leave the shuffled control out")
    rng = np.random.default_rng(seed)
    return np.stack([_derangement(n, rng) for _ in range(count)]) if count else np.zeros((0, n), dtype=np.int64)


def _derangement(n: int, rng: np.random.Generator) -> Rows:
    rows = np.arange(n)
    while True:  # a permutation has no fixed point with probability 1/e
        drawn = rng.permutation(n)
        if not (drawn == rows).any():
            return drawn


@dataclass(frozen=True)
class HardShuffle:
    """Partners that look alike.

    Attributes:
        partner: ``[n]``, whose vector each movie takes.
        hard: ``[n]``, True where the partner shares genre and decade; the others took the nearest group.
    """

    partner: Rows
    hard: Mask


def hard_derangement(groups: Sequence[tuple[Hashable, int]], seed: int = 0) -> HardShuffle:
    """Shuffle within main genre and decade.

    A movie alone in its group takes a movie of the nearest decade of its genre, else of the nearest decade at all;
    it is marked as not hard-shuffled.

    Args:
        groups: per movie its main genre and its decade (1990).
        seed: of the draw.

    Returns:
        A partner other than itself for each movie.

    Raises:
        ValueError: one movie only.
    """
    n = len(groups)
    if n == 1:
        raise ValueError("shuffling needs at least two movies; score more movies or leave the shuffled control out")
    rng = np.random.default_rng(seed)
    members: dict[tuple[Hashable, int], list[int]] = {}
    for movie, group in enumerate(groups):
        members.setdefault(group, []).append(movie)
    partner, hard = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.bool_)
    for (genre, decade), own in members.items():
        if len(own) > 1:
            rows = np.array(own)
            partner[rows], hard[rows] = rows[_derangement(len(own), rng)], True
            continue
        others = [group for group in members if group != (genre, decade)]
        nearest = min(others, key=lambda group: (group[0] != genre, abs(group[1] - decade)))
        partner[own[0]] = rng.choice(members[nearest])
    return HardShuffle(partner, hard)


def constant_target(train_targets: Floats) -> int:
    """Pick the one answer that fits all items best: the medoid of a task's training targets under the scorer.

    Args:
        train_targets: ``[n, d]`` embeddings of unit length.

    Returns:
        The row with the highest mean cosine to all others; the first of equal ones.

    Raises:
        ValueError: no training target.

    >>> constant_target(np.array([[1, 0], [0.8, 0.6], [0, 1]], dtype=np.float32))
    1
    """
    if len(train_targets) == 0:
        raise ValueError("no training targets to pick a constant answer from")
    return int(np.argmax(train_targets.astype(np.float64) @ train_targets.astype(np.float64).mean(0)))


def knn_copy(train: Mapping[str, Floats], test: Mapping[str, Floats], chunk: int = 1024) -> Rows:
    """Find each test movie's nearest training movie, whose target is then copied.

    Cosine over all sources together, each centred on its training mean and brought to the same root mean square norm.

    Args:
        train: per source ``[n, d]``.
        test: per source ``[m, d]``.
        chunk: test movies compared at once.

    Returns:
        ``[m]`` rows of ``train``.

    Raises:
        ValueError: no training movie, or other sources in the two sets.
    """
    if set(train) != set(test) or not train:
        raise ValueError(f"training vectors have sources {sorted(train)}, test vectors {sorted(test)}")
    left, right = [], []
    for name, rows in train.items():
        if len(rows) == 0:
            raise ValueError("no training movie to copy from")
        centre = rows.mean(0)
        centred = rows - centre
        scale = max(float(np.sqrt((centred**2).sum(1).mean())), 1e-12)
        left.append(centred / scale)
        right.append((test[name] - centre) / scale)
    table, queries = _unit(np.concatenate(left, axis=1)), _unit(np.concatenate(right, axis=1))
    parts = [np.argmax(queries[at : at + chunk] @ table.T, axis=1) for at in range(0, len(queries), chunk)]
    return np.concatenate(parts).astype(np.int64) if parts else np.zeros(0, dtype=np.int64)


def _unit(rows: Floats) -> Floats:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))
