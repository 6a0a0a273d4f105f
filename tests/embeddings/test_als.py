"""Rows solved in pieces against plain equations, and a whole fit against another exact implementation."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from test_behavioral import half_step, table

from ilm_lightning.embeddings import als
from ilm_lightning.embeddings.behavioral import fit_als


def ragged(seed: int, columns: int = 400) -> csr_matrix:
    """Rows of 0 to 400 entries, in no order of length."""
    draw = np.random.default_rng(seed)
    lengths = draw.permutation([0, 1, 2, 3, 15, 16, 17, 18, 31, 33, 100, 127, 200, 255, 257, 399, 400, 1, 0, 50])
    parts = [np.sort(draw.choice(columns, length, replace=False)) for length in lengths]
    ends = np.concatenate([[0], np.cumsum(lengths)])
    return csr_matrix((np.ones(ends[-1], dtype=np.float32), np.concatenate(parts), ends), shape=(20, columns))


@pytest.mark.parametrize("cells", [1, 64, 1 << 20])
@pytest.mark.parametrize("alpha", [1.0, 5.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 2e-5), (np.float64, 1e-12)])
def test_rows_of_any_length_solve_their_equations(
    cells: int, alpha: float, dtype: type, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(als, "CELLS", cells)
    fixed, rows = np.random.default_rng(1).normal(size=(400, 6)).astype(dtype), ragged(2)
    with ThreadPoolExecutor(2) as pool:
        solved = als.solve_rows(fixed, rows, 0.3, alpha, pool)
    expected = half_step(fixed.astype(np.float64), rows.toarray().astype(np.float64), 0.3, alpha)
    assert solved.dtype == dtype
    np.testing.assert_allclose(solved, expected, atol=tolerance * np.abs(expected).max())
    assert (solved[np.diff(rows.indptr) == 0] == 0).all()


def test_a_row_is_the_same_in_any_company() -> None:
    fixed, rows = np.random.default_rng(1).normal(size=(400, 6)).astype(np.float32), ragged(2)
    with ThreadPoolExecutor(2) as two, ThreadPoolExecutor(1) as one:
        together = als.solve_rows(fixed, rows, 0.3, 5.0, two)
        for row in range(20):
            assert np.array_equal(als.solve_rows(fixed, rows[[row]], 0.3, 5.0, one)[0], together[row])


def test_an_error_in_a_piece_is_seen() -> None:
    with ThreadPoolExecutor(1) as pool, pytest.raises(np.linalg.LinAlgError):
        als.solve_rows(np.zeros((400, 6), dtype=np.float32), ragged(2), 0.0, 5.0, pool)


def test_a_fit_equals_that_of_implicit_with_its_exact_solver() -> None:
    from implicit.cpu.als import AlternatingLeastSquares

    draw = np.random.default_rng(4)
    dense = np.asarray(draw.random((120, 80)) < draw.random(80) * draw.random((120, 1)), dtype=np.bool_)
    other = AlternatingLeastSquares(
        factors=8, regularization=0.5, alpha=5.0, iterations=6, random_state=3, num_threads=1, use_cg=False
    )
    other.fit(csr_matrix(dense.astype(np.float32)), show_progress=False)
    items, users = fit_als(table(dense), factors=8, regularization=0.5, alpha=5.0, iterations=6, seed=3)
    for ours, theirs in ((items, other.item_factors), (users, other.user_factors)):
        np.testing.assert_allclose(ours, theirs, atol=1e-3 * np.abs(theirs).max())
