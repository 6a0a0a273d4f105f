"""The split: fixed by title and year alone, duplicates together, leaks named."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilm_lightning.data.splits import (
    assert_no_example_leak,
    assert_no_text_leak,
    split_items,
    split_task,
    visible_interactions,
)
from ilm_lightning.data.tables import DataError, Interactions, ItemCatalog, LeakError

TITLES = st.lists(st.text(max_size=12), min_size=1, max_size=30)


def catalog_of(titles: list[str]) -> ItemCatalog:
    return ItemCatalog.from_rows([{"item_id": str(i), "title": t, "year": 1990} for i, t in enumerate(titles)])


@given(TITLES, st.integers(0, 5))
def test_a_movies_split_does_not_depend_on_the_catalogue(titles: list[str], seed: int) -> None:
    whole = ItemCatalog.from_rows([{"item_id": f"x{t}{i}", "title": t, "year": 1990} for i, t in enumerate(titles)])
    parts = split_items(whole, seed)
    alone = split_items(ItemCatalog(whole.frame[-1:].drop("index")), seed)
    assert alone[0] == parts[-1]
    by_group: dict[str, set[str]] = {}
    for item, part in zip(whole, parts, strict=True):
        by_group.setdefault(item.group, set()).add(str(part))
    assert all(len(found) == 1 for found in by_group.values())


def test_shares_and_seeds() -> None:
    catalog = catalog_of([f"Film number {i}" for i in range(4000)])
    parts = split_items(catalog)
    assert np.mean(parts == "train") == pytest.approx(0.8, abs=0.02)
    assert np.mean(parts == "test") == pytest.approx(0.1, abs=0.015)
    assert (parts != split_items(catalog, seed=1)).mean() > 0.2
    assert set(split_items(catalog, fractions=(1.0, 0.0, 0.0))) == {"train"}
    assert set(split_items(catalog, fractions=(0.0, 0.0, 1.0))) == {"test"}


def test_the_split_is_frozen() -> None:
    # A changed hash would mix old and new artefacts: this line may not change.
    parts = split_items(catalog_of(["Heat", "The Client", "Alien", "Brazil", "Fargo", "Seven"]), seed=3)
    assert parts.tolist() == ["train", "test", "validation", "train", "validation", "train"]


@pytest.mark.parametrize("fractions", [(0.5, 0.5, 0.5), (1.2, -0.1, -0.1), (0.5, 0.5)])
def test_bad_fractions(fractions: tuple[float, float, float]) -> None:
    with pytest.raises(DataError, match="sum to 1"):
        split_items(catalog_of(["Heat"]), fractions=fractions)


def test_a_leak_is_named_by_title() -> None:
    catalog = catalog_of(["Heat", "Alien", "Brazil"])
    split = np.array(["train", "test", "validation"])
    assert_no_text_leak(split, [0, 0], catalog)
    assert_no_text_leak(split, [])
    with pytest.raises(LeakError, match=r"Alien \(1990\), a test item, would enter training \(2 such items\)"):
        assert_no_text_leak(split, [2, 0, 1], catalog)
    with pytest.raises(LeakError, match="row 2, a validation item"):
        assert_no_text_leak(split, [2])
    with pytest.raises(LeakError, match="another catalogue"):
        assert_no_text_leak(split, [3], catalog)


def test_a_held_out_duplicate_is_a_leak() -> None:
    catalog = catalog_of(["The Heat", "Heat"])
    with pytest.raises(LeakError, match="a duplicate of it is held out"):
        assert_no_text_leak(["train", "test"], [0], catalog)


def test_the_papers_split_is_of_each_task_alone() -> None:
    catalog = catalog_of([f"Film number {i}" for i in range(2000)] + ["Film number 0"])
    one, two = split_task(catalog, "summary"), split_task(catalog, "pitch")
    for parts in (one, two):
        assert np.mean(parts == "test") == pytest.approx(0.1, abs=0.025)
        assert parts[0] == parts[-1]
    # independent of one another: a tenth of a tenth is held out in both
    assert np.mean((one == "test") & (two == "test")) == pytest.approx(0.01, abs=0.008)
    assert set(split_items(catalog, rule="paper")) == {"train"}
    assert split_items(catalog, rule="cold").tolist() == split_items(catalog).tolist()


def test_cold_movies_have_no_interactions() -> None:
    frame = pl.DataFrame({"user": [0, 0, 1, 1], "item": [0, 1, 1, 2], "rating": [1.0, 2.0, 3.0, 4.0], "timestamp": 0})
    events = Interactions(frame, ["a", "b"], 3)
    split = np.array(["train", "test", "validation"])
    assert visible_interactions(events, split, "strict") is events
    assert visible_interactions(events, split, "paper") is events
    cold = visible_interactions(events, split, "cold")
    assert cold.frame.rows() == [(0, 0, 1.0, 0)]
    assert (cold.n_users, cold.n_items) == (2, 3)


def test_a_task_that_trains_on_what_it_is_scored_on_is_a_leak() -> None:
    parts = ["train", "test", "train", "test"]
    assert_no_example_leak(["pitch", "pitch", "summary", "summary"], ["heat", "alien", "alien", "heat"], parts)
    with pytest.raises(LeakError, match="task 'pitch' would train on alien and be scored on it"):
        assert_no_example_leak(["pitch", "pitch", "summary", "pitch"], ["heat", "alien", "alien", "alien"], [
            "train", "train", "train", "test",
        ])  # fmt: skip
