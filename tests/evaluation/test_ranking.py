"""HR and NDCG against torchmetrics and by hand; the baselines on data whose answer is known."""

import math

import numpy as np
import pytest
import torch
from scipy import sparse
from torchmetrics.functional.retrieval import retrieval_hit_rate, retrieval_normalized_dcg

from ilm_lightning.evaluation.baselines import Markov, Popularity, dot_product, evaluate, item_knn
from ilm_lightning.evaluation.ranking import (
    NO_ITEM,
    UNKNOWN_ITEM,
    blocks,
    compact,
    ranking_from_ranks,
    ranking_of_lists,
    ranking_of_users,
    ranks_in_lists,
    ranks_of_scores,
    top_items,
)


@pytest.mark.parametrize("cut", [1, 5, 10])
def test_equal_to_torchmetrics_on_random_rankings(cut: int) -> None:
    rng = np.random.default_rng(0)
    scores = rng.permuted(np.tile(np.arange(40, dtype=np.float32), (60, 1)), axis=1)
    targets = rng.integers(0, 40, 60)
    found = ranking_from_ranks(ranks_of_scores(scores, targets), cuts=(cut,))
    hits, gains = [], []
    for row, target in zip(scores, targets, strict=True):
        relevant = torch.zeros(40, dtype=torch.bool)
        relevant[target] = True
        hits.append(float(retrieval_hit_rate(torch.from_numpy(row), relevant, top_k=cut)))
        gains.append(float(retrieval_normalized_dcg(torch.from_numpy(row), relevant, top_k=cut)))
    assert found.hr[cut] == pytest.approx(np.mean(hits))
    assert found.ndcg[cut] == pytest.approx(np.mean(gains), rel=1e-6)
    assert found.hr_error[cut] == pytest.approx(np.std(hits, ddof=1) / math.sqrt(60))


@pytest.mark.parametrize("cut", [1, 5, 10])
def test_equal_to_torchmetrics_with_duplicates_empty_places_and_ties(cut: int) -> None:
    rng = np.random.default_rng(2)
    # few items, so that most lists repeat some, and -1 where an output names none
    lists, targets = rng.integers(NO_ITEM, 15, (60, 10)), rng.integers(0, 15, 60)
    found = ranking_of_lists(lists, targets, drop_invalid=False, cuts=(cut,))
    hits, gains = [], []
    for row, target in zip(lists, targets, strict=True):
        relevant = torch.from_numpy((row == target) & (np.cumsum(row == target) == 1))
        falling = torch.arange(10.0, 0.0, -1.0)
        hits.append(float(retrieval_hit_rate(falling, relevant, top_k=cut)))
        gains.append(float(retrieval_normalized_dcg(falling, relevant, top_k=cut)))
    assert 0 < np.mean(hits) < 1
    assert found.hr[cut] == pytest.approx(np.mean(hits))
    assert found.ndcg[cut] == pytest.approx(np.mean(gains), rel=1e-6)
    # equal scores go by row, which distinct scores in that order say as well
    scores = rng.integers(0, 4, (60, 40)).astype(np.float32)
    distinct = torch.from_numpy(scores - np.arange(40, dtype=np.float32) / 100)
    tied = ranking_from_ranks(ranks_of_scores(scores, targets), cuts=(cut,))
    relevant = torch.nn.functional.one_hot(torch.from_numpy(targets), 40).bool()
    pairs = list(zip(distinct, relevant, strict=True))
    assert tied.hr[cut] == pytest.approx(np.mean([float(retrieval_hit_rate(*p, top_k=cut)) for p in pairs]))
    assert tied.ndcg[cut] == pytest.approx(
        np.mean([float(retrieval_normalized_dcg(*p, top_k=cut)) for p in pairs]), rel=1e-6
    )


def test_ties_go_by_item_row_and_lists_agree_with_scores() -> None:
    rng = np.random.default_rng(1)
    scores = rng.integers(0, 4, (50, 12)).astype(np.float32)
    targets = rng.integers(0, 12, 50)
    seen = sparse.csr_matrix(rng.random((50, 12)) < 0.3)
    for mask in (None, seen):
        ranks = ranks_of_scores(scores, targets, mask)
        lists = top_items(scores, 12, mask)
        # a target that may not be recommended is in no list, and has no rank either
        assert np.array_equal(ranks_in_lists(lists, targets), ranks)
    assert (ranks == 0).sum() > 5
    assert ranks_of_scores(np.zeros((1, 3), np.float32), np.array([1])).tolist() == [2]


def test_duplicates_and_invalid_places() -> None:
    lists = np.array([[NO_ITEM, 7, 7, 3], [1, NO_ITEM, 2, 2]])
    targets = np.array([3, 2])
    kept = ranking_of_lists(lists, targets, drop_invalid=False, cuts=(3,))
    moved = ranking_of_lists(lists, targets, cuts=(3,))
    assert kept.hr == {3: 0.5}
    assert moved.hr == {3: 1.0}
    assert moved.ndcg[3] == pytest.approx((1 / math.log2(4) + 1 / math.log2(3)) / 2)
    assert (moved.invalid, moved.duplicates) == (0.25, 0.25)
    assert compact(lists).tolist() == [[7, 7, 3, NO_ITEM], [1, 2, 2, NO_ITEM]]


def test_an_unknown_item_keeps_its_place_and_is_invalid() -> None:
    # beams 2 to 5 are taken out, the unknown item before them is not
    lists = np.array([[UNKNOWN_ITEM, *[NO_ITEM] * 4, 3], [UNKNOWN_ITEM, UNKNOWN_ITEM, 5, 4, 2, 1]])
    targets = np.array([3, 4])
    assert ranks_in_lists(compact(lists), targets).tolist() == [2, 4]
    found = ranking_of_lists(lists, targets, cuts=(1, 2, 4))
    assert found.hr == {1: 0.0, 2: 0.5, 4: 1.0}
    assert found.invalid == pytest.approx(7 / 12)
    # two unknown items are no repetition
    assert found.duplicates == 0.0


def test_short_catalogues_leave_empty_places() -> None:
    lists = top_items(np.array([[1.0, 2.0]], np.float32), 4, sparse.csr_matrix([[True, False]]))
    assert lists.tolist() == [[1, NO_ITEM, NO_ITEM, NO_ITEM]]


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="no users"):
        ranking_from_ranks(np.array([], dtype=np.int64))
    with pytest.raises(ValueError, match="one list a user"):
        ranks_in_lists(np.zeros((2, 3), np.int64), np.zeros(3, np.int64))
    with pytest.raises(ValueError, match="NaN"):
        ranks_of_scores(np.array([[np.nan, 1.0]], np.float32), np.array([1]))


def test_blocks_cover_everybody_once() -> None:
    assert [i for part in blocks(10, 3) for i in range(10)[part]] == list(range(10))


def test_markov_falls_back_to_popularity() -> None:
    counts = sparse.csr_matrix(np.array([[0, 2, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]], np.float32))
    popularity = np.array([1, 4, 9, 1])
    scores = Markov(counts, popularity, np.array([0, 1]))(slice(0, 2))
    assert np.argsort(-scores[0], kind="stable").tolist() == [1, 3, 2, 0]
    assert np.argsort(-scores[1], kind="stable").tolist() == [2, 1, 0, 3]
    assert evaluate(Markov(counts, popularity, np.array([0, 1])), np.array([1, 2])).hr[5] == 1.0
    assert Popularity(popularity, 2)(slice(0, 5)).shape == (2, 4)
    # also where counts and popularities are large
    counts = sparse.csr_matrix(np.array([[0, 4000, 4000], [0, 0, 0], [0, 0, 0]], np.float32))
    popular = Markov(counts, np.array([90_000, 80_000, 80_001]), np.array([0]))(slice(0, 1))
    assert np.argsort(-popular[0], kind="stable").tolist() == [2, 1, 0]


def test_knn_and_factors_find_planted_structure() -> None:
    train = sparse.csr_matrix(np.kron(np.eye(2), np.ones((6, 5))).astype(np.float32))
    history = train.tolil()
    history[:, 4] = history[:, 9] = 0
    targets = np.repeat([4, 9], 6)
    seen = history.tocsr().astype(bool)
    assert evaluate(item_knn(train, history.tocsr()), targets, seen).hr[5] == 1.0
    items = np.kron(np.eye(2), np.ones((5, 1))).astype(np.float32)
    users = np.kron(np.eye(2), np.ones((6, 1))).astype(np.float32)
    found = evaluate(dot_product(users, items), targets, seen)
    assert found.hr[5] == found.ndcg[5] == 1.0
    # against the grain the target comes last among the unseen
    assert evaluate(dot_product(users[::-1], items), targets, seen).hr[5] == 0.0


def test_an_item_is_no_neighbour_of_itself() -> None:
    train = sparse.csr_matrix(np.random.default_rng(0).random((40, 12)) < 0.5)
    for neighbours in (2, 5):
        kept = item_knn(train, train, neighbours).items.toarray()
        assert not kept.diagonal().any()
        assert ((kept > 0).sum(1) == neighbours).all()
        # what is kept is the most similar of the others
        norms = np.sqrt(train.sum(0).A1)
        cosine = (train.T.astype(float) @ train.astype(float)).toarray() / np.outer(norms, norms)
        np.fill_diagonal(cosine, 0.0)
        assert kept.max(1) == pytest.approx(cosine.max(1), rel=1e-5)


def test_users_without_a_tie_are_counted_apart() -> None:
    ranks, tied = np.array([1, 0, 3, 20]), np.array([False, True, False, True])
    found = ranking_of_users(ranks, tied)
    assert (found["hr"][5], found["users"]) == (0.5, 4)
    assert (found["untied"]["hr"][5], found["untied"]["users"]) == (1.0, 2)
    whole = ranking_from_ranks(ranks, invalid=0.25, duplicates=0.5)
    assert ranking_of_users(ranks, tied, whole)["untied"]["invalid"] == 0.25
    for nothing in (None, np.zeros(4, bool), np.ones(4, bool)):
        assert "untied" not in ranking_of_users(ranks, nothing)
