"""Readers of the MovieLens releases in CSV files: latest-small, and 25M with its tag genome."""

import logging
from dataclasses import replace
from pathlib import Path

import polars as pl

from ilm_lightning.data.dataset import Dataset, assemble_numbered
from ilm_lightning.data.files import Column, existing, read_columns
from ilm_lightning.data.genome import GenomeScores, read_genome, read_genome_tags
from ilm_lightning.data.movielens import CLOSED_TERMS, NUMBER, SECONDS, SHARED_TERMS, STARS, movie_table
from ilm_lightning.data.tables import ItemCatalog
from ilm_lightning.data.tags import TagSettings, best_user_tags

log = logging.getLogger(__name__)

GENERATED = "generated.json"
"""Beside files that were made up to test scale: their name then says so."""
RATINGS_25M = 25_000_095
_RATINGS = {"userId": NUMBER, "movieId": NUMBER, "rating": STARS, "timestamp": SECONDS}
_MOVIES = {"movieId": NUMBER, "title": Column(pl.String), "genres": Column(pl.String)}
_LINKS = {"movieId": NUMBER, "imdbId": Column(pl.String)}
_TAGS = {"userId": NUMBER, "movieId": NUMBER, "tag": Column(pl.String)}


def read_ml_latest_small(folder: Path, settings: TagSettings | None = None) -> Dataset:
    """Read ml-latest-small (or another release in its format): ratings.csv, movies.csv, and tags.csv where present.

    Args:
        folder: the unpacked archive.
        settings: which tags become text.

    Returns:
        100,836 ratings, 610 users, 9,742 movies (release of 2018).

    Raises:
        DataError: a missing file or column, or a broken row by its line.
    """
    return _read(folder, "ml-latest-small", SHARED_TERMS, settings or TagSettings(), genome=False)


def read_ml_25m(folder: Path, settings: TagSettings | None = None) -> Dataset:
    """Read ml-25m with user tags and tag genome.

    Args:
        folder: the unpacked archive, or files of the same format.
        settings: which tags become text.

    Returns:
        25,000,095 ratings, 162,541 users, 62,423 movies; genome scores of 13,816 movies.

    Raises:
        DataError: a missing file or column, or a broken row by its line.
    """
    dataset = _read(folder, "ml-25m", CLOSED_TERMS, settings or TagSettings(), genome=True)
    found = len(dataset.interactions)
    if found != RATINGS_25M and not (folder / GENERATED).is_file():
        log.warning(
            "%s: %d ratings, MovieLens 25M has %d: another release, or a file that was cut", folder, found, RATINGS_25M
        )
    return dataset


def read_imdb_ids(folder: Path) -> dict[str, str]:
    """Read links.csv.

    Args:
        folder: the unpacked archive.

    Returns:
        Movie id -> IMDb id as "tt0114709"; empty where the release has no links.csv.

    Raises:
        DataError: a missing column, or a broken row by its line.
    """
    path = folder / "links.csv"
    if not path.is_file():
        return {}
    links = read_columns(path, _LINKS).drop_nulls()
    return {str(movie): f"tt{imdb.zfill(7)}" for movie, imdb in links.iter_rows()}


def _read(folder: Path, name: str, terms: str, settings: TagSettings, genome: bool) -> Dataset:
    ratings, movies = existing(folder, "ratings.csv"), existing(folder, "movies.csv")
    table = read_columns(movies, _MOVIES)
    items = movie_table([(str(i), title, None, (genres or "").split("|")) for i, title, genres in table.iter_rows()])
    if settings.per_item and (folder / "tags.csv").is_file():
        # the genome's own words tell the genome, whoever wrote them
        hidden = genome and not settings.genome_in_text
        leave_out = frozenset(read_genome_tags(folder)["tag"]) if hidden else frozenset()
        best = best_user_tags(read_columns(folder / "tags.csv", _TAGS), settings.per_item, leave_out)
        best = best.select(pl.col("movieId").cast(pl.String).alias("item_id"), "tags")
        items = items.join(best, on="item_id", how="left", maintain_order="left")
    events = read_columns(ratings, _RATINGS).rename({"userId": "user", "movieId": "item"})
    if (folder / GENERATED).is_file():
        name = f"{name} (generated)"
        log.warning("%s: %s says that these ratings are made up; numbers from them are no results", folder, GENERATED)
    dataset = assemble_numbered(events, items, ratings, name, terms)
    return _with_genome(dataset, folder, settings) if genome else dataset


def _with_genome(dataset: Dataset, folder: Path, settings: TagSettings) -> Dataset:
    scores = read_genome(folder, dataset.catalog.frame["item_id"])
    catalog = dataset.catalog
    if settings.genome_in_text and settings.genome_per_item:
        catalog = _with_genome_tags(catalog, scores, settings)
    return replace(dataset, catalog=catalog, genome=scores)


def _with_genome_tags(catalog: ItemCatalog, scores: GenomeScores, settings: TagSettings) -> ItemCatalog:
    best = scores.best(settings.genome_per_item, settings.genome_min_relevance).rename({"item": "index"})
    frame = catalog.frame.drop("genome_tags").join(best, on="index", how="left", maintain_order="left")
    return ItemCatalog(frame)
