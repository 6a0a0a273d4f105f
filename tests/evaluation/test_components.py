import numpy as np
import pytest

from ilm_lightning.evaluation.components import Components, Needed, components, needed
from ilm_lightning.evaluation.statistics import resample


def crossed(rng: np.random.Generator, n_runs: int, n_movies: int, run: float, movie: float, rest: float) -> np.ndarray:
    shape = (n_runs, n_movies, 1)
    return (
        0.5 + rng.normal(0, run, (n_runs, 1, 1)) + rng.normal(0, movie, (1, n_movies, 1)) + rng.normal(0, rest, shape)
    )


def test_components_are_those_that_were_planted() -> None:
    rng = np.random.default_rng(0)
    found = components(crossed(rng, 200, 300, 2.0, 5.0, 3.0), np.ones((300, 1)))
    assert found.run[-1] == pytest.approx(4.0, rel=0.25)
    assert found.movie[-1] == pytest.approx(25.0, rel=0.25)
    assert found.rest[-1] == pytest.approx(9.0, rel=0.1)
    assert found.mean[0] == found.mean[-1]


@pytest.mark.parametrize(("n_runs", "run", "movie"), [(3, 1.0, 1.0), (3, 0.5, 5.0), (5, 0.5, 2.0)])
def test_students_interval_holds_the_truth_where_runs_are_few(n_runs: int, run: float, movie: float) -> None:
    rng = np.random.default_rng(1)
    counts, trials, hits = np.ones((60, 1)), 400, 0
    for _ in range(trials):
        low, high = components(crossed(rng, n_runs, 60, run, movie, 2.0), counts).interval()
        hits += low <= 0.5 <= high
    assert 0.92 <= hits / trials <= 0.995


def test_three_runs_alone_would_seem_too_sure() -> None:
    # why the interval above exists
    rng = np.random.default_rng(2)
    counts, hits = np.ones((40, 1)), 0
    for trial in range(150):
        found = resample(crossed(rng, 3, 40, 2.0, 0.5, 1.0), counts, ["t"], 500, trial)
        hits += found.low <= 0.5 <= found.high
    assert hits / 150 < 0.85


def test_one_run_speaks_of_movies_only() -> None:
    found = components(np.random.default_rng(0).normal(1.0, 2.0, (1, 100, 1)), np.ones((100, 1)))
    assert found.run[-1] == 0.0
    low, high = found.interval()
    assert high - low == pytest.approx(2 * 1.984 * 2 / 10, rel=0.2)


def test_p_values_fit_the_interval_and_nothing_is_no_proof() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        found = components(crossed(rng, 3, 30, 0.3, 1.0, 1.0), np.ones((30, 1)))
        low, high = found.interval()
        assert (found.p_values()[-1] < 0.05) == (low > 0 or high < 0)
    nothing = components(np.zeros((3, 30, 2)), np.ones((30, 2)))
    assert nothing.p_values().tolist() == [1.0, 1.0, 1.0]


def test_sizes_are_those_of_the_normal_theory() -> None:
    rng = np.random.default_rng(0)
    found = components(rng.normal(0.2, 4.0, (1, 500, 1)), np.ones((500, 1)))
    spread = float(found.movie[-1])
    assert needed(found, 0.5).movies == pytest.approx(spread * (2.802 / 0.5) ** 2, rel=0.02)
    assert needed(found, 0.2, margin=0.5).movies == pytest.approx(spread * (2.487 / 0.3) ** 2, rel=0.01)
    assert needed(found, 0.6, margin=0.5).movies is None
    # power is lost at both ends where the truth lies between them: 2.926 = 1.645 + 1.282
    assert needed(found, 0.0, margin=0.5).movies == pytest.approx(spread * (2.926 / 0.5) ** 2, rel=0.01)
    assert needed(found, -0.2, margin=0.5) == needed(found, 0.2, margin=0.5)
    # a quarter of 5 %, as Holm's first step over four asks
    assert needed(found, 0.5, alpha=0.05 / 4).movies == pytest.approx(spread * (3.339 / 0.5) ** 2, rel=0.02)


def test_where_trainings_differ_no_number_of_movies_is_enough() -> None:
    rng = np.random.default_rng(0)
    found = components(crossed(rng, 3, 100, 3.0, 0.1, 0.1), np.ones((100, 1)))
    sizes = needed(found, 0.5)
    assert sizes.movies is None
    assert sizes.runs is not None
    assert sizes.runs > 30


def test_a_sample_of_the_needed_size_decides_four_times_of_five() -> None:
    rng = np.random.default_rng(0)
    pilot = components(crossed(rng, 4, 60, 0.05, 2.0, 2.0), np.ones((60, 1)))
    sizes = needed(pilot, 0.5)
    assert sizes.movies is not None
    counts = np.ones((sizes.movies, 1))
    lows = [components(crossed(rng, 4, sizes.movies, 0.05, 2.0, 2.0), counts).interval()[0] for _ in range(100)]
    assert 65 <= sum(low > 0 for low in lows) <= 99


@pytest.mark.parametrize(("truth", "run", "n_runs"), [(0.0, 0.0, 3), (0.2, 0.0, 3), (0.0, 0.2, 8)])
def test_an_equality_of_the_needed_size_is_shown_four_times_of_five(truth: float, run: float, n_runs: int) -> None:
    rng = np.random.default_rng(0)
    spread = Components(*np.array([[truth], [run**2], [16.0], [1.0]]), n_runs=n_runs, n_movies=40)
    movies = needed(spread, truth, margin=0.5).movies
    assert movies is not None
    counts, shown = np.ones((movies, 1)), 0
    for _ in range(400):
        sums = truth - 0.5 + crossed(rng, n_runs, movies, run, 4.0, 1.0)
        low, high = components(sums, counts).interval(0.90)
        shown += low > -0.5 and high < 0.5
    assert 0.75 <= shown / 400 <= 0.88


def test_a_difference_at_a_corrected_level_is_found_four_times_of_five() -> None:
    rng, alpha = np.random.default_rng(0), 0.05 / 4
    spread = Components(*np.array([[0.6], [0.0], [36.0], [0.0]]), n_runs=3, n_movies=40)
    movies = needed(spread, 0.6, alpha=alpha).movies
    assert movies is not None
    counts = np.ones((movies, 1))
    lows = [components(0.1 + crossed(rng, 3, movies, 0.0, 6.0, 0.0), counts).interval(1 - alpha)[0] for _ in range(400)]
    assert 0.75 <= np.mean([low > 0 for low in lows]) <= 0.88


def test_what_has_no_spread_needs_the_smallest_size() -> None:
    nothing = Components(*np.array([[1.0], [0.0], [0.0], [0.0]]), n_runs=3, n_movies=40)
    assert needed(nothing, 1.0) == needed(nothing, 0.2, margin=0.5) == Needed(2, 2)
    assert needed(nothing, 0.0) == needed(nothing, 1.0, margin=0.5) == Needed(None, None)


def test_movies_without_a_task_do_not_count_for_it() -> None:
    sums = np.ones((2, 10, 2))
    counts = np.ones((10, 2))
    counts[5:, 1] = 0
    sums[:, 5:, 1] = 0
    assert components(sums, counts).mean.tolist() == [1.0, 1.0, 1.0]
