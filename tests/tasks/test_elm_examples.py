"""Prompts, neighbours and the table of examples."""

import numpy as np
import pytest

from ilm_lightning.data.tables import ItemCatalog
from ilm_lightning.tasks.elm import (
    INTERPOLATION,
    INTERPOLATION_OF_TWO,
    NEIGHBOUR_TASKS,
    PAIR_TASKS,
    PROMPTS,
    SLOT,
    TASKS,
    TWO_SLOT_TASKS,
    build_examples,
    nearest_neighbours,
)
from ilm_lightning.tasks.elm.build import DUPLICATE, EXAMPLE_SCHEMA, NO_PARTNER
from ilm_lightning.tasks.elm.prompts import phrasings
from ilm_lightning.tasks.elm.teacher import NO_GENRE

GENRE_SETS = (["Drama"], ["Comedy", "Romance"], ["Action", "Crime"], ["Horror"], ["Western", "Drama"])


@pytest.fixture(scope="module")
def catalog() -> ItemCatalog:
    rows = [
        {
            "item_id": str(100 + i),
            "title": f"Film {i}",
            "year": 1930 + 2 * i,
            "genres": GENRE_SETS[i % len(GENRE_SETS)],
            "runtime": 80 + 3 * i,
            "countries": ["United States"] if i % 3 else ["France"],
            "languages": ["English"] if i % 3 else ["French"],
            "n_ratings": i,
        }
        for i in range(40)
    ]
    rows.append({"item_id": "900", "title": "Nameless", "year": 1999})
    rows.append({"item_id": "901", "title": "Film 3", "year": 1936, "genres": ["Horror"]})
    return ItemCatalog.from_rows(rows)


@pytest.fixture(scope="module")
def split(catalog: ItemCatalog) -> np.ndarray:
    parts = np.array(["train"] * len(catalog), dtype=object)
    parts[30:36] = "validation"
    parts[36:40] = "test"
    return parts


@pytest.fixture(scope="module")
def neighbours(catalog: ItemCatalog, split: np.ndarray) -> np.ndarray:
    vectors = np.random.default_rng(0).normal(size=(len(catalog), 8))
    return nearest_neighbours(vectors, split, catalog.frame["group"].to_numpy())


def test_names_are_the_papers() -> None:
    assert len(TASKS) == len(set(TASKS)) == 24
    assert TASKS[0] == "summary"
    assert TASKS[-1] == "common_with_nn"
    assert set(PAIR_TASKS) == {"similarities", "interpolation", "why_like_nn", "diff_than_nn", "common_with_nn"}


@pytest.mark.parametrize("task", TASKS)
def test_three_phrasings_with_the_right_slots(task: str) -> None:
    assert len(PROMPTS[task]) >= 3
    assert len(set(PROMPTS[task])) == len(PROMPTS[task])
    for prompt in PROMPTS[task]:
        assert prompt.count(SLOT) == (2 if task in TWO_SLOT_TASKS else 1)
        assert "{" not in prompt.replace(SLOT, "")


def test_phrasings_are_not_shared_between_tasks() -> None:
    every = [prompt for prompts in PROMPTS.values() for prompt in prompts]
    assert len(set(every)) == len(every)


def test_examples_have_the_contract_columns_and_slots(
    catalog: ItemCatalog, split: np.ndarray, neighbours: np.ndarray
) -> None:
    frame, report = build_examples(catalog, split, neighbours)
    assert frame.columns == list(EXAMPLE_SCHEMA)
    assert frame["example_id"].is_unique().all()
    assert report["teacher"].startswith("facts")
    for row in frame.iter_rows(named=True):
        assert row["prompt"] == PROMPTS[row["task"]][row["phrasing"]]
        assert len(row["slots"]) == row["prompt"].count(SLOT)
        assert [item for slot in row["slots"] for item in slot] == row["items"]
        assert {split[item] for item in row["items"]} == {row["split"]}
        assert catalog[row["items"][0]].title not in row["target"]
        if row["task"] == INTERPOLATION:
            assert len(row["slots"][0]) == 2
        if row["task"] in NEIGHBOUR_TASKS:
            assert row["items"][1] == neighbours[row["items"][0]]
        if row["task"] in PAIR_TASKS:
            one, two = row["items"]
            assert catalog[one].group != catalog[two].group


def test_report_counts_every_movie_of_every_task(
    catalog: ItemCatalog, split: np.ndarray, neighbours: np.ndarray
) -> None:
    frame, report = build_examples(catalog, split, neighbours, tasks=["summary", "similarities"])
    assert set(frame["task"]) == {"summary", "similarities"}
    for task in ("summary", "similarities"):
        assert report["examples"][task] == frame.filter(frame["task"] == task).height
        assert report["examples"][task] + sum(report["left_out"][task].values()) == len(catalog)
    assert report["left_out"]["summary"] == {NO_GENRE: 1}


def test_seed_moves_phrasings_and_partners_but_no_single_target(
    catalog: ItemCatalog, split: np.ndarray, neighbours: np.ndarray
) -> None:
    first, _ = build_examples(catalog, split, neighbours, seed=0)
    again, _ = build_examples(catalog, split, neighbours, seed=0)
    other, _ = build_examples(catalog, split, neighbours, seed=1)
    assert first.equals(again)
    joined = first.join(other, on="example_id")
    assert (joined["phrasing"] != joined["phrasing_right"]).any()
    assert (joined["items"] != joined["items_right"]).any()
    single = joined.filter(~joined["task"].is_in(PAIR_TASKS))
    assert (single["target"] == single["target_right"]).all()


def test_a_lonely_movie_is_left_out_of_pair_tasks(catalog: ItemCatalog) -> None:
    parts = np.array(["train"] * len(catalog), dtype=object)
    parts[5] = "test"
    vectors = np.random.default_rng(1).normal(size=(len(catalog), 4))
    near = nearest_neighbours(vectors, parts)
    assert near[5] == -1
    frame, report = build_examples(catalog, parts, near, tasks=["similarities", "diff_than_nn"])
    assert report["left_out"]["similarities"][NO_PARTNER] == 1
    assert report["left_out"]["diff_than_nn"][NO_PARTNER] == 1
    assert frame.filter(frame["split"] == "test").is_empty()


def test_neighbours_are_exact_within_the_split() -> None:
    vectors = np.array([[1, 0], [1, 0.1], [0, 1], [1, 0.05], [5, 0]], dtype=np.float32)
    parts = np.array(["train", "train", "train", "test", "test"])
    assert nearest_neighbours(vectors, parts).tolist() == [1, 0, 1, 4, 3]
    # Rows 0 and 1 are duplicates: each other's film, so not each other's neighbour.
    assert nearest_neighbours(vectors, parts, groups=["a", "a", "b", "c", "d"]).tolist() == [2, 2, 1, 4, 3]


def test_neighbours_match_brute_force_over_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ilm_lightning.tasks.elm.build._ROWS_AT_ONCE", 7)
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(50, 6))
    parts = rng.choice(["train", "test"], size=50)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = unit @ unit.T
    scores[parts[:, None] != parts[None, :]] = -2
    np.fill_diagonal(scores, -2)
    assert nearest_neighbours(vectors, parts).tolist() == scores.argmax(axis=1).tolist()
    groups = rng.integers(0, 20, size=50)
    scores[groups[:, None] == groups[None, :]] = -2
    assert nearest_neighbours(vectors, parts, groups).tolist() == scores.argmax(axis=1).tolist()


@pytest.mark.parametrize(
    ("vectors", "message"),
    [(np.zeros((3, 2)), "do not fit a split of 2"), (np.full((2, 2), np.nan), "NaN"), (np.zeros(2), "do not fit")],
)
def test_bad_vectors_are_refused(vectors: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nearest_neighbours(vectors, ["train", "train"])


def test_bad_requests_are_refused(catalog: ItemCatalog, split: np.ndarray, neighbours: np.ndarray) -> None:
    with pytest.raises(ValueError, match="unknown task 'poem'"):
        build_examples(catalog, split, neighbours, tasks=["poem"])
    with pytest.raises(ValueError, match="give one of each a movie"):
        build_examples(catalog, split[:3], neighbours)
    crossing = neighbours.copy()
    crossing[0] = 38
    with pytest.raises(ValueError, match="row 0 lies in another split"):
        build_examples(catalog, split, crossing)


def test_interpolation_can_show_both_items(catalog: ItemCatalog, split: np.ndarray, neighbours: np.ndarray) -> None:
    mean, _ = build_examples(catalog, split, neighbours, tasks=["interpolation", "similarities"])
    both, _ = build_examples(
        catalog, split, neighbours, tasks=["interpolation", "similarities"], interpolation="two_items"
    )
    assert (mean["target"] == both["target"]).all()
    for one, two in zip(mean.iter_rows(named=True), both.iter_rows(named=True), strict=True):
        if one["task"] == "similarities":
            assert one == two
            continue
        assert one["slots"] == [one["items"]]
        assert two["slots"] == [[row] for row in two["items"]]
        assert two["prompt"] == INTERPOLATION_OF_TWO[two["phrasing"]]
        assert two["prompt"].count(SLOT) == 2
    assert phrasings("interpolation", 1) == PROMPTS["interpolation"]
    assert phrasings("similarities", 2) == PROMPTS["similarities"]


def test_each_task_may_have_its_own_split(catalog: ItemCatalog, neighbours: np.ndarray) -> None:
    whole = np.array(["train"] * len(catalog))
    near = nearest_neighbours(np.eye(len(catalog)), whole, catalog.frame["group"].to_numpy())
    labels = {task: np.where(np.arange(len(catalog)) % 7 == k, "test", "train") for k, task in enumerate(TASKS[-2:])}
    frame, _ = build_examples(catalog, whole, near, tasks=TASKS[-2:], labels=labels)
    for row in frame.iter_rows(named=True):
        assert row["split"] == labels[row["task"]][row["items"][0]]
    # the second movie of a pair may be any
    tests = frame.filter(frame["split"] == "test")
    assert any(labels[row["task"]][row["items"][1]] == "train" for row in tests.iter_rows(named=True))


def test_a_movie_held_twice_is_scored_once(catalog: ItemCatalog) -> None:
    twice = [3, len(catalog) - 1]
    assert catalog.frame["group"][twice[0]] == catalog.frame["group"][twice[1]]
    for held_out in ("train", "test"):
        parts = np.array(["train"] * len(catalog), dtype=object)
        parts[[*twice, 8, 9]] = held_out
        frame, report = build_examples(catalog, parts, None, tasks=["pitch"])
        made = set(frame["items"].list.first().to_list())
        assert made.issuperset(twice) == (held_out == "train")
        assert report["left_out"]["pitch"].get(DUPLICATE, 0) == (held_out == "test")
        # the one with more ratings stays
        assert twice[0] in made


def test_neighbour_tasks_ask_for_neighbours(catalog: ItemCatalog, split: np.ndarray) -> None:
    with pytest.raises(ValueError, match="'why_like_nn' asks for neighbours"):
        build_examples(catalog, split, None, tasks=["pitch", "why_like_nn"])
