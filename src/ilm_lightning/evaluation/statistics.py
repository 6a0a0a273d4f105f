"""Intervals and tests with the movie as the unit: all of a movie's tasks are drawn together (PROTOCOL 6)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
# resamples held in memory at once: weights of chunk x movies
CHUNK = 500
# means nearer to 0 than this are 0: equal texts have equal scores up to the order of a sum
ROUNDING = 1e-9


@dataclass(frozen=True)
class TaskDifference:
    """One task's mean difference.

    Attributes:
        mean: over the task's examples.
        low: lower end of its interval.
        high: upper end.
        p: two-sided bootstrap p-value.
        p_holm: the same, corrected by Holm over all tasks.
        n: number of examples.
    """

    mean: float
    low: float
    high: float
    p: float
    p_holm: float
    n: int


@dataclass(frozen=True)
class Difference:
    """A mean of task means with its interval.

    Attributes:
        mean: unweighted mean over tasks.
        low: lower end of its interval.
        high: upper end.
        p: two-sided bootstrap p-value.
        tasks: per task.
        n_movies: number of units.
    """

    mean: float
    low: float
    high: float
    p: float
    tasks: dict[str, TaskDifference]
    n_movies: int


def holm(p_values: ArrayLike) -> Floats:
    """Correct p-values for their number (Holm, 1979).

    Args:
        p_values: ``[m]``.

    Returns:
        ``[m]`` adjusted p-values, at most 1, in the given order.

    >>> holm([0.01, 0.04, 0.03]).round(4).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    steps = p[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def paired_bootstrap(
    diff: ArrayLike,
    movies: Sequence[object],
    tasks: Sequence[str],
    resamples: int = 5000,
    seed: int = 0,
    level: float = 0.95,
) -> Difference:
    """Bootstrap a paired difference over movies.

    Args:
        diff: ``[n]`` difference of each example.
        movies: ``[n]`` the movie of each example; a movie is drawn with all its examples.
        tasks: ``[n]`` the task of each example.
        resamples: ``B``.
        seed: of the draw.
        level: of the percentile intervals.

    Returns:
        Mean of task means and per task, with intervals and p-values. One movie has no interval: its ends are the mean
        and its p-value is 1.

    Raises:
        ValueError: no example, different lengths, or a difference that is not a number.
    """
    values, units, columns, names = _check(diff, movies, tasks)
    sums, counts = _tables(values, units, columns, len(names))
    drawn = _draw(sums, counts, resamples, np.random.default_rng(seed))
    per_task = (counts > 0).sum(0)
    return describe(drawn, sums.sum(0) / counts.sum(0), counts.sum(0), names, level, len(sums), per_task)


def nested_bootstrap(
    diff: ArrayLike,
    seeds: Sequence[int],
    movies: Sequence[object],
    tasks: Sequence[str],
    resamples: int = 5000,
    seed: int = 0,
    level: float = 0.95,
) -> Difference:
    """Bootstrap over runs of several seeds: seeds outside, movies inside, as ``resample`` explains.

    Args:
        diff: ``[n]`` difference of each example of each run.
        seeds: ``[n]`` the run of each example.
        movies: ``[n]`` the movie of each example.
        tasks: ``[n]`` the task of each example.
        resamples: ``B``.
        seed: of the draw.
        level: of the percentile intervals.

    Returns:
        As ``paired_bootstrap``, over runs and movies; every run counts the same.

    Raises:
        ValueError: as ``paired_bootstrap``, or a run without a task that others have.
    """
    sums, counts, names = _run_tables(diff, seeds, movies, tasks)
    return resample(sums, counts, names, resamples, seed, level)


def resample(
    sums: ArrayLike,
    counts: ArrayLike,
    tasks: Sequence[str],
    resamples: int = 5000,
    seed: int = 0,
    level: float = 0.95,
) -> Difference:
    """The nested bootstrap on sums and counts.

    Runs are drawn outside, movies inside. All runs are tested on the same movies, so a resample draws its movies once:
    movies drawn for each run apart would average out what a movie does to every run, and the interval would be too
    narrow (in a simulation with 60 movies and 3 to 5 runs it held the truth 76 to 84 times of 100).

    Args:
        sums: ``[R, M, T]`` sum of the differences per run, movie and task.
        counts: ``[R, M, T]`` or ``[M, T]`` number of examples.
        tasks: ``T`` names.
        resamples: ``B``.
        seed: of the draw.
        level: of the percentile intervals.

    Returns:
        Means over runs, intervals over runs and movies; with one run over movies only.
    """
    s = np.asarray(sums, dtype=np.float64)
    n_runs, n_movies, n_tasks = s.shape
    n = np.asarray(counts, dtype=np.float64)
    own_counts = n.ndim == 3
    rng = np.random.default_rng(seed)
    # movies x (runs x tasks), so that one product serves all runs
    flat = s.transpose(1, 0, 2).reshape(n_movies, -1)
    flat_counts = n.transpose(1, 0, 2).reshape(n_movies, -1) if own_counts else np.tile(n, n_runs)
    means = _draw(flat, flat_counts, resamples, rng)
    shares = run_shares(n_runs, resamples, rng)
    by_run = means.reshape(len(means), n_runs, n_tasks)
    drawn = np.zeros((len(means), n_tasks))
    for run in range(n_runs):  # a run that was not drawn says nothing, not even "not a number"
        drawn += np.where(shares[:, run, None] > 0, shares[:, run, None] * by_run[:, run], 0.0)
    per_run = n if own_counts else np.broadcast_to(n, s.shape)
    centre = (s.sum(1) / per_run.sum(1)).mean(0)
    per_task = (per_run > 0).any(0).sum(0)
    return describe(drawn, centre, per_run.sum((0, 1)), list(tasks), level, n_movies, per_task)


def run_shares(n_runs: int, resamples: int, rng: np.random.Generator) -> Floats:
    """Share of each run in a resample: ``[B, R]``, rows sum to 1."""
    return rng.multinomial(n_runs, np.full(n_runs, 1 / n_runs), size=resamples) / n_runs


def movie_weights(n: int, resamples: int, rng: np.random.Generator) -> Iterator[Floats]:
    """How often each movie is drawn: parts of ``[B, M]``, rows sum to ``M``."""
    for start in range(0, resamples, CHUNK):
        rows = min(CHUNK, resamples - start)
        picks = rng.integers(n, size=(rows, n)) + n * np.arange(rows)[:, None]
        yield np.bincount(picks.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)


def _ratio(weights: Floats, sums: Floats, counts: Floats) -> Floats:
    total = weights @ counts
    return np.divide(weights @ sums, total, out=np.full_like(total, np.nan), where=total > 0)


def _run_tables(
    diff: ArrayLike, seeds: Sequence[int], movies: Sequence[object], tasks: Sequence[str]
) -> tuple[Floats, Floats, list[str]]:
    """Sums and counts ``[R, M, T]``."""
    values, units, columns, names = _check(diff, movies, tasks)
    runs, run_of = np.unique(np.asarray(seeds), return_inverse=True)
    if len(run_of) != len(values):
        raise ValueError(f"{len(values)} differences, {len(run_of)} seeds: give one seed per difference")
    n_movies = int(units.max()) + 1
    parts = [
        _tables(values[run_of == r], units[run_of == r], columns[run_of == r], len(names), n_movies)
        for r in range(len(runs))
    ]
    if any((counts.sum(0) == 0).any() for _, counts in parts):
        raise ValueError("a run lacks a task that the others have; compare runs over the same tasks")
    return np.stack([sums for sums, _ in parts]), np.stack([counts for _, counts in parts]), names


@dataclass(frozen=True)
class Equivalence:
    """Two one-sided tests at 5 %.

    Attributes:
        verdict: "equal" where the 90 % interval lies within the margin, else "undecided".
        mean: of task means.
        low: lower end of the 90 % interval.
        high: upper end.
        margin: in the unit of the difference.
    """

    verdict: str
    mean: float
    low: float
    high: float
    margin: float


def equivalence(
    diff: ArrayLike,
    movies: Sequence[object],
    tasks: Sequence[str],
    margin: float = 0.5,
    resamples: int = 5000,
    seed: int = 0,
    seeds: Sequence[int] | None = None,
) -> Equivalence:
    """Test a claim of equality.

    Args:
        diff: ``[n]`` difference of each example.
        movies: ``[n]`` the movie of each example.
        tasks: ``[n]`` the task of each example.
        margin: differences below this do not matter (SC points).
        resamples: ``B``.
        seed: of the draw.
        seeds: ``[n]`` the run of each example; None where there is one run.

    Returns:
        The verdict with its interval. One movie can decide nothing.

    Raises:
        ValueError: as ``nested_bootstrap``.
    """
    runs = [0] * len(movies) if seeds is None else seeds
    return equivalent(nested_bootstrap(diff, runs, movies, tasks, resamples, seed, level=0.90), margin)


def equivalent(found: Difference, margin: float = 0.5) -> Equivalence:
    """Read the test off a 90 % interval.

    Args:
        found: a difference whose interval is of level 0.90.
        margin: differences below this do not matter (SC points).

    Returns:
        The verdict; one movie can decide nothing.
    """
    equal = found.n_movies > 1 and -margin < found.low and found.high < margin
    return Equivalence("equal" if equal else "undecided", found.mean, found.low, found.high, margin)


def _check(
    diff: ArrayLike, movies: Sequence[object], tasks: Sequence[str]
) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64], list[str]]:
    values = np.asarray(diff, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0:
        raise ValueError("nothing to compare: no example has both values")
    if len(values) != len(movies) or len(values) != len(tasks):
        raise ValueError(f"{len(values)} differences, {len(movies)} movies, {len(tasks)} tasks: give one of each a row")
    if not np.isfinite(values).all():
        raise ValueError(f"{int((~np.isfinite(values)).sum())} of {len(values)} differences are not finite numbers")
    unit_of = {movie: unit for unit, movie in enumerate(dict.fromkeys(movies))}
    names = sorted(set(tasks))
    column_of = {name: column for column, name in enumerate(names)}
    units = np.array([unit_of[movie] for movie in movies], dtype=np.int64)
    return values, units, np.array([column_of[task] for task in tasks], dtype=np.int64), names


def _tables(
    values: Floats, units: NDArray[np.int64], columns: NDArray[np.int64], n_tasks: int, n_units: int | None = None
) -> tuple[Floats, Floats]:
    """Sum and count per movie and task, each ``[M, T]``."""
    shape = (int(units.max()) + 1 if n_units is None else n_units, n_tasks)
    place = units * n_tasks + columns
    size = shape[0] * shape[1]
    sums = np.bincount(place, values, minlength=size).astype(np.float64).reshape(shape)
    counts = np.bincount(place, minlength=size).astype(np.float64).reshape(shape)
    return sums, counts


def _draw(sums: Floats, counts: Floats, resamples: int, rng: np.random.Generator) -> Floats:
    """Means ``[B, T]`` under movies drawn with replacement; NaN where a draw holds no example of a task."""
    return np.concatenate([_ratio(weights, sums, counts) for weights in movie_weights(len(sums), resamples, rng)])


def describe(
    drawn: NDArray[np.floating[Any]],
    means: Floats,
    n: Floats,
    names: list[str],
    level: float,
    movies: int,
    movies_per_task: NDArray[np.int64],
) -> Difference:
    """Read intervals and p-values off resampled task means ``[B, T]``, NaN where a draw holds no example of a task.

    Besides: means and number of examples of the data ``[T]``, movies in all and per task ``[T]``.
    """
    holes = bool(np.isnan(drawn).any())
    macro = (np.nanmean if holes else np.mean)(drawn, axis=1, keepdims=True)
    columns = np.ascontiguousarray(np.concatenate([drawn, macro], axis=1).T)
    tail = 50.0 * (1.0 - level)
    # the ordinary percentile is many times faster than the one that skips holes
    low, high = (np.nanpercentile if holes else np.percentile)(columns, [tail, 100.0 - tail], axis=1)
    # two-sided, by inverting the percentile interval; at least 2 / (B + 1)
    fewer = np.minimum((columns <= ROUNDING).sum(1), (columns >= -ROUNDING).sum(1))
    p = np.minimum(1.0, 2.0 * (fewer + 1) / ((~np.isnan(columns)).sum(1) + 1))
    p[np.append(movies_per_task, movies) < 2] = 1.0
    corrected = holm(p[:-1])
    tasks = {
        name: TaskDifference(
            float(means[t]), float(low[t]), float(high[t]), float(p[t]), float(corrected[t]), int(n[t])
        )
        for t, name in enumerate(names)
    }
    return Difference(float(means.mean()), float(low[-1]), float(high[-1]), float(p[-1]), tasks, movies)
