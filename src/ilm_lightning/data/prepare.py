"""From what a reader returns to what training uses: one event per pair, no rarely rated items, dense indices."""

import logging
from dataclasses import replace

import numpy as np
import polars as pl

from ilm_lightning.data.dataset import Dataset
from ilm_lightning.data.errors import DataError
from ilm_lightning.data.order import has_repeats
from ilm_lightning.data.tables import Interactions, ItemCatalog

log = logging.getLogger(__name__)
FEWEST_ITEMS = 2
TEXTS = ("title", "genres", "tags", "genome_tags", "text")
FACTS = ("directors", "writers", "cast", "countries", "languages", "studios", "runtime", "critic_score", "certificate")


def prepare(dataset: Dataset, min_ratings: int = 5) -> Dataset:
    """Collapse repeated pairs, leave out items with few ratings, count the rest again.

    Items without text stay: they are counted in one line.

    Args:
        dataset: what a reader returned.
        min_ratings: items with fewer users leave the catalogue; 0 keeps all of them.

    Returns:
        The data with indices renewed; ``report`` says what was dropped and how many items have which fact.

    Raises:
        DataError: fewer than two items or no interaction are left.
    """
    name = dataset.name
    if len(dataset.catalog) < FEWEST_ITEMS:
        raise DataError(f"{name}: {len(dataset.catalog)} item(s); at least two are needed to learn anything")
    events = _latest(dataset.interactions.frame)
    counts = np.bincount(events["item"].to_numpy(), minlength=len(dataset.catalog)).astype(np.int32)
    items = dataset.catalog.frame.with_columns(pl.Series("n_ratings", counts))
    kept = items.filter(pl.col("n_ratings") >= min_ratings)
    if kept.height < FEWEST_ITEMS:
        raise DataError(
            f"{name}: {kept.height} of {items.height} items have at least {min_ratings} ratings; "
            "lower data.min_ratings or bring more interactions"
        )
    catalog = ItemCatalog(kept.drop("index"))
    interactions = _reindexed(events, kept, items.height, dataset.interactions.user_ids)
    report = {**dataset.report, **_counts(dataset, events, interactions, catalog)}
    dropped = report["items_dropped"]
    log.info("%s: %d of %d items left out, fewer than %d ratings", name, dropped, items.height, min_ratings)
    if report["repeated_pairs"]:
        log.info("%s: %d repeated ratings of one item by one user, the latest kept", name, report["repeated_pairs"])
    if report["items_without_text"]:
        log.info("%s: %d items have no text; kept, without item-text pairs", name, report["items_without_text"])
    genome = None if dataset.genome is None else dataset.genome.reindexed(kept["index"])
    return replace(dataset, interactions=interactions, catalog=catalog, report=report, genome=genome)


def _latest(events: pl.DataFrame) -> pl.DataFrame:
    """One event per user and item; events come and stay in the order of user, time, item and rating."""
    if not has_repeats(events):
        return events
    # Of equal times the higher rating wins, so that the result does not depend on the order of the file.
    return events.unique(["user", "item"], keep="last", maintain_order=True)


def _reindexed(events: pl.DataFrame, kept: pl.DataFrame, n_items: int, user_ids: list[str]) -> Interactions:
    """Events of the kept items, with items and users counted from 0 again."""
    rows = np.full(n_items, -1, dtype=np.int32)
    rows[kept["index"].to_numpy()] = np.arange(kept.height, dtype=np.int32)
    item = pl.Series("item", rows[events["item"].to_numpy()])
    events = events.with_columns(item).filter(item >= 0)
    there = np.bincount(events["user"].to_numpy(), minlength=len(user_ids)) > 0
    user = pl.Series("user", (np.cumsum(there, dtype=np.int32) - 1)[events["user"].to_numpy()])
    names = [name for name, stays in zip(user_ids, there, strict=True) if stays]
    # neither renumbering changes the order
    return Interactions(events.with_columns(user), names, kept.height)


def _counts(dataset: Dataset, unique: pl.DataFrame, after: Interactions, catalog: ItemCatalog) -> dict[str, int]:
    before = dataset.interactions
    counts = {
        "items": len(catalog),
        "users": after.n_users,
        "interactions": len(after),
        "items_dropped": len(dataset.catalog) - len(catalog),
        "users_dropped": before.n_users - after.n_users,
        "repeated_pairs": len(before) - unique.height,
    }
    frame = catalog.frame
    has_text = pl.any_horizontal(_filled(frame[name]).alias(name) for name in TEXTS)
    counts["items_without_text"] = int((~frame.select(has_text).to_series()).sum())
    for name in (*FACTS, "tags", "genome_tags"):
        counts[f"items_with_{name}"] = int(_filled(frame[name]).sum())
    counts["items_with_oscar_nomination"] = int((frame["oscar_nominations"] > 0).sum())
    return counts


def _filled(column: pl.Series) -> pl.Series:
    """Which cells say something: a list that is not empty, a text, a number (0 too)."""
    if column.dtype == pl.List:
        return column.list.len() > 0
    return column.is_not_null() & (column.cast(pl.String) != "").fill_null(value=False)
