"""From raw data to training data."""

import logging
from pathlib import Path

import polars as pl
import pytest

from ilm_lightning.data.dataset import Dataset, assemble
from ilm_lightning.data.prepare import prepare
from ilm_lightning.data.tables import DataError

SOURCE = Path("events")


def dataset(events: list[tuple[str, str, float, int]], titles: dict[str, str]) -> Dataset:
    frame = pl.LazyFrame(events, schema=["user", "item", "rating", "timestamp"], orient="row")
    items = pl.DataFrame({"item_id": list(titles), "title": list(titles.values())})
    return assemble(frame, items, SOURCE, "toy", "none")


EVENTS = [
    ("u9", "a", 2.0, 5),
    ("u9", "a", 4.0, 7),
    ("u10", "a", 3.0, 1),
    ("u10", "c", 3.0, 2),
    ("u9", "c", 1.0, 1),
    ("u11", "b", 1.0, 1),
]
TITLES = {"b": "Rare", "a": "Common", "c": "", "d": "Never rated"}


def test_rare_items_leave_and_everything_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        ready = prepare(dataset(EVENTS, TITLES), min_ratings=2)
    assert [(i.index, i.item_id, i.n_ratings) for i in ready.catalog] == [(0, "a", 2), (1, "c", 2)]
    assert ready.interactions.user_ids == ["u10", "u9"]
    assert ready.interactions.frame.rows() == [(0, 0, 3.0, 1), (0, 1, 3.0, 2), (1, 1, 1.0, 1), (1, 0, 4.0, 7)]
    expected = {
        "items": 2,
        "users": 2,
        "interactions": 4,
        "items_dropped": 2,
        "users_dropped": 1,
        "repeated_pairs": 1,
        "items_without_text": 1,
        "items_with_directors": 0,
    }
    assert expected.items() <= dict(ready.report).items()
    assert caplog.messages == [
        "toy: 2 of 4 items left out, fewer than 2 ratings",
        "toy: 1 repeated ratings of one item by one user, the latest kept",
        "toy: 1 items have no text; kept, without item-text pairs",
    ]


def test_nothing_leaves_when_all_are_kept() -> None:
    ready = prepare(dataset(EVENTS, TITLES), min_ratings=0)
    assert [i.n_ratings for i in ready.catalog] == [1, 2, 2, 0]
    assert ready.interactions.n_items == 4
    assert ready.interactions.n_users == 3


def test_the_order_of_the_file_does_not_matter() -> None:
    tied = [*EVENTS, ("u10", "a", 5.0, 1)]
    one, two = (prepare(dataset(events, TITLES), 1).interactions for events in (tied, tied[::-1]))
    assert one.frame.equals(two.frame)
    assert one.user_ids == two.user_ids
    # Two ratings of one time: the higher is kept.
    assert one.frame.filter(pl.col("rating") == 5.0).height == 1


def test_too_little_is_left() -> None:
    with pytest.raises(DataError, match=r"0 of 4 items have at least 5 ratings; lower data\.min_ratings"):
        prepare(dataset(EVENTS, TITLES))


def test_numeric_ids_are_ordered_as_numbers() -> None:
    data = dataset([("10", "a", 1.0, 0), ("9", "b", 1.0, 0), ("x", "a", 1.0, 0)], {"a": "A", "b": "B"})
    assert data.interactions.user_ids == ["9", "10", "x"]
