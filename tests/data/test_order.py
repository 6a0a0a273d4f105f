"""Events ordered by time and checked for repetitions, piece by piece."""

import numpy as np
import polars as pl
import pytest

from ilm_lightning.data import order
from ilm_lightning.data.files import TABLE_SIZE, distinct


def events(seed: int, users: int = 40, rows: int = 900, latest: int = 50) -> pl.DataFrame:
    """Distinct pairs in the order of user and item; many equal times."""
    draw = np.random.default_rng(seed)
    pairs = np.sort(draw.choice(users * 100, rows, replace=False))
    return pl.DataFrame(
        {
            "user": (pairs // 100).astype(np.uint32),
            "item": (pairs % 100).astype(np.uint32),
            "rating": draw.integers(1, 11, rows).astype(np.float32) / 2,
            "timestamp": draw.integers(-5, latest, rows),
        }
    )


@pytest.fixture(params=[1, 7, 100, 10_000])
def piece(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(order, "ROWS", request.param)
    return int(request.param)


@pytest.mark.parametrize("arrangement", ["release", "reversed", "shuffled", "repeated", "far apart", "empty"])
def test_in_time_order_is_the_sort_it_stands_for(arrangement: str, piece: int) -> None:
    frame = events(piece)
    if arrangement == "repeated":
        frame = pl.concat([frame, frame.head(9).with_columns(pl.col("rating") + 1)]).sort("user", "item", "rating")
    frame = {
        "reversed": frame.reverse(),
        "shuffled": frame.sample(fraction=1.0, shuffle=True, seed=1),
        # times that leave no room for user and place in one number
        "far apart": frame.with_columns(timestamp=pl.when(pl.col("item") == 7).then(2**62).otherwise(-(2**62))),
        "empty": frame.clear(),
    }.get(arrangement, frame)
    assert order.in_time_order(frame).equals(frame.sort("user", "timestamp", "item", "rating"))


def test_repetitions_are_found_wherever_they_are(piece: int) -> None:
    frame = order.in_time_order(events(3))
    assert not order.has_repeats(frame)
    assert not order.has_repeats(frame.clear())
    for row in (0, 450, 899):
        doubled = pl.concat([frame, frame[row].with_columns(pl.lit(99, dtype=pl.Int64).alias("timestamp"))])
        assert order.has_repeats(doubled.sort(*order.ORDER))


@pytest.mark.parametrize("offset", [0, TABLE_SIZE])
def test_distinct_numbers_of_small_and_large_ids(offset: int) -> None:
    ids = pl.Series("item", [offset + number for number in (9, 2, 9, 40)], dtype=pl.UInt32)
    values, counts = distinct(ids)
    assert values.to_list() == [offset + 2, offset + 9, offset + 40]
    assert (counts.to_list(), values.dtype) == ([1, 2, 1], pl.UInt32)
    assert distinct(ids.clear())[0].to_list() == []
