import pytest

from ilm_lightning.evaluation.claims import claims, direction, verdict


@pytest.mark.parametrize(
    ("first", "others", "expected"),
    [
        ("above", {"sc_second": "above"}, "confirmed"),
        ("below", {"sc_second": "below"}, "refuted"),
        ("above", {"sc_second": "not apart"}, "undecided"),
        ("not apart", {"sc_second": "above"}, "undecided"),
        ("not apart", {"sc_second": "not apart"}, "undecided"),
        ("above", {"sc_second": "below"}, "undecided"),
        ("above", {"rouge_l": "above", "slot_accuracy": "below"}, "undecided"),
        ("below", {"rouge_l": "below", "slot_accuracy": "not apart"}, "refuted"),
        ("above", {}, "undecided"),
    ],
)
def test_verdicts(first: str, others: dict[str, str], expected: str) -> None:
    assert verdict(first, others) == expected


def test_an_interval_that_touches_zero_decides_nothing() -> None:
    assert direction(0.0, 1.0) == direction(-1.0, 0.0) == "not apart"


def test_references_are_not_claimed_to_be_beaten() -> None:
    row = {"low": -2.0, "high": -1.0, "significantly_better": [], "n_movies": 40}
    found = claims({"sc": {"title": row, "blind": row}, "rouge_l": {"blind": row}})
    assert list(found) == ["blind"]
    assert found["blind"] == {"verdict": "refuted", "by": {"sc": "below", "rouge_l": "below"}, "supported_tasks": 0}
    assert claims({}) == {}


def test_few_movies_give_no_verdict() -> None:
    row = {"low": 1.0, "high": 2.0, "significantly_better": []}
    for movies, expected in ((9, "undecided"), (10, "confirmed")):
        counted = {**row, "n_movies": movies}
        found = claims({"sc": {"blind": counted}, "sc_second": {"blind": counted}})["blind"]
        assert found["verdict"] == expected
        assert found["by"] == {"sc": "above", "sc_second": "above"}
        assert found.get("why", "") == ("too few movies for a verdict (9 of at least 10)" if movies == 9 else "")
