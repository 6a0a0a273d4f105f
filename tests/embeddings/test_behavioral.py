import logging
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from ilm_lightning.data.tables import Interactions
from ilm_lightning.embeddings.behavioral import fit_als, fit_implicit, fold_in, rated_items

Array = NDArray[np.float64]
Fit = Callable[..., tuple[NDArray[np.float32], NDArray[np.float32]]]
both = pytest.mark.parametrize("fit", [fit_als, fit_implicit])


def table(dense: NDArray[np.bool_]) -> Interactions:
    users, items = np.nonzero(dense)
    frame = pl.DataFrame(
        {
            "user": users.astype(np.uint32),
            "item": items.astype(np.uint32),
            "rating": np.ones(len(users), dtype=np.float32),
            "timestamp": np.zeros(len(users), dtype=np.int64),
        }
    )
    return Interactions(frame, [f"u{i}" for i in range(dense.shape[0])], dense.shape[1])


def half_step(fixed: Array, preferences: Array, regularization: float, alpha: float) -> Array:
    """One exact half sweep: every row's normal equations solved with the other side fixed."""
    solved = np.zeros((len(preferences), fixed.shape[1]))
    for row, preference in enumerate(preferences):
        confidence = np.where(preference > 0, alpha, 1.0)
        system = (fixed * confidence[:, None]).T @ fixed + regularization * np.eye(fixed.shape[1])
        solved[row] = np.linalg.solve(system, fixed.T @ (confidence * preference))
    return solved


def exact_als(p: Array, k: int, regularization: float, alpha: float, iterations: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(3)
    items = rng.random((p.shape[1], k)) * 0.01
    users = np.zeros((p.shape[0], k))
    for _ in range(iterations):
        users = half_step(items, p, regularization, alpha)
        items = half_step(users, p.T, regularization, alpha)
    return items, users


def objective(items: Array, users: Array, p: Array, regularization: float, alpha: float) -> float:
    confidence = np.where(p > 0, alpha, 1.0)
    return float(
        (confidence * (p - users @ items.T) ** 2).sum() + regularization * ((items**2).sum() + (users**2).sum())
    )


@pytest.fixture
def dense() -> NDArray[np.bool_]:
    rng = np.random.default_rng(0)
    tastes = rng.random((30, 3)) @ rng.random((3, 20))
    return np.asarray(tastes > np.quantile(tastes, 0.7, axis=0), dtype=np.bool_)


@pytest.mark.parametrize("alpha", [1.0, 5.0])
def test_item_factors_solve_the_normal_equations_of_the_user_factors(dense: NDArray[np.bool_], alpha: float) -> None:
    items, users = fit_als(table(dense), factors=4, regularization=0.1, alpha=alpha, num_threads=1)
    expected = half_step(users.astype(np.float64), dense.T.astype(np.float64), 0.1, alpha)
    np.testing.assert_allclose(items, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("alpha", [1.0, 5.0])
def test_objective_reaches_that_of_an_independent_exact_solver(dense: NDArray[np.bool_], alpha: float) -> None:
    p = dense.astype(np.float64)
    fitted = fit_als(table(dense), factors=3, regularization=0.1, alpha=alpha, iterations=60, num_threads=1)
    ours = (fitted[0].astype(np.float64), fitted[1].astype(np.float64))
    oracle = exact_als(p, 3, 0.1, alpha, 60)
    mine, theirs = (objective(*pair, p, 0.1, alpha) for pair in (ours, oracle))
    assert mine == pytest.approx(theirs, rel=0.02)


@both
def test_same_seed_same_bits_whatever_the_threads(fit: Fit, dense: NDArray[np.bool_]) -> None:
    one = fit(table(dense), factors=4, seed=5, num_threads=1)
    two = fit(table(dense), factors=4, seed=5, num_threads=2)
    other = fit(table(dense), factors=4, seed=6, num_threads=1)
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert not np.array_equal(one[0], other[0])


@both
def test_items_without_ratings_are_zero(fit: Fit, dense: NDArray[np.bool_]) -> None:
    dense[:, 7] = False
    interactions = table(dense)
    items, _ = fit(interactions, factors=4, num_threads=1)
    assert not rated_items(interactions)[7]
    assert rated_items(interactions).sum() == 19
    assert (items[7] == 0).all()
    assert np.abs(items[6]).max() > 0


@both
def test_one_user_one_item(fit: Fit) -> None:
    items, users = fit(table(np.ones((1, 1), dtype=np.bool_)), factors=2, iterations=30, num_threads=1)
    assert float(items[0] @ users[0]) == pytest.approx(0.8, abs=0.01)  # minimum of 5 (1 - xy)^2 + x^2 + y^2


@both
def test_bad_input_is_named(fit: Fit, dense: NDArray[np.bool_]) -> None:
    with pytest.raises(ValueError, match="encoder=semantic"):
        fit(table(np.zeros((3, 4), dtype=np.bool_)))
    with pytest.raises(ValueError, match="factors >= 1"):
        fit(table(dense), factors=0)
    with pytest.raises(ValueError, match="shrank to zero"):
        fit(table(dense), regularization=1e6)


def test_equations_without_a_single_solution_are_named(
    dense: NDArray[np.bool_], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ilm_lightning.embeddings.behavioral.solve_rows", lambda *_: np.linalg.inv(np.zeros((2, 2))))
    with pytest.raises(ValueError, match=r"no single solution; raise regularization \(now 0.0\)"):
        fit_als(table(dense), factors=3, regularization=0.0)


@pytest.mark.parametrize("alpha", [1.0, 3.0])
def test_fold_in_is_the_exact_half_step(dense: NDArray[np.bool_], alpha: float) -> None:
    rng = np.random.default_rng(1)
    factors = rng.normal(size=(20, 4)).astype(np.float32)
    users = fold_in(factors, csr_matrix(dense.astype(np.float32)), 0.2, alpha)
    expected = half_step(factors.astype(np.float64), dense.astype(np.float64), 0.2, alpha)
    np.testing.assert_allclose(users, expected, atol=1e-5)


def test_fold_in_of_a_user_without_items_is_zero_and_misfits_are_named() -> None:
    factors = np.eye(3, dtype=np.float32)
    assert (fold_in(factors, csr_matrix((2, 3), dtype=np.float32)) == 0).all()
    with pytest.raises(ValueError, match="4 columns"):
        fold_in(factors, csr_matrix((2, 4), dtype=np.float32))


@both
def test_progress_is_told(
    fit: Fit, dense: NDArray[np.bool_], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ilm_lightning.progress.PLAIN_INTERVAL_S", 0.0)
    with caplog.at_level(logging.INFO):
        fit(table(dense), factors=4, iterations=3, num_threads=1)
    assert [message.split(",")[0] for message in caplog.messages] == ["ALS: 1 of 3", "ALS: 2 of 3", "ALS: 30 users"]


def test_gradient_steps_come_near_the_exact_solutions(dense: NDArray[np.bool_]) -> None:
    settings = {"factors": 3, "regularization": 0.1, "alpha": 5.0, "iterations": 30}
    p = dense.astype(np.float64)
    exact, near = (objective(*fit(table(dense), **settings), p, 0.1, 5.0) for fit in (fit_als, fit_implicit))
    assert near == pytest.approx(exact, rel=0.01)
    assert near != exact
