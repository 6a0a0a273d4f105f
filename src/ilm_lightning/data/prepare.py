"""From what a reader returns to what training uses: one event per pair, no rarely rated items, dense indices."""

import logging
from dataclasses import replace

import polars as pl

from ilm_lightning.data.dataset import Dataset
from ilm_lightning.data.errors import DataError
from ilm_lightning.data.tables import Interactions, ItemCatalog

log = logging.getLogger(__name__)
FEWEST_ITEMS = 2
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
    read = dataset.interactions.frame
    # Of equal times the higher rating wins, so that the result does not depend on the order of the file.
    events = read.sort("user", "item", "timestamp", "rating").unique(["user", "item"], keep="last", maintain_order=True)
    counts = events.group_by("item").agg(pl.len().cast(pl.Int32).alias("n_ratings")).rename({"item": "index"})
    items = dataset.catalog.frame.drop("n_ratings").join(counts, on="index", how="left", maintain_order="left")
    kept = items.with_columns(pl.col("n_ratings").fill_null(0)).filter(pl.col("n_ratings") >= min_ratings)
    if kept.height < FEWEST_ITEMS:
        raise DataError(
            f"{name}: {kept.height} of {items.height} items have at least {min_ratings} ratings; "
            "lower data.min_ratings or bring more interactions"
        )
    catalog = ItemCatalog(kept.drop("index"))
    interactions = _reindexed(events, kept, dataset.interactions.user_ids)
    report = {**dataset.report, **_counts(dataset, events, interactions, catalog)}
    dropped = report["items_dropped"]
    log.info("%s: %d of %d items left out, fewer than %d ratings", name, dropped, items.height, min_ratings)
    if report["repeated_pairs"]:
        log.info("%s: %d repeated ratings of one item by one user, the latest kept", name, report["repeated_pairs"])
    if report["items_without_text"]:
        log.info("%s: %d items have no text; kept, without item-text pairs", name, report["items_without_text"])
    return replace(dataset, interactions=interactions, catalog=catalog, report=report)


def _reindexed(events: pl.DataFrame, kept: pl.DataFrame, user_ids: list[str]) -> Interactions:
    """Events of the kept items, with items and users counted from 0 again."""
    rows = kept.select(pl.col("index").alias("item")).with_row_index("row")
    events = events.join(rows, on="item").select("user", pl.col("row").alias("item"), "rating", "timestamp")
    users = events.select("user").unique().sort("user").with_row_index("u")
    events = events.join(users, on="user").select(pl.col("u").alias("user"), "item", "rating", "timestamp")
    names = [user_ids[user] for user in users["user"]]
    return Interactions(events.sort("user", "timestamp", "item"), names, kept.height)


def _counts(dataset: Dataset, unique: pl.DataFrame, after: Interactions, catalog: ItemCatalog) -> dict[str, int]:
    before = dataset.interactions
    counts = {
        "items": len(catalog),
        "users": after.n_users,
        "interactions": len(after),
        "items_dropped": len(dataset.catalog) - len(catalog),
        "users_dropped": before.n_users - after.n_users,
        "repeated_pairs": len(before) - unique.height,
        "items_without_text": sum(not item.has_text for item in catalog),
    }
    counts |= {f"items_with_{name}": sum(bool(getattr(i, name)) for i in catalog) for name in FACTS}
    # A score of 0 % is a fact too.
    counts["items_with_critic_score"] = catalog.frame["critic_score"].drop_nulls().len()
    counts["items_with_oscar_nomination"] = int((catalog.frame["oscar_nominations"] > 0).sum())
    return counts
