import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from ilm_lightning.evaluation.consistency import behavioral_consistency, spearman

PAIRS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=12)


@given(PAIRS)
def test_spearman_equals_scipys(pairs: list[tuple[int, int]]) -> None:
    left, right = map(list, zip(*pairs, strict=True))
    if len(set(left)) > 1 and len(set(right)) > 1:
        assert spearman(left, right) == pytest.approx(spearmanr(left, right).statistic)
    elif len(set(right)) > 1:
        assert spearman(left, right) == 0.0
    else:
        assert np.isnan(spearman(left, right))


def test_spearman_by_hand() -> None:
    # ranks 1 2 3 4 against 1 3 2 4: 1 - 6 * 2 / (4 * 15)
    assert spearman([0.1, 0.2, 0.3, 0.4], [1, 3, 2, 4]) == pytest.approx(0.8)
    assert np.isnan(spearman([], []))
    assert np.isnan(spearman([1.0], [5.0]))
    with pytest.raises(ValueError, match="one of each per item"):
        spearman([1.0, 2.0], [1.0])


def test_texts_that_describe_the_users_taste_win() -> None:
    rng = np.random.default_rng(0)
    items = rng.normal(size=(40, 8)).astype(np.float32)
    tastes = rng.normal(size=(25, 8)).astype(np.float32)
    ratings = []
    for taste in tastes:
        judged = rng.choice(40, size=15, replace=False)
        cosines = items[judged] @ taste / np.linalg.norm(items[judged], axis=1)
        ratings.append(dict(zip(judged.tolist(), np.round(cosines).tolist(), strict=True)))
    own = np.nanmean(behavioral_consistency(3 * tastes, items, ratings))
    swapped = np.nanmean(behavioral_consistency(np.roll(tastes, 1, axis=0), items, ratings))
    assert own > 0.9
    assert abs(swapped) < 0.3


def test_who_has_no_order_to_predict() -> None:
    texts, items = np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)
    found = behavioral_consistency(texts, items, [{}, {0: 5.0}, {0: 3.0, 1: 3.0}])
    assert np.isnan(found).all()
    assert behavioral_consistency(texts[:0], items, []).shape == (0,)


def test_misfits_are_named() -> None:
    texts, items = np.ones((1, 3), dtype=np.float32), np.ones((4, 3), dtype=np.float32)
    with pytest.raises(ValueError, match="one text per user"):
        behavioral_consistency(texts, items, [])
    with pytest.raises(ValueError, match="by one encoder"):
        behavioral_consistency(texts, items[:, :2], [{0: 1.0}])
    with pytest.raises(ValueError, match="judged item 4"):
        behavioral_consistency(texts, items, [{0: 1.0, 4: 2.0}])
