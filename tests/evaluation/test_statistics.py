import time

import numpy as np
import pytest

from ilm_lightning.evaluation.resampling import SharedDraws
from ilm_lightning.evaluation.statistics import (
    equivalence,
    holm,
    nested_bootstrap,
    paired_bootstrap,
)


def test_holm_by_hand() -> None:
    # sorted .01 .02 .03 .04 -> x4 .04, x3 .06, x2 .06, x1 .04, then no value below the one before
    assert holm([0.04, 0.01, 0.03, 0.02]).tolist() == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]).tolist() == [1.0, 1.0]
    assert holm([]).shape == (0,)


def test_mean_is_of_task_means_not_of_examples() -> None:
    found = paired_bootstrap([1.0, 1.0, 1.0, 5.0], ["a", "b", "c", "a"], ["t", "t", "t", "u"], resamples=200)
    assert found.mean == 3.0
    assert found.tasks["t"].mean == 1.0
    assert (found.tasks["t"].n, found.tasks["u"].n, found.n_movies) == (3, 1, 3)
    assert (found.tasks["t"].low, found.tasks["t"].high) == (1.0, 1.0)


def test_same_seed_same_interval() -> None:
    diff = np.random.default_rng(0).normal(size=40)
    movies, tasks = list(range(20)) * 2, ["t"] * 20 + ["u"] * 20
    assert paired_bootstrap(diff, movies, tasks, 500, 1) == paired_bootstrap(diff, movies, tasks, 500, 1)
    assert paired_bootstrap(diff, movies, tasks, 500, 1).low != paired_bootstrap(diff, movies, tasks, 500, 2).low


def test_interval_is_that_of_the_normal_theory() -> None:
    diff = np.random.default_rng(0).normal(1.0, 2.0, size=400)
    found = paired_bootstrap(diff, range(400), ["t"] * 400)
    half = 1.96 * diff.std() / 20
    assert found.low == pytest.approx(diff.mean() - half, abs=0.02)
    assert found.high == pytest.approx(diff.mean() + half, abs=0.02)
    assert found.p == pytest.approx(2 / 5001)


def test_tasks_of_a_movie_are_drawn_together() -> None:
    # the same difference in 24 tasks: 24 times the examples say no more than one task
    diff = np.random.default_rng(1).normal(size=50)
    one = paired_bootstrap(diff, range(50), ["t0"] * 50)
    many = paired_bootstrap(
        np.tile(diff, 24), list(range(50)) * 24, np.repeat([f"t{i}" for i in range(24)], 50).tolist()
    )
    assert many.high - many.low == pytest.approx(one.high - one.low, rel=1e-6)
    assert many.tasks["t3"].p_holm == pytest.approx(min(1.0, 24 * many.tasks["t3"].p))


def test_coverage_of_the_95_percent_interval() -> None:
    rng = np.random.default_rng(7)
    hits = 0
    for trial in range(300):
        taste = rng.normal(0.0, 1.0, size=(60, 1))  # what a movie's tasks share
        diff = (taste + rng.normal(0.5, 1.0, size=(60, 4))).ravel()
        found = paired_bootstrap(diff, np.repeat(np.arange(60), 4).tolist(), list("abcd") * 60, 400, trial)
        hits += found.low <= 0.5 <= found.high
    assert 0.90 <= hits / 300 <= 0.98


def test_one_movie_proves_nothing() -> None:
    found = paired_bootstrap([3.0, 4.0], ["a", "a"], ["t", "u"], 100)
    assert (found.mean, found.low, found.high, found.p) == (3.5, 3.5, 3.5, 1.0)
    assert found.tasks["t"].p_holm == 1.0
    assert equivalence([0.0], ["a"], ["t"]).verdict == "undecided"


def test_equal_texts_differ_by_nothing() -> None:
    found = paired_bootstrap(np.zeros(10), range(10), ["t"] * 10, 100)
    assert (found.low, found.high, found.p) == (0.0, 0.0, 1.0)
    # the mean of five equal scores may miss them by a last digit, always on the same side
    off = np.full(10, 33.3) - np.nextafter(33.3, 34)
    assert off.max() < 0
    assert paired_bootstrap(off, range(10), ["t"] * 10, 100).tasks["t"].p_holm == 1.0


def test_a_task_that_few_movies_have() -> None:
    diff, movies, tasks = [1.0] * 10 + [9.0, 9.0], [*range(10), 0, 1], ["t"] * 10 + ["rare"] * 2
    found = paired_bootstrap(diff, movies, tasks, 2000)
    assert found.tasks["rare"].low == found.tasks["rare"].high == 9.0
    assert found.mean == 5.0
    assert np.isfinite([found.low, found.high]).all()


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="nothing to compare"):
        paired_bootstrap([], [], [])
    with pytest.raises(ValueError, match="give one of each a row"):
        paired_bootstrap([1.0], ["a", "b"], ["t"])
    with pytest.raises(ValueError, match="1 of 2 differences"):
        paired_bootstrap([1.0, np.nan], ["a", "b"], ["t", "t"])
    with pytest.raises(ValueError, match="one seed per difference"):
        nested_bootstrap([1.0], [0, 1], ["a"], ["t"])
    with pytest.raises(ValueError, match="a run lacks a task"):
        nested_bootstrap([1.0, 1.0, 1.0], [0, 0, 1], ["a", "a", "a"], ["t", "u", "t"])


def test_equivalence() -> None:
    rng = np.random.default_rng(0)
    near, wide = rng.normal(0, 1, 400), rng.normal(0, 20, 400)
    assert equivalence(near, range(400), ["t"] * 400).verdict == "equal"
    assert equivalence(wide, range(400), ["t"] * 400).verdict == "undecided"
    assert equivalence(near + 3, range(400), ["t"] * 400).verdict == "undecided"
    assert equivalence(near + 3, range(400), ["t"] * 400, margin=4).verdict == "equal"


def test_runs_that_differ_widen_the_nested_interval() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, size=(3, 100))
    movies, tasks, seeds = list(range(100)) * 3, ["t"] * 300, np.repeat([0, 1, 2], 100).tolist()
    alike = nested_bootstrap(noise.ravel(), seeds, movies, tasks, 2000)
    apart = nested_bootstrap((noise + np.array([[-2.0], [0.0], [2.0]])).ravel(), seeds, movies, tasks, 2000)
    assert alike.mean == pytest.approx(noise.mean())
    assert alike.high - alike.low < 0.6
    assert apart.high - apart.low > 2.0
    assert apart.tasks["t"].n == 300
    single = nested_bootstrap(noise[0], [5] * 100, range(100), ["t"] * 100, 2000)
    plain = paired_bootstrap(noise[0], range(100), ["t"] * 100, 2000)
    assert single.high - single.low == pytest.approx(plain.high - plain.low, rel=0.1)


def test_24_tasks_of_200_movies_take_seconds_at_most() -> None:
    diff = np.random.default_rng(0).normal(size=4800)
    start = time.process_time()
    found = paired_bootstrap(diff, np.repeat(np.arange(200), 24).tolist(), [f"t{i:02}" for i in range(24)] * 200, 5000)
    assert time.process_time() - start < 3
    assert len(found.tasks) == 24


def test_coverage_of_the_nested_interval_where_movies_matter_to_every_run() -> None:
    # what a movie does to all runs does not average out over runs: drawn apart for each run it would seem to
    rng = np.random.default_rng(3)
    hits, trials, n_runs, n_movies = 0, 200, 4, 50
    movies, tasks = list(range(n_movies)) * n_runs, ["t"] * (n_runs * n_movies)
    seeds = np.repeat(np.arange(n_runs), n_movies).tolist()
    for trial in range(trials):
        diff = rng.normal(0.5, 4.0, (1, n_movies)) + rng.normal(0, 2.0, (n_runs, n_movies)) + rng.normal(0, 0.2)
        found = nested_bootstrap(diff.ravel(), seeds, movies, tasks, 400, trial)
        hits += found.low <= 0.5 <= found.high
    assert 0.90 <= hits / trials <= 0.99


def test_shared_draws_give_the_same_interval() -> None:
    rng = np.random.default_rng(0)
    sums = rng.normal(0.3, 1.0, (3, 40, 5))
    counts = np.ones((40, 5))
    counts[7, 2] = 0  # a movie without this task
    sums[:, 7, 2] = 0
    names = [f"t{i}" for i in range(5)]
    movies, tasks = zip(*[(m, names[t]) for m in range(40) for t in range(5) if counts[m, t]], strict=True)
    rows = [sums[r, m, names.index(t)] for r in range(3) for m, t in zip(movies, tasks, strict=True)]
    seeds = np.repeat([0, 1, 2], len(movies)).tolist()
    long = nested_bootstrap(rows, seeds, movies * 3, tasks * 3, 4000)
    short, inner = SharedDraws(counts, names, 4000).difference(sums)
    assert short.mean == pytest.approx(long.mean)
    assert short.tasks["t2"].n == long.tasks["t2"].n == 3 * 39
    assert (short.low, short.high) == pytest.approx((long.low, long.high), abs=0.03)
    narrow = nested_bootstrap(rows, seeds, movies * 3, tasks * 3, 4000, level=0.90)
    assert inner == pytest.approx((narrow.low, narrow.high), abs=0.03)
    assert {t: short.tasks[t].mean for t in names} == pytest.approx({t: long.tasks[t].mean for t in names})


def test_equality_over_several_runs_needs_the_runs_to_agree() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, (3, 400))
    seeds, movies, tasks = np.repeat([0, 1, 2], 400).tolist(), list(range(400)) * 3, ["t"] * 1200
    assert equivalence(noise.ravel(), movies, tasks, seeds=seeds).verdict == "equal"
    apart = (noise + np.array([[-2.0], [0.0], [2.0]])).ravel()
    assert equivalence(apart, movies, tasks, seeds=seeds).verdict == "undecided"
