"""A random order of numbers that is computed where it is read, not stored."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
ROUNDS = 6


def shuffled(places: Ints, count: int, key: int | Sequence[int]) -> Ints:
    """Return what stands at places of a random permutation of ``0 … count - 1``.

    A Feistel network permutes the numbers below the next power of four; one that lands at ``count`` or above is
    permuted again until it lands below (Black and Rogaway, 2002).

    Args:
        places: ``[n]`` places, each in ``0 … count - 1``.
        count: length of the permutation, at most ``2 ** 62``.
        key: chooses the permutation.

    Returns:
        ``[n]`` numbers in ``0 … count - 1``, distinct for distinct places.

    >>> sorted(shuffled(np.arange(5), 5, key=1).tolist())
    [0, 1, 2, 3, 4]
    """
    half = np.uint64(max(1, (max(count - 1, 1).bit_length() + 1) // 2))
    keys = np.random.default_rng(key).integers(0, 2**63, ROUNDS, dtype=np.uint64)
    numbers = _permuted(np.asarray(places).astype(np.uint64), half, keys)
    outside = np.flatnonzero(numbers >= count)
    while len(outside):
        again = _permuted(numbers[outside], half, keys)
        numbers[outside] = again
        outside = outside[again >= count]
    return numbers.astype(np.int64)


def _permuted(numbers: NDArray[np.uint64], half: np.uint64, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """One pass of the network over numbers of ``2 * half`` bits."""
    low = np.uint64((1 << int(half)) - 1)
    left, right = numbers >> half, numbers & low
    for key in keys:
        left, right = right, left ^ (_mixed(right + key) & low)
    result: NDArray[np.uint64] = (left << half) | right
    return result


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spread every bit over all others (the finaliser of SplitMix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = values ^ (values >> np.uint64(31))
    return mixed
