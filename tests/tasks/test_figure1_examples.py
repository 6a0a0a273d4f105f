"""Examples of Figure 1's tasks: what they show, ask for and hold back; profiles in words."""

import numpy as np
import polars as pl
import pytest

from ilm_lightning.data.genome import GenomeScores
from ilm_lightning.data.item import Item
from ilm_lightning.data.judged import set_judged_apart
from ilm_lightning.data.splits import split_keys
from ilm_lightning.data.tables import Interactions, ItemCatalog
from ilm_lightning.tasks.elm import mentions
from ilm_lightning.tasks.figure1 import (
    FIGURE1_PROMPTS,
    FIGURE1_SCHEMA,
    FIGURE1_TASKS,
    OWN_PROMPT_TASKS,
    USER_TASKS,
    Ratings,
    Traits,
    Typical,
    build_figure1,
    preference,
    read_taste,
    write_profile,
)
from ilm_lightning.tasks.figure1.build import NO_GENOME, NO_TITLE
from ilm_lightning.tasks.figure1.prompts import with_title
from ilm_lightning.tasks.figure1.users import FEW_CANDIDATES, NO_JUDGED

GENRES = (["Drama"], ["Comedy", "Romance"], ["Action", "Crime"], ["Horror"], ["Western", "Drama"])
ITEMS, USERS = 120, 60


@pytest.fixture(scope="module")
def catalog() -> ItemCatalog:
    rows = [
        {
            "item_id": str(100 + i),
            "title": f"Film {i}" if i else "",
            "year": 1930 + i % 80,
            "genres": GENRES[i % len(GENRES)],
            "directors": [f"Ann Other{i % 9}"],
            "countries": ["France"] if i % 4 == 0 else ["United States"],
            "n_ratings": i,
        }
        for i in range(ITEMS)
    ]
    return ItemCatalog.from_rows(rows)


@pytest.fixture(scope="module")
def split() -> np.ndarray:
    return split_keys([str(i) for i in range(ITEMS)])


@pytest.fixture(scope="module")
def ratings() -> Ratings:
    rng = np.random.default_rng(5)
    rows = [
        (user, int(item), float(rng.integers(2, 11)) / 2, 100 + step)
        for user in range(USERS)
        for step, item in enumerate(rng.permutation(ITEMS)[: 20 + user % 30])
    ]
    frame = pl.DataFrame(rows, schema=["user", "item", "rating", "timestamp"], orient="row")
    parts = set_judged_apart(Interactions(frame, [f"u{k}" for k in range(USERS)], ITEMS))
    users = split_keys([f"user u{k}" for k in range(USERS)])
    return Ratings(parts.history, parts.judged, dict.fromkeys(USER_TASKS, users))


@pytest.fixture(scope="module")
def genome() -> GenomeScores:
    rng = np.random.default_rng(6)
    tags = [f"tag {k}" for k in range(30)]
    rows = [(i, t, float(rng.random()) * (0.4 if i == 7 else 1)) for i in range(0, ITEMS, 2) for t in range(30)]
    rows += [(7, t, 0.3) for t in range(30)]
    return GenomeScores(pl.DataFrame(rows, schema=["item", "tag", "relevance"], orient="row"), tags)


@pytest.fixture(scope="module")
def frame(catalog: ItemCatalog, split: np.ndarray, ratings: Ratings, genome: GenomeScores) -> pl.DataFrame:
    made, report = build_figure1(catalog, split, FIGURE1_TASKS, genome=genome, ratings=ratings, length=4)
    assert made.columns == list(FIGURE1_SCHEMA)
    assert made["example_id"].is_unique().all()
    assert {task: made.filter(pl.col("task") == task).height for task in FIGURE1_TASKS} == report["examples"]
    assert report["left_out"]["long_summary"] == {NO_TITLE: 1}
    assert report["left_out"]["genome_tags"] == {NO_GENOME: ITEMS // 2}
    return made


@pytest.mark.parametrize("task", FIGURE1_TASKS)
def test_three_phrasings(task: str) -> None:
    prompts = FIGURE1_PROMPTS[task]
    assert len(set(prompts)) == len(prompts) >= 3
    for prompt in prompts:
        assert ("{user}" in prompt) == (task in ("next_item", "user_profile"))
        assert ("{history}" in prompt) == (task in ("rating", "next_item"))
        assert ("{title}" in prompt) == (task == "long_summary")


def test_braces_of_a_title_are_no_slot() -> None:
    assert with_title("Sum up {title} {item}.", "The {item} (1999)") == "Sum up The (item) (1999) {item}."


def test_slots_fill_the_markers_in_order(frame: pl.DataFrame) -> None:
    for row in frame.iter_rows(named=True):
        markers = row["prompt"].replace("{item}", "\0i").replace("{user}", "\0u").split("\0")[1:]
        assert len(markers) == len(row["slots"])
        for marker, slot in zip(markers, row["slots"], strict=True):
            assert len(slot) == 1
            assert (slot[0] >= ITEMS) == marker.startswith("u")
            assert slot[0] < ITEMS or slot[0] == ITEMS + row["user"]
        if row["split"] != "train":
            assert row["phrasing"] == 0


def test_training_examples_read_training_movies_alone(frame: pl.DataFrame, split: np.ndarray) -> None:
    train = frame.filter(pl.col("split") == "train")
    assert set(train["task"]) == set(FIGURE1_TASKS)
    for row in train.iter_rows(named=True):
        rows = {*row["items"], *(row["reads"] or []), *(s for slot in row["slots"] for s in slot if s < ITEMS)}
        assert {str(split[item]) for item in rows} == {"train"}
    # a test user's history is shown whole
    tests = frame.filter((pl.col("split") == "test") & (pl.col("task") == "rating"))
    assert {str(split[i]) for i in tests["items"].explode()} > {"train"}


def test_held_out_units_come_once(frame: pl.DataFrame) -> None:
    held_out = frame.filter(pl.col("split") != "train")
    for task, part in held_out.group_by("task"):
        unit = "user" if task[0] in USER_TASKS else "about"
        assert part[unit].is_unique().all()
    assert not frame.filter((pl.col("split") == "train") & (pl.col("task") == "rating"))["user"].is_unique().all()


def test_judged_ratings_are_asked_for_and_never_shown(frame: pl.DataFrame, ratings: Ratings) -> None:
    judged = {(u, i): r for u, i, r in ratings.judged.frame.select("user", "item", "rating").iter_rows()}
    known = {(u, i): r for u, i, r in ratings.history.frame.select("user", "item", "rating").iter_rows()}
    asked = frame.filter(pl.col("task").is_in(["rating", "next_item"]))
    for row in asked.iter_rows(named=True):
        assert (row["user"], row["about"]) in judged
        shown = row["items"][:-1] if row["task"] == "rating" else row["items"]
        assert 1 <= len(shown) <= 4
        assert all((row["user"], item) in known for item in shown)
        if row["task"] == "rating":
            assert row["items"][-1] == row["about"]
            assert row["value"] == judged[row["user"], row["about"]]
            assert row["target"] == f"{row['value']:g}"
            for item in shown:
                assert f"{{item}} {known[row['user'], item]:g}" in row["prompt"]


def test_candidates_hold_the_truth_first_and_nothing_the_user_knows(
    frame: pl.DataFrame, catalog: ItemCatalog, split: np.ndarray, ratings: Ratings
) -> None:
    known: dict[int, set[int]] = {}
    for part in (ratings.history.frame, ratings.judged.frame):
        for user, item in part.select("user", "item").iter_rows():
            known.setdefault(user, set()).add(item)
    tests = frame.filter((pl.col("split") != "train") & (pl.col("task") == "next_item"))
    assert tests.height > 3
    for row in tests.iter_rows(named=True):
        drawn = row["candidate_items"]
        assert drawn[0] == row["about"]
        assert len(drawn) == len(set(drawn)) == 20
        assert not known[row["user"]] & set(drawn[1:])
        # a title that training never held cannot be answered
        assert {str(split[item]) for item in drawn} == {"train"}
        assert row["candidates"] == [catalog[item].label for item in drawn]
        assert row["target"] == row["candidates"][0]
    scale = sorted(set(ratings.judged.frame["rating"]))
    asked = frame.filter((pl.col("split") == "test") & (pl.col("task") == "rating"))
    assert all(own == [f"{step:g}" for step in scale] for own in asked["candidates"].to_list())


def test_tags_are_the_most_relevant_ones(frame: pl.DataFrame, genome: GenomeScores) -> None:
    scores = {(i, genome.tags[t]): r for i, t, r in genome.frame.iter_rows()}
    for row in frame.filter(pl.col("task") == "genome_tags").iter_rows(named=True):
        tags = row["target"].split(", ")
        values = [scores[row["about"], tag] for tag in tags]
        assert len(tags) <= 10
        assert values == sorted(values, reverse=True)
        assert min(values) >= 0.5
        left = [r for (i, tag), r in scores.items() if i == row["about"] and tag not in tags]
        assert len(tags) < 10 or max(left) <= min(values)


def test_tags_that_name_an_items_own_genres_are_not_asked_for() -> None:
    genres = (["Sci-Fi", "Film-Noir"], ["Drama"], ["Drama"])
    catalog = ItemCatalog.from_rows(
        [{"item_id": str(i), "title": f"Film {i}", "genres": own} for i, own in enumerate(genres)]
    )
    tags = ["sci-fi", "drama", "scifi", "film noir", "noir thriller", *(f"tag {k}" for k in range(10))]
    # relevance falls with the place in the list; the last film's one tag is its genre
    rows = [(item, place, 0.99 - place / 50) for item in (0, 1) for place in range(len(tags))] + [(2, 1, 0.9)]
    scores = GenomeScores(pl.DataFrame(rows, schema=["item", "tag", "relevance"], orient="row"), tags)
    frame, report = build_figure1(catalog, ["train"] * 3, ["genome_tags"], genome=scores)
    targets = [target.split(", ") for target in frame["target"]]
    more = ["noir thriller", *(f"tag {k}" for k in range(10))]
    assert targets == [["drama", *more[:9]], ["sci-fi", "scifi", "film noir", *more[:7]]]
    assert report["left_out"]["genome_tags"] == {NO_GENOME: 1}


def test_only_prompts_that_vary_are_listed_as_such(frame: pl.DataFrame) -> None:
    for task, part in frame.filter(pl.col("split") == "test").group_by("task"):
        assert part["prompt"].n_unique() == 1 or task[0] in OWN_PROMPT_TASKS
    several = frame.filter((pl.col("split") == "test") & pl.col("task").is_in(["long_summary", "rating"]))
    assert several["prompt"].is_unique().all()


def test_what_is_left_out_is_counted(catalog: ItemCatalog, ratings: Ratings) -> None:
    nothing = np.array(["test"] * ITEMS)
    _, report = build_figure1(catalog, nothing, ["next_item"], ratings=ratings)
    assert report["examples"]["next_item"] == 0
    assert sum(report["left_out"]["next_item"].values()) == USERS
    assert set(report["left_out"]["next_item"]) <= {NO_JUDGED, "no movie in the history that may be shown"}
    one = np.array(["test"] * ITEMS, dtype="<U10")
    one[int(ratings.judged.frame.filter(pl.col("user") == 0)["item"][0])] = "train"
    _, report = build_figure1(catalog, one, ["next_item"], ratings=Ratings(
        ratings.history, ratings.judged, {"next_item": np.array(["test"] * USERS)}
    ))  # fmt: skip
    assert report["left_out"]["next_item"][FEW_CANDIDATES] >= 1


def test_bad_requests(catalog: ItemCatalog, split: np.ndarray) -> None:
    with pytest.raises(ValueError, match="unknown task 'poem'; choose from long_summary"):
        build_figure1(catalog, split, ["poem"])
    with pytest.raises(ValueError, match="rating reads ratings"):
        build_figure1(catalog, split, ["rating"])
    with pytest.raises(ValueError, match="genome_tags reads genome scores"):
        build_figure1(catalog, split, ["genome_tags"])


VIEWERS = Typical(3.5, {"France": 0.1})


def rated(genre: str, rating: float, count: int, **more: object) -> list[tuple[Traits, float]]:
    films = [Item(0, str(k), f"T{k}", 1975, (genre,), **more) for k in range(count)]  # type: ignore[arg-type]
    return [(traits, rating) for traits in Traits.of_all(films)]


@pytest.mark.parametrize("key", ["a", "b", "c", "d", "e"])
def test_a_profile_tells_what_is_liked_and_what_not(key: str) -> None:
    history = rated("Crime", 5, 12, directors=("Jane Roe",)) + rated("Comedy", 1, 10) + rated("Drama", 3, 30)
    text = write_profile(history, VIEWERS, key)
    assert text is not None
    assert text == write_profile(history, VIEWERS, key)
    assert mentions(text)["genres"] == {"Crime", "Comedy", "Drama"}
    assert mentions(text)["decades"] == {"1970s"}
    assert text.index("rama") < text.index("rime") < text.index("omedies")
    assert "Jane Roe" in text
    assert all(sentence[0].isupper() for sentence in text.rstrip(".").split(". "))


def test_a_profile_follows_the_order_of_the_ratings() -> None:
    history = rated("Crime", 5, 8) + rated("Horror", 2, 8)
    turned = [(traits, 7 - rating) for traits, rating in history]
    text, other = (write_profile(rows, VIEWERS, "k") or "" for rows in (history, turned))
    assert text.lower().rindex("horror") > text.lower().rindex("crime")
    assert other.lower().rindex("crime") > other.lower().rindex("horror")


LEVELS = {0.5: ("low marks", "strict judge"), 1.0: (), 1.3: ("high marks", "generous judge")}


@pytest.mark.parametrize("level", LEVELS)
def test_the_level_of_the_ratings_is_told_beside_other_viewers(level: float) -> None:
    history = [(traits, rating * level) for traits, rating in rated("Crime", 4, 8) + rated("Horror", 3, 8)]
    text = write_profile(history, VIEWERS, "k") or ""
    told = {other for other, words in LEVELS.items() if any(word in text for word in words)}
    assert told == ({level} if LEVELS[level] else set())


def test_foreign_films_are_told_where_they_are_more_than_usual() -> None:
    history = rated("Drama", 4, 6, countries=("France",)) + rated("Drama", 4, 6, countries=("United States",))
    assert "ften watches French films" in (write_profile(history, Typical(4.0, {"France": 0.1}), "k") or "")
    assert "French" not in (write_profile(history, Typical(4.0, {"France": 0.4}), "k") or "")


def test_few_films_give_no_profile() -> None:
    assert write_profile(rated("Drama", 4, 2), VIEWERS, "k") is None
    assert write_profile([], VIEWERS, "k") is None


def test_other_viewers_are_measured() -> None:
    found = Typical.of(rated("Drama", 4, 3, countries=("France",)) + rated("War", 2, 1, countries=("United States",)))
    assert found == Typical(3.5, {"France": 0.75})
    assert Typical.of([]).mean == 0


@pytest.mark.parametrize("key", ["a", "b", "c", "d", "e", "f", "g", "h"])
def test_the_teachers_profile_is_read_as_it_was_meant(key: str) -> None:
    history = rated("Crime", 5, 12, directors=("Jane Roe",)) + rated("Comedy", 1, 10) + rated("Drama", 3, 30)
    taste = read_taste(write_profile(history, VIEWERS, key) or "")
    assert "Crime" in taste.liked
    assert "Comedy" in taste.disliked
    crime, comedy = history[0][0], history[15][0]
    assert preference(taste, crime) > preference(taste, Traits(("War",), (), (), ())) > preference(taste, comedy)
    praised, other = Traits(("War",), (), ("Jane Roe",), ()), Traits(("War",), (), ("John Doe",), ())
    assert preference(taste, praised) > preference(taste, other) == 0


def test_a_text_without_opinion_prefers_nothing() -> None:
    for text in ("", "Mostly watches dramas of the 1990s.", "nonsense"):
        assert preference(read_taste(text), Traits(("Drama",), ("1990s",), (), ())) == 0


@pytest.mark.parametrize(
    "names",
    [
        ("Samuel L. Jackson", "William H. Macy"), ("J. J. Abrams",), ("M.C. Gainey", "F. Murray Abraham"),
        ("Robert Downey Jr.", "Dr. Dre"), ("Harry Connick Jr.",), ("Éric É. Rohmer", "St. Vincent"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("end", ["", "."])
def test_a_name_with_initials_is_read_whole(names: tuple[str, ...], end: str) -> None:
    who = " and ".join(names)
    # as a model writes it, and as the rules do: with a mark of its own after that of a name
    mark = end if who.endswith(".") else "."
    taste = read_taste(f"Likes crime films best. Admires {who}{mark} Is hardest on comedies. Mostly watches dramas.")
    assert taste.praise == f"Likes crime films best. Admires {who}{mark}"
    assert (taste.liked, taste.disliked) == ({"Crime"}, {"Comedy"})
    assert all(preference(taste, Traits((), (), (name,), ())) > 0 for name in names)
