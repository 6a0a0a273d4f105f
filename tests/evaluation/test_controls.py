from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from ilm_lightning.engine.stages.figure1 import shuffled_rows
from ilm_lightning.evaluation.controls import constant_target, derangements, hard_derangement, knn_copy


@pytest.mark.parametrize("n", [2, 3, 5, 200])
def test_derangements_are_permutations_without_fixed_points(n: int) -> None:
    rows = derangements(n, 5, seed=1)
    assert rows.shape == (5, n)
    assert (np.sort(rows, axis=1) == np.arange(n)).all()
    assert not (rows == np.arange(n)).any()
    assert np.array_equal(rows, derangements(n, 5, seed=1))


def test_derangements_are_uniform() -> None:
    counts = np.unique(derangements(4, 9000), axis=0, return_counts=True)[1]
    assert len(counts) == 9  # !4
    assert np.abs(counts - 1000).max() < 150


def test_too_few_movies_to_shuffle() -> None:
    assert derangements(0, 3).shape == (3, 0)
    assert hard_derangement([]).partner.shape == (0,)
    with pytest.raises(ValueError, match="at least two"):
        derangements(1)
    with pytest.raises(ValueError, match="at least two"):
        hard_derangement([("Drama", 1990)])


def test_hard_shuffle_stays_in_the_group_and_marks_loners() -> None:
    groups = [("Drama", 1990), ("Drama", 1990), ("Drama", 1990), ("Comedy", 1950), ("Drama", 1960), ("Comedy", 1980)]
    shuffle = hard_derangement(groups, seed=3)
    assert shuffle.hard.tolist() == [True, True, True, False, False, False]
    assert sorted(shuffle.partner[:3]) == [0, 1, 2]
    assert shuffle.partner[3] == 5  # the other comedy, whatever its decade
    assert shuffle.partner[5] == 3
    assert shuffle.partner[4] in (0, 1, 2)
    assert not (shuffle.partner == np.arange(6)).any()
    assert np.array_equal(shuffle.partner, hard_derangement(groups, seed=3).partner)


def test_a_loner_without_its_genre_takes_the_nearest_decade() -> None:
    groups = [("War", 1940), ("Drama", 1950), ("Drama", 1950), ("Comedy", 1990), ("Comedy", 1990)]
    assert hard_derangement(groups).partner[0] in (1, 2)


def test_constant_is_the_medoid() -> None:
    angles = np.deg2rad([0, 10, 20, 80])
    targets = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    mean_cosine = [np.mean([np.cos(a - b) for b in angles]) for a in angles]
    assert constant_target(targets) == int(np.argmax(mean_cosine)) == 2
    assert constant_target(targets[:1]) == 0
    with pytest.raises(ValueError, match="no training targets"):
        constant_target(targets[:0])


def test_knn_copy_weighs_sources_alike() -> None:
    rng = np.random.default_rng(0)
    loud, quiet = rng.normal(size=(20, 3)).astype(np.float32), rng.normal(size=(20, 3)).astype(np.float32)
    train = {"behavioral": 1000 * loud + 500, "semantic": quiet}
    test = {name: rows[[4, 11]] for name, rows in train.items()}
    assert knn_copy(train, test, chunk=1).tolist() == [4, 11]
    # scale and offset of a source do not matter
    plain = {"behavioral": loud, "semantic": quiet}
    other = {name: rng.normal(size=(50, 3)).astype(np.float32) for name in plain}
    shifted = {"behavioral": 1000 * other["behavioral"] + 500, "semantic": other["semantic"]}
    assert np.array_equal(knn_copy(plain, other), knn_copy(train, shifted))


def test_knn_copy_of_nothing() -> None:
    rows = np.ones((2, 3), dtype=np.float32)
    assert knn_copy({"a": rows}, {"a": rows[:0]}).shape == (0,)
    with pytest.raises(ValueError, match="no training movie"):
        knn_copy({"a": rows[:0]}, {"a": rows})
    with pytest.raises(ValueError, match="sources"):
        knn_copy({"a": rows}, {"b": rows})


def test_vectors_are_shuffled_among_the_items_that_are_asked_about() -> None:
    vectors: Any = SimpleNamespace(n_items=9, user_sources={"behavioral": np.zeros((4, 2))})
    frame = pl.DataFrame({"items": [[7, 2], [3], [5, 7], [3]], "user": [None, 1, None, 2]})
    rows = shuffled_rows(vectors, frame).numpy()
    assert sorted(rows[[3, 5, 7]]) == [3, 5, 7]
    assert not (rows == np.arange(13)).any()
    assert (rows[:9] < 9).all()
    assert sorted(rows[9:]) == [9, 10, 11, 12]
    assert len(shuffled_rows(vectors, frame.with_columns(user=pl.lit(None, pl.Int64)))) == 9
