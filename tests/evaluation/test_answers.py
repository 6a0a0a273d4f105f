import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilm_lightning.evaluation.answers import (
    chance_measures,
    compare,
    expected_rating,
    rank_measures,
    rank_of_first,
    read_rating,
    root_mean_square,
    tag_score,
)

VOCABULARY = {"crime", "heist", "noir", "1970s"}


@pytest.mark.parametrize(
    ("text", "precision", "recall", "known"),
    [
        ("crime, heist", 1.0, 1.0, 1.0),
        ("Crime\nheist\nnoir.", 2 / 3, 1.0, 1.0),
        ("crime, crime; CRIME", 1.0, 0.5, 1.0),
        ("robbers, crime", 0.5, 0.5, 0.5),
        ("", 0.0, 0.0, 0.0),
        (" , .", 0.0, 0.0, 0.0),
    ],
)
def test_tags(text: str, precision: float, recall: float, known: float) -> None:
    found = tag_score(text, ["crime", "heist"], VOCABULARY)
    assert (found.precision, found.recall, found.known) == pytest.approx((precision, recall, known))
    assert found.f1 == pytest.approx(2 * precision * recall / (precision + recall) if precision else 0.0)


def test_tags_that_are_passed_over_count_neither_way() -> None:
    told = {"drama", "sci-fi"}
    assert tag_score("Drama, crime, robbers", ["crime"], VOCABULARY | told, told) == tag_score(
        "crime, robbers", ["crime"], VOCABULARY
    )
    assert tag_score("drama", ["crime"], VOCABULARY | told, told).precision == 0


@given(st.lists(st.sampled_from(sorted(VOCABULARY)), min_size=1, unique=True))
def test_the_true_tags_score_one(tags: list[str]) -> None:
    assert tag_score(", ".join(tags), tags, VOCABULARY).f1 == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("text", "value"), [("4", 4.0), ("about 3.5 I think", 3.5), ("0.5", 0.5), ("5.5", None), ("", None), ("-", None)]
)
def test_ratings_are_read(text: str, value: float | None) -> None:
    assert read_rating(text, 0.5, 5.0) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("-4", -4.0),
        ("\u22122,5", -2.5),
        ("I give it (-7).", -7.0),
        ("3-4", 3.0),
        ("between 3 -4", 3.0),
        ("a 4-star film", 4.0),
        ("grade B-4", 4.0),
        ("- 4", 4.0),
        ("-11", None),
    ],
)
def test_a_minus_counts_where_it_is_a_sign(text: str, value: float | None) -> None:
    assert read_rating(text, -10.0, 10.0) == value


def test_the_ends_of_a_scale_in_single_precision_are_readable() -> None:
    low, high = float(np.float32(0.1)), float(np.float32(4.9))
    assert low > 0.1
    assert read_rating("0.1", low, high) == 0.1
    assert read_rating("4.9", 0.5, float(np.nextafter(np.float32(4.9), np.float32(0)))) == 4.9
    assert read_rating("0.09", low, high) is None
    assert read_rating("4.91", low, high) is None


def test_expected_rating_follows_the_probabilities() -> None:
    assert expected_rating([1000.0, 1001.0], [1, 4]) == pytest.approx(2.0)
    assert expected_rating([3.0], [4.5]) == 4.5


def test_ties_stand_before_the_true_candidate() -> None:
    assert rank_of_first([1.0]) == 1
    assert rank_of_first([0.0] * 20) == 20
    assert rank_of_first([3.0, 1.0, 2.0]) == 1


def test_chance_is_the_mean_over_all_ranks() -> None:
    for size in (2, 7, 20):
        every = rank_measures(range(1, size + 1))
        chance = chance_measures([size])
        for name, values in every.items():
            assert values.mean() == pytest.approx(chance[name][0])


def test_comparison_turns_errors_around() -> None:
    own, other = np.array([1.0, 1.0, 0.5]), np.array([2.0, 1.5, 0.5])
    errors = compare({"mae": {"own": own, "user_mean": other}}, ["a", "b", "c"], "mae", resamples=200)
    assert errors["differences"]["user_mean"]["mean"] == pytest.approx(0.5)
    assert errors["measures"]["mae"] == {"own": pytest.approx(2.5 / 3), "user_mean": pytest.approx(4 / 3)}
    hits = compare({"mrr": {"own": own, "als": other}}, ["a", "b", "c"], "mrr", resamples=200)
    assert hits["differences"]["als"]["mean"] == pytest.approx(-0.5)
    assert hits["differences"]["als"]["high"] <= 0
    assert root_mean_square(np.array([3.0, 4.0])) == pytest.approx(np.sqrt(12.5))


def test_undefined_values_are_left_out() -> None:
    nan = np.nan
    values = {"bc": {"own": np.array([0.5, nan, 0.1]), "blind": np.array([0.1, nan, nan]), "none": np.full(3, nan)}}
    found = compare(values, [1, 2, 3], "bc", resamples=50)
    assert found["n"] == 2
    assert found["measures"]["bc"] == {"own": pytest.approx(0.3), "blind": pytest.approx(0.1)}
    assert found["differences"]["blind"]["mean"] == pytest.approx(0.4)
    assert "none" not in found["differences"]
