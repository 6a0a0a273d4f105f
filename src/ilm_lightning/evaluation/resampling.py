"""The nested bootstrap for hundreds of comparisons on one test set: all share one draw of movies."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ilm_lightning.evaluation.statistics import Difference, describe, movie_weights, run_shares

Floats = NDArray[np.float64]


class SharedDraws:
    """Draws of movies, and of runs, for every comparison on the same examples.

    Draws are kept in single precision: their spread is thousands of times its rounding.

    Args:
        counts: ``[M, T]`` number of examples per movie and task.
        tasks: ``T`` names.
        resamples: ``B``.
        seed: of the draw.
    """

    def __init__(self, counts: ArrayLike, tasks: Sequence[str], resamples: int = 5000, seed: int = 0) -> None:
        self.counts = np.asarray(counts, dtype=np.float64)
        self.tasks = list(tasks)
        self._seed, self._resamples = seed, resamples
        weights = movie_weights(len(self.counts), resamples, np.random.default_rng(seed))
        self._weights = np.concatenate([part.astype(np.float32) for part in weights])
        totals = self._weights @ self.counts.astype(np.float32)
        self._inverse = np.divide(1.0, totals, out=np.full_like(totals, np.nan), where=totals > 0)
        self._shares: dict[int, NDArray[np.float32]] = {}

    def difference(self, sums: Floats, level: float = 0.95) -> tuple[Difference, tuple[float, float]]:
        """Test one difference.

        Args:
            sums: ``[R, M, T]`` sum of the differences per run, movie and task.
            level: of the percentile intervals.

        Returns:
            The difference, and the 90 % interval of its mean over tasks, for a test of equality.
        """
        n_runs, n_movies, n_tasks = sums.shape
        flat = sums.transpose(1, 0, 2).reshape(n_movies, -1).astype(np.float32)
        by_run = (self._weights @ flat).reshape(-1, n_runs, n_tasks)
        shares = self._shares_of(n_runs)
        drawn = by_run[:, 0] * shares[:, :1]
        for run in range(1, n_runs):
            drawn += by_run[:, run] * shares[:, run : run + 1]
        drawn *= self._inverse
        per_task = (self.counts > 0).sum(0)
        means = (sums.sum(1) / self.counts.sum(0)).mean(0)
        found = describe(drawn, means, self.counts.sum(0) * n_runs, self.tasks, level, n_movies, per_task)
        low, high = np.percentile(np.nanmean(drawn, axis=1), [5.0, 95.0])
        return found, (float(low), float(high))

    def _shares_of(self, n_runs: int) -> NDArray[np.float32]:
        if n_runs not in self._shares:
            rng = np.random.default_rng(self._seed + 1)
            self._shares[n_runs] = run_shares(n_runs, self._resamples, rng).astype(np.float32)
        return self._shares[n_runs]
