"""One half of a sweep of ALS, exact: every row's vector given the other side's vectors.

With one confidence ``alpha`` for all that happened, a row with items ``Y_u`` [n, k] solves
``(Y'Y + regularization I + (alpha - 1) Y_u'Y_u) x = alpha Y_u' 1``. Rows of about one length are gathered into one
array and multiplied and solved together, pieces of rows in parallel: the work is matrix products, a third of the time
of a library that adds one outer product at a time.
"""

from collections.abc import Iterator
from concurrent.futures import Executor
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

Array = NDArray[np.floating]
CELLS = 1 << 13
"""Gathered vectors of a piece; more of them would not stay in the processor's cache."""


def solve_rows(fixed: Array, rows: csr_matrix, regularization: float, alpha: float, pool: Executor) -> Array:
    """Solve for the vectors of all rows.

    Each row's numbers depend on that row alone, bit for bit: not on the other rows, nor on the number of threads.

    Args:
        fixed: ``[n, k]`` vectors of the other side, float32 or float64; the computation is in their precision.
        rows: ``[R, n]``, what is not zero counts once.
        regularization: weight of the squared norms.
        alpha: confidence of an entry relative to a missing one.
        pool: threads that share the pieces; BLAS should have one thread of its own.

    Returns:
        ``[R, k]``; zero for a row without entries.
    """
    count, width = fixed.shape
    solved = np.zeros((rows.shape[0], width), dtype=fixed.dtype)
    shared = fixed.T @ fixed + fixed.dtype.type(regularization) * np.eye(width, dtype=fixed.dtype)
    # rows are filled up to equal length with a vector of zeros
    padded = np.concatenate([fixed, np.zeros((1, width), dtype=fixed.dtype)])
    starts, lengths = rows.indptr[:-1], np.diff(rows.indptr)

    def solve(piece: tuple[NDArray[np.intp], int]) -> None:
        mine, length = piece
        places = np.minimum(starts[mine, None] + np.arange(length), len(rows.indices) - 1)
        entries = rows.indices[places]
        # beyond the shortest row's end, places may belong to the next row
        shortest = int(lengths[mine].min())
        entries[:, shortest:][np.arange(shortest, length) >= lengths[mine, None]] = count
        own = padded.take(entries, axis=0)
        systems = own.transpose(0, 2, 1) @ own
        systems *= fixed.dtype.type(alpha - 1.0)
        systems += shared
        right = np.full((1, length), alpha, dtype=fixed.dtype) @ own
        solved[mine] = _solve(systems, right)

    # the list lets an error in a piece be seen
    list(pool.map(solve, _pieces(lengths)))
    return solved


def _solve(systems: Array, right: Array) -> Array:
    """Solve positive definite systems ``[B, k, k]`` for ``right`` ``[B, 1, k]``; gives ``[B, k]``.

    By torch, whose Cholesky of many small matrices takes two thirds of the time of numpy's and scipy's solvers.
    """
    factor, faults = torch.linalg.cholesky_ex(torch.from_numpy(systems))
    if faults.any():
        raise np.linalg.LinAlgError("Singular matrix")
    solution: Array = torch.cholesky_solve(torch.from_numpy(right).mT, factor)[..., 0].numpy()
    return solution


def _pieces(lengths: NDArray[np.integer]) -> Iterator[tuple[NDArray[np.intp], int]]:
    """Rows of one length at a time, at most `CELLS` entries together; the longest first, so that threads end together.

    A length is rounded up to four binary digits: little is filled up, and it follows from the row alone.
    """
    shift = np.maximum(np.frexp(lengths)[1] - 4, 0)
    rounded = -(-lengths >> shift) << shift
    order = np.argsort(-rounded, kind="stable")
    order = order[rounded[order] > 0]
    bounds = np.flatnonzero(np.diff(rounded[order], prepend=0, append=0))
    for start, end in pairwise(bounds.tolist()):
        length = int(rounded[order[start]])
        size = max(1, CELLS // length)
        for first in range(start, end, size):
            yield order[first : min(first + size, end)], length
