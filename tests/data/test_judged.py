"""Which ratings are judged, and what is left of a user."""

import numpy as np
import polars as pl
import pytest

from ilm_lightning.data.errors import DataError
from ilm_lightning.data.judged import MOST, check_values, set_judged_apart, user_ratings
from ilm_lightning.data.splits import FRACTIONS, SPLITS, split_keys
from ilm_lightning.data.tables import Interactions


def interactions(counts: list[int], times: bool = True, n_items: int = 200) -> Interactions:
    rng = np.random.default_rng(0)
    rows = []
    for user, count in enumerate(counts):
        for step, item in enumerate(rng.permutation(n_items)[:count]):
            rows.append((user, int(item), float(rng.integers(1, 11)) / 2, 100 + step if times else 0))
    order = rng.permutation(len(rows))
    frame = pl.DataFrame([rows[i] for i in order], schema=["user", "item", "rating", "timestamp"], orient="row")
    return Interactions(frame, [f"u{k}" for k in range(len(counts))], n_items)


def test_the_latest_fifth_is_judged_within_bounds() -> None:
    events = interactions([14, 15, 24, 25, 120, 0])
    parts = set_judged_apart(events)
    judged = dict(parts.judged.frame.group_by("user").len().iter_rows())
    assert judged == {1: 3, 2: 4, 3: 5, 4: MOST}
    assert len(parts.history) + len(parts.judged) == len(events)
    assert parts.history.user_ids == events.user_ids
    for user in user_ratings(parts.history, parts.judged):
        whole = events.frame.filter(pl.col("user") == user.user).sort("timestamp")
        assert [*user.items, *user.judged_items] == whole["item"].to_list()
        assert [*user.ratings, *user.judged] == whole["rating"].to_list()
        assert user.user_id == f"u{user.user}"


def test_values_decide_nothing_and_the_order_of_the_file_neither() -> None:
    events = interactions([30, 40], times=False)
    parts = set_judged_apart(events)
    other = events.frame.with_columns(rating=5.5 - pl.col("rating")).sample(fraction=1.0, shuffle=True, seed=3)
    again = set_judged_apart(Interactions(other, events.user_ids, events.n_items))
    keys = ["user", "item"]
    assert parts.judged.frame.select(keys).sort(keys).equals(again.judged.frame.select(keys).sort(keys))
    # without times the choice is by a hash: neither the first nor the last movies of the catalogue
    rows = parts.judged.frame["item"].to_numpy()
    assert rows.min() < 100 < rows.max()


def test_a_limit_draws_users_by_their_ids() -> None:
    events = interactions([20] * 30)
    some = set_judged_apart(events, users=7).judged.frame["user"].unique()
    assert len(some) == 7
    assert set(some) <= set(set_judged_apart(events, users=12).judged.frame["user"].unique())
    assert sorted(some) != list(range(7))
    assert set_judged_apart(events, users=50).judged.frame["user"].n_unique() == 30


def test_a_limit_keeps_every_splits_share_of_users() -> None:
    judged = set_judged_apart(interactions([15] * 3000, n_items=20), users=600).judged
    drawn = judged.frame["user"].unique().to_list()
    split = split_keys(f"user {judged.user_ids[user]}" for user in drawn)
    shares = {name: float(np.mean(split == name)) for name in SPLITS}
    assert shares == pytest.approx(dict(zip(SPLITS, FRACTIONS, strict=True)), abs=0.04)


def test_too_few_ratings() -> None:
    with pytest.raises(DataError, match="no user has 15 ratings"):
        set_judged_apart(interactions([14, 3]))


def test_missing_values_are_named() -> None:
    events = interactions([20])
    check_values(events, ["rating", "next_item"], "mine", ratings=True, times=True)
    holes = events.frame.with_columns(rating=pl.when(pl.col("item") < 50).then(float("nan")).otherwise("rating"))
    missing = int((events.frame["item"] < 50).sum())
    with pytest.raises(DataError, match=rf"rating: {missing} of 20 interactions of mine have no rating value"):
        check_values(Interactions(holes, ["u0"], 200), ["rating"], "mine", ratings=True, times=False)
    with pytest.raises(DataError, match="next_item: all interactions of mine have the same time"):
        check_values(interactions([20], times=False), ["next_item"], "mine", ratings=False, times=True)
