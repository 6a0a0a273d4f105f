"""Genome tags on real scores: the movies of a MovieLens sample that have a complete genome; needs ILM_DATA."""

import os
from pathlib import Path

import polars as pl
import pytest

from ilm_lightning.data.judged import set_judged_apart, user_ratings
from ilm_lightning.data.load import load_dataset
from ilm_lightning.data.prepare import prepare
from ilm_lightning.data.splits import split_items, split_keys
from ilm_lightning.data.tags import TagSettings
from ilm_lightning.tasks.figure1 import USER_TASKS, Ratings, build_figure1

FOLDER = Path(os.environ.get("ILM_DATA", "/nowhere"))
SAMPLE, TAGS = FOLDER / "ml-latest-2023-sample", FOLDER / "ml-25m" / "genome-tags.csv"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (SAMPLE.is_dir() and TAGS.is_file()), reason="ILM_DATA holds no ml-latest-2023-sample and ml-25m"
    ),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("ml-25m")
    for name in ("movies", "ratings", "tags", "genome-scores"):
        pl.read_parquet(SAMPLE / f"{name}.parquet").drop_nulls().write_csv(made / f"{name}.csv")
    (made / "genome-tags.csv").symlink_to(TAGS)
    return made


def test_real_genome_tags_and_users(folder: Path) -> None:
    hidden = TagSettings(genome_in_text=False)
    dataset = prepare(load_dataset("ml_25m", {"ratings": folder}, tags=hidden), min_ratings=5)
    assert dataset.genome is not None
    names = set(dataset.genome.tags)
    catalog = dataset.catalog
    assert not names & set(catalog.frame["tags"].explode().drop_nulls())
    parts = set_judged_apart(dataset.interactions)
    judged = dict(parts.judged.frame.group_by("user").len().iter_rows())
    assert min(judged.values()) >= 3
    assert max(judged.values()) == 10
    for user in user_ratings(parts.history, parts.judged):
        assert len(user.items) >= 4 * len(user.judged)
    split = split_items(catalog)
    users = split_keys(f"user {key}" for key in parts.history.user_ids)
    frame, report = build_figure1(
        catalog,
        split,
        ["genome_tags", "rating", "next_item", "user_profile"],
        genome=dataset.genome,
        ratings=Ratings(parts.history, parts.judged, dict.fromkeys(USER_TASKS, users)),
    )
    assert report["examples"]["genome_tags"] > 50
    heat = catalog.find("Heat (1995)")
    tags = frame.filter((pl.col("task") == "genome_tags") & (pl.col("about") == heat))["target"].item().split(", ")
    assert "heist" in tags
    # its genres, and in its texts
    assert {"action", "crime", "thriller"}.isdisjoint(tags)
    profiles = frame.filter(pl.col("task") == "user_profile")["target"]
    assert profiles.n_unique() > 0.95 * len(profiles)
    assert (profiles.str.len_chars() > 40).all()
