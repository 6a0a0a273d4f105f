"""Where the spread of a difference comes from, trainings or movies; what it would take to decide a claim.

A few seeds make the outer draw of the nested bootstrap too narrow: of 3 runs it holds the truth 3 times of 4 at worst.
An interval of Student's kind, whose degrees of freedom follow from both sources (Satterthwaite, 1946), does not.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit

Floats = NDArray[np.float64]
POWER = 0.8
LARGEST = 10_000_000
"""Sizes above this are not told as a number."""
SMALLEST = 1e-12
"""Errors below this are none."""


@dataclass(frozen=True)
class Components:
    """Variance components of a difference over ``R`` runs and ``M`` movies; each array has one entry per task.

    Attributes:
        mean: ``[T + 1]`` mean per task, the mean of task means last.
        run: ``[T + 1]`` variance between trainings; 0 where one run tells nothing of it.
        movie: ``[T + 1]`` variance between movies, shared by all runs.
        rest: ``[T + 1]`` variance of a movie in a run, on top.
        n_runs: ``R``.
        n_movies: ``M``.
    """

    mean: Floats
    run: Floats
    movie: Floats
    rest: Floats
    n_runs: int
    n_movies: int

    def error(self, n_runs: float | None = None, n_movies: float | None = None, place: int = -1) -> float:
        """Standard error of the mean with so many runs and movies."""
        runs, movies = n_runs or self.n_runs, n_movies or self.n_movies
        variance = self.run[place] / runs + self.movie[place] / movies + self.rest[place] / (runs * movies)
        return float(math.sqrt(variance))

    def degrees(self, n_runs: float | None = None, n_movies: float | None = None) -> Floats:
        """Satterthwaite's degrees of freedom ``[T + 1]`` with so many runs and movies."""
        runs, movies = n_runs or self.n_runs, n_movies or self.n_movies
        if runs < 2:
            return np.full(len(self.mean), max(movies - 1.0, 1.0))
        between = (self.run + self.rest / movies) / runs
        within = self.movie / movies
        below = between**2 / (runs - 1) + within**2 / max(movies - 1, 1)
        return np.divide((between + within) ** 2, below, out=np.ones_like(below), where=below > 0)

    def errors(self) -> Floats:
        """Standard errors ``[T + 1]``."""
        return np.array([self.error(place=place) for place in range(len(self.mean))])

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Student's interval of the mean of task means."""
        half = float(stdtrit(self.degrees()[-1], 0.5 + level / 2)) * self.error()
        return float(self.mean[-1]) - half, float(self.mean[-1]) + half

    def p_values(self) -> Floats:
        """Two-sided p-values ``[T + 1]`` of a mean of zero."""
        errors = self.errors()
        t = np.divide(np.abs(self.mean), errors, out=np.full_like(errors, np.inf), where=errors > 0)
        p: Floats = 2.0 * stdtr(self.degrees(), -t)
        return np.where((errors == 0) & (self.mean == 0), 1.0, p)


def components(sums: ArrayLike, counts: ArrayLike) -> Components:
    """Split the spread of a paired difference.

    Args:
        sums: ``[R, M, T]`` sums of the differences per run, movie and task.
        counts: ``[M, T]`` number of examples.

    Returns:
        Components per task and, last, of the mean of task means.
    """
    s, n = np.asarray(sums, dtype=np.float64), np.asarray(counts, dtype=np.float64)
    n_runs, n_movies, _ = s.shape
    totals = n.sum(0)
    means = s.sum(1) / totals
    # what each movie adds to a task's mean, times M: its variance over M is that of the mean
    influence = n_movies * (s - means[:, None] * n) / totals
    influence = np.concatenate([influence, influence.mean(2, keepdims=True)], axis=2)
    run_means = np.concatenate([means, means.mean(1, keepdims=True)], axis=1)
    shared = influence.mean(0)
    movie_variance = shared.var(0, ddof=1) if n_movies > 1 else np.zeros(shared.shape[1])
    if n_runs < 2:
        zero = np.zeros_like(movie_variance)
        return Components(run_means.mean(0), zero, movie_variance, zero, n_runs, n_movies)
    rest = ((influence - shared) ** 2).sum((0, 1)) / ((n_runs - 1) * max(n_movies - 1, 1))
    return Components(
        mean=run_means.mean(0),
        run=np.maximum(run_means.var(0, ddof=1) - rest / n_movies, 0.0),
        movie=np.maximum(movie_variance - rest / n_runs, 0.0),
        rest=rest,
        n_runs=n_runs,
        n_movies=n_movies,
    )


@dataclass(frozen=True)
class Needed:
    """Sizes at which Student's test would decide with a power of 80 %.

    Attributes:
        movies: at the present number of runs; None where no number of movies is enough.
        runs: at the present number of movies; None where no number of runs is enough.
    """

    movies: int | None
    runs: int | None


def needed(found: Components, effect: float, margin: float | None = None, alpha: float = 0.05) -> Needed:
    """Estimate the sizes a decision takes, from the measured spread.

    Args:
        found: components of the difference.
        effect: size of the difference to be told from zero, or for an equality its distance from zero.
        margin: for a claim of equality its margin; None for a difference.
        alpha: level of the test: of a difference both sides together, of an equality each of the two one-sided tests.

    Returns:
        Numbers of movies and of runs.
    """
    # an equality has to hold against both ends of its margin, and either can be missed
    rooms, tail = ([abs(effect)], alpha / 2) if margin is None else ([margin - effect, margin + effect], alpha)

    def enough(runs: int, movies: int) -> bool:
        degrees, error = found.degrees(runs, movies)[-1], max(found.error(runs, movies), SMALLEST)
        missed = stdtr(degrees, stdtrit(degrees, 1 - tail) - np.array(rooms) / error)
        return float(missed.sum()) <= 1 - POWER

    return Needed(
        movies=_smallest(lambda movies: enough(found.n_runs, movies)),
        runs=_smallest(lambda runs: enough(runs, found.n_movies)) if found.n_runs > 1 else None,
    )


def _smallest(enough: Callable[[int], bool]) -> int | None:
    """The smallest size from 2 on that is enough; None where it lies above ``LARGEST``."""
    high = 2
    while not enough(high):
        high *= 2
        if high > LARGEST:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
