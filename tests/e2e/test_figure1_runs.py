"""The tasks of Figure 1 and user profiles through the train command, on tiny models."""

import json
import random
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from test_pipeline import checked, run

from ilm_lightning.data.errors import DataError, LeakError
from ilm_lightning.data.tables import Interactions
from ilm_lightning.embeddings.vectors import ItemVectors
from ilm_lightning.engine.pipeline import open_context
from ilm_lightning.engine.stages.data import prepare, read_tables
from ilm_lightning.engine.stages.embed import embed
from ilm_lightning.engine.stages.figure1 import JUDGED, assert_judged_unseen
from ilm_lightning.engine.validate import ConfigError

QUICK = [
    "tuning.steps=2",
    "tuning.val_every=2",
    "tuning.val_examples=4",
    "evaluation.movies=3",
    "tasks.user_history=3",
    "evaluation.max_new_tokens=4",
]


def test_all_tasks_of_one_command(shared_overrides: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    conditions = "evaluation.conditions=[own,shuffled,hard_shuffled,constant,knn_copy,blind,title]"
    objective, folder = run(["experiment=ilm_qformer_random", "tasks=figure1", conditions, *shared_overrides, *QUICK])
    metrics = json.loads((folder / "metrics.json").read_text())
    assert set(metrics["tasks"]) == {"long_summary", "user_profile"}
    assert objective == metrics["all"]["sc"]["own"]
    found = metrics["figure1"]
    assert set(found) == {"rating", "next_item", "user_profile"}
    assert {"own", "shuffled", "blind", "title", "user_mean", "item_mean"} <= set(found["rating"]["measures"]["mae"])
    assert {"own", "shuffled", "blind"} <= set(found["rating"]["measures"]["rmse_expected"])
    ranks = found["next_item"]["measures"]["mrr"]
    assert {"own", "shuffled", "blind", "popularity", "last_item", "als", "chance"} <= set(ranks)
    assert all(0 < value <= 1 for value in ranks.values())
    for measure in ("bc", "bc_facts"):
        assert {"own", "target", "popularity", "constant"} <= set(found["user_profile"]["measures"][measure])
    for row in found.values():
        low, mean, high = (row["differences"]["shuffled"][key] for key in ("low", "mean", "high"))
        assert low <= mean <= high
    table = pl.read_parquet(folder / "predictions.parquet")
    own = table.filter(pl.col("condition") == "own")
    # each movie and each user once a task
    assert own.group_by("task").agg(pl.col("movie").n_unique() == pl.len())["movie"].all()
    assert (
        own.filter(pl.col("task").is_in(["rating", "next_item"]))["sc"].null_count()
        == own.filter(pl.col("task").is_in(["rating", "next_item"])).height
    )
    # the title stands beside the slot of a long summary, and nowhere else
    assert own.filter(pl.col("task") == "long_summary")["prompt"].str.contains("Film number").all()
    assert not own.filter(pl.col("task") != "long_summary")["prompt"].str.contains("Film number").any()
    screen = capsys.readouterr().err
    for title in ("Rating of an item", "Next item", "User profile"):
        assert title in screen


@pytest.mark.parametrize(
    ("task", "rule"),
    [
        ("next_item", "strict"),
        pytest.param("rating", "strict", marks=pytest.mark.slow),
        pytest.param("next_item", "paper", marks=pytest.mark.slow),
        pytest.param("next_item", "cold", marks=pytest.mark.slow),
    ],
)
def test_a_run_without_prose(task: str, rule: str, shared_overrides: list[str]) -> None:
    more = [f"tasks.names=[{task}]", "evaluation.conditions=[own]", "evaluation.losses=false", f"data.split={rule}"]
    objective, folder = run(["experiment=ilm_mlp", *more, *shared_overrides, *QUICK])
    metrics = json.loads((folder / "metrics.json").read_text())
    measures = metrics["figure1"][task]["measures"]
    assert objective == (-measures["mae"]["own"] if task == "rating" else measures["mrr"]["own"])
    assert metrics["all"] == {}
    card = (folder / "model" / "README.md").read_text()
    assert f"| {task}, " in card


@pytest.mark.parametrize("task", ["rating", pytest.param("user_profile", marks=pytest.mark.slow)])
def test_one_task_with_every_default(task: str, shared_overrides: list[str]) -> None:
    objective, folder = run(["experiment=ilm_mlp", f"tasks.names=[{task}]", *shared_overrides, *QUICK])
    metrics = json.loads((folder / "metrics.json").read_text())
    assert np.isfinite(objective)
    assert set(metrics["tasks"]) == ({task} if task != "rating" else set())


@pytest.mark.slow
def test_tasks_of_both_kinds_mix(shared_overrides: list[str]) -> None:
    more = ["tasks.names=[summary,why_like_nn,rating]", "evaluation.losses=false"]
    _, folder = run(["experiment=ilm_mlp", *more, *shared_overrides, *QUICK])
    metrics = json.loads((folder / "metrics.json").read_text())
    assert set(metrics["tasks"]) == {"summary", "why_like_nn"}
    assert set(metrics["figure1"]) == {"rating"}


def vectors_of(overrides: list[str]) -> tuple[ItemVectors, Interactions, Interactions]:
    context = open_context(checked(overrides))
    prepared = prepare(context)
    interactions, _, _ = read_tables(prepared)
    embedded = embed(context, prepared)
    return ItemVectors.load(embedded.path), interactions, Interactions.read(prepared.path / JUDGED)


def test_judged_ratings_are_in_no_vector(
    tiny_overrides: list[str], own_data: tuple[Path, Path], tmp_path: Path
) -> None:
    overrides = ["tasks=figure1", *tiny_overrides]
    vectors, history, judged = vectors_of(overrides)
    assert len(judged) == 40 * 4
    assert len(history) == 40 * 16
    assert judged.frame.join(history.frame, on=["user", "item"], how="semi").is_empty()
    latest = history.frame.group_by("user").agg(pl.col("timestamp").max().alias("last"))
    assert (judged.frame.join(latest, on="user")["timestamp"] > judged.frame.join(latest, on="user")["last"]).all()

    # other values and other movies under the judged ratings: not a bit of any vector moves
    header, *rows = own_data[0].read_text().splitlines()
    seen: dict[str, set[str]] = {}
    for row in rows:
        seen.setdefault(row.split(",")[0], set()).add(row.split(",")[1])
    lines = [header]
    for row in rows:
        user, item, rating, time = row.split(",")
        if int(time) >= 1016:
            item = next(f"m{k}" for k in range(60) if f"m{k}" not in seen[user])
            seen[user].add(item)
            rating = str(6 - int(rating))
        lines.append(f"{user},{item},{rating},{time}")
    events = tmp_path / "events.csv"
    events.write_text("\n".join(lines) + "\n")
    other = [x for x in overrides if not x.startswith("data.interactions")] + [f"data.interactions={events}"]
    again, kept, rejudged = vectors_of(other)
    assert kept.frame.equals(history.frame)
    assert rejudged.frame.join(judged.frame, on=["user", "item"], how="semi").is_empty()
    for name in vectors.sources:
        assert np.array_equal(vectors.sources[name], again.sources[name])
        assert np.array_equal(vectors.user_sources[name], again.user_sources[name])

    with pytest.raises(LeakError, match="1 judged ratings are among the interactions"):
        assert_judged_unseen(
            Interactions(pl.concat([history.frame, judged.frame.head(1)]), history.user_ids, history.n_items), judged
        )


@pytest.mark.parametrize(
    ("column", "tasks", "message"),
    [
        ("rating", "[rating]", "rating: 800 of 800 interactions of events have no rating value"),
        ("rating", "[user_profile]", "user_profile: 800 of 800"),
        ("timestamp", "[next_item]", "next_item: all interactions of events have the same time"),
    ],
)
def test_missing_columns_are_told_before_vectors_are_made(
    column: str, tasks: str, message: str, tiny_overrides: list[str], own_data: tuple[Path, Path], tmp_path: Path
) -> None:
    events = tmp_path / "events.csv"
    pl.read_csv(own_data[0]).drop(column).write_csv(events)
    other = [x for x in tiny_overrides if not x.startswith("data.interactions")] + [f"data.interactions={events}"]
    with pytest.raises(DataError, match=message):
        run([f"tasks.names={tasks}", *other])
    assert not list((tmp_path / "artifacts").glob("embed/*/manifest.json"))


def test_users_of_one_split_alone_are_told_and_nothing_is_trained(shared_overrides: list[str]) -> None:
    with pytest.raises(DataError, match=r"rating: no (train|test) example could be made.*a larger tasks\.users"):
        run(["experiment=ilm_mlp", "tasks.names=[summary,rating]", "tasks.users=1", *shared_overrides, *QUICK])


@pytest.fixture
def genome_folder(tmp_path: Path) -> Path:
    """A folder in the format of ml-25m with invented movies, ratings, tags and genome."""
    folder, draw = tmp_path / "ml-25m", random.Random(1)
    folder.mkdir()
    genres = ("Drama", "Comedy", "Crime", "War")
    tags = [*(f"tag {chr(97 + k)}" for k in range(16)), *(genre.lower() for genre in genres)]
    movies = [f"{i},Film number {i} ({1950 + i % 50}),{draw.choice(genres)}|{draw.choice(genres)}" for i in range(60)]
    scores = [f"{i},{t + 1},{draw.random():.3f}" for i in range(50) for t in range(20)]
    ratings = [f"{u},{i},{draw.randint(1, 5)}.0,{1000 + k}" for u in range(40) for k, i in enumerate(
        draw.sample(range(60), 20))]  # fmt: skip
    given = [f"{draw.randint(0, 39)},{i},{draw.choice([*tags, 'not in the genome'])},5" for i in range(60)]
    for name, header, rows in (
        ("movies.csv", "movieId,title,genres", movies),
        ("ratings.csv", "userId,movieId,rating,timestamp", ratings),
        ("tags.csv", "userId,movieId,tag,timestamp", given),
        ("links.csv", "movieId,imdbId,tmdbId", [f"{i},{i},{i}" for i in range(60)]),
        ("genome-tags.csv", "tagId,tag", [f"{k + 1},{tag}" for k, tag in enumerate(tags)]),
        ("genome-scores.csv", "movieId,tagId,relevance", scores),
    ):
        (folder / name).write_text("\n".join([header, *rows]) + "\n")
    return folder


def test_genome_tags(genome_folder: Path, tiny_overrides: list[str]) -> None:
    others = [x for x in tiny_overrides if not x.startswith("data")]
    data = ["data=ml_25m", f"data.path={genome_folder}", "data.film_facts=false"]
    more = ["experiment=ilm_mlp", *data, *others, *QUICK, "evaluation.losses=false"]
    _, folder = run(["tasks=genome", *more])
    found = json.loads((folder / "metrics.json").read_text())["figure1"]["genome_tags"]
    assert set(found["measures"]) == {"f1", "precision", "recall", "known"}
    assert {"own", "shuffled", "constant", "knn_copy", "popular"} <= set(found["measures"]["f1"])
    assert found["measures"]["known"]["knn_copy"] == 1
    items = pl.read_parquet(folder / "items" / "items.parquet")
    held = set(items["tags"].explode().drop_nulls()) | set(items["genome_tags"].explode().drop_nulls())
    assert held == {"not in the genome"}
    # what the texts hold all the same, a movie's genres, is not asked for
    catalog = {row["item_id"]: row["genres"] for row in items.iter_rows(named=True)}
    (examples,) = (Path(folder).parents[1] / "artifacts" / "tasks").glob("*/examples.parquet")
    asked = pl.read_parquet(examples).select(pl.col("example_id").str.split(":").list.last(), "target").rows()
    assert len(asked) > 40
    assert all({genre.lower() for genre in catalog[item]}.isdisjoint(target.split(", ")) for item, target in asked)
    with pytest.raises(ConfigError, match=r"set data\.genome_in_text=false"):
        run(["tasks.names=[genome_tags]", *more])


def test_genome_tags_need_a_genome(tiny_overrides: list[str]) -> None:
    with pytest.raises(ConfigError, match="data=custom has no genome scores; take data=ml_25m"):
        run(["tasks=genome", *tiny_overrides])
