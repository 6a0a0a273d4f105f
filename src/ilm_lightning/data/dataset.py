"""Interactions and catalogue together, and how readers put them together from raw rows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from ilm_lightning.data.delimited import broken_cell, place
from ilm_lightning.data.errors import DataError
from ilm_lightning.data.files import UNREADABLE, distinct, first_line, rows_of
from ilm_lightning.data.genome import GenomeScores
from ilm_lightning.data.order import ORDER, in_time_order
from ilm_lightning.data.tables import Interactions, ItemCatalog

EVENT_COLUMNS = ("user", "item", "rating", "timestamp")


@dataclass(frozen=True)
class Dataset:
    """What a reader returns.

    Attributes:
        interactions: who interacted with what, ordered by user, time, item and rating.
        catalog: the items; every index of the interactions is a row of it.
        name: name of the data, as printed beside numbers.
        terms: the licence or terms of use, one sentence.
        report: counts collected on the way (films found in the facts, items dropped...).
        genome: relevance of the genome's tags, for data that has a tag genome.
    """

    interactions: Interactions
    catalog: ItemCatalog
    name: str
    terms: str
    report: Mapping[str, int] = field(default_factory=dict)
    genome: GenomeScores | None = None


def assemble(events: pl.LazyFrame, items: pl.DataFrame, source: Path, name: str, terms: str) -> Dataset:
    """Turn raw rows into a `Dataset`.

    Ids become indices while the events stream, so the strings of a large file are never all in memory.

    Args:
        events: columns user, item (any type), and rating, timestamp (string or number; may be absent).
        items: columns of the catalogue, at least ``item_id`` and ``title``. Items that occur in the events alone
            are appended without text.
        source: the interactions file, for messages.
        name: name of the data.
        terms: terms of use.

    Returns:
        The data, events ordered by user and time.

    Raises:
        DataError: no events, an empty id, a rating or timestamp that is not a number, duplicate item ids.
    """
    events = _typed_events(events, source)
    users = _collect(events.select("user").unique(), source)["user"]
    rated = _collect(events.group_by("item").len(), source)
    if users.len() == 0:
        raise DataError(f"{source}: no interactions; the file needs one row per user and item")
    if users.null_count() or rated["item"].null_count():
        column = "user" if users.null_count() else "item"
        where = place(source, _row_of(events, pl.col(column).is_null(), source))
        gaps = f"column {column!r} has empty cells, the first in {where}"
        raise DataError(f"{source}: {gaps}; every interaction needs its {column}")
    catalog, extra = _catalog(items, rated, source)
    user_ids = _in_id_order(users)
    user_index = pl.LazyFrame({"user": user_ids}).with_row_index("u")
    item_index = catalog.frame.lazy().select(pl.col("index").alias("i"), pl.col("item_id").alias("item"))
    indexed = events.join(user_index, on="user").join(item_index, on="item")
    columns = (pl.col("u").alias("user"), pl.col("i").alias("item"), "rating", "timestamp")
    frame = _collect(indexed.select(*columns), source).sort(*ORDER)
    interactions = Interactions(frame, user_ids.to_list(), len(catalog))
    report = {"interactions_read": len(interactions), "items_read": items.height, "items_not_described": extra}
    return Dataset(interactions, catalog, name, terms, report)


def assemble_numbered(events: pl.DataFrame, items: pl.DataFrame, source: Path, name: str, terms: str) -> Dataset:
    """Do as `assemble` does with rows whose ids are numbers, already typed: faster, and in less memory.

    Args:
        events: columns user, item (UInt32), rating (Float32), timestamp (Int64), none empty.
        items: as for `assemble`; every ``item_id`` is a whole number.
        source: the interactions file, for messages.
        name: name of the data.
        terms: terms of use.

    Returns:
        The data, events ordered by user and time.

    Raises:
        DataError: no events, no event of a known item, duplicate item ids.
    """
    if events.height == 0:
        raise DataError(f"{source}: no interactions; the file needs one row per user and item")
    users, _ = distinct(events["user"])
    rated = pl.DataFrame(dict(zip(("item", "len"), distinct(events["item"]), strict=True)))
    catalog, extra = _catalog(items, rated.with_columns(pl.col("item").cast(pl.String)), source)
    frame = pl.DataFrame(
        {
            "user": rows_of(events["user"], users),
            "item": rows_of(events["item"], catalog.frame["item_id"].cast(pl.UInt32)),
            "rating": events["rating"],
            "timestamp": events["timestamp"],
        }
    )
    frame = in_time_order(frame)
    interactions = Interactions(frame, users.cast(pl.String).to_list(), len(catalog))
    report = {"interactions_read": len(interactions), "items_read": items.height, "items_not_described": extra}
    return Dataset(interactions, catalog, name, terms, report)


def _catalog(items: pl.DataFrame, rated: pl.DataFrame, source: Path) -> tuple[ItemCatalog, int]:
    """The catalogue with its counts, and how many items occur in the events alone.

    Args:
        items: columns of the catalogue.
        rated: columns item (text) and len, the rated items.
        source: the interactions file, for messages.
    """
    known = items.with_columns(pl.col("item_id").cast(pl.String)).drop("n_ratings", strict=False)
    described = rated["item"].is_in(known["item_id"].to_list())
    if not described.any():
        ids = f"{str(rated['item'][0])!r} there, {str(known['item_id'].first())!r} here"
        raise DataError(f"{source}: no item of it occurs in the items file ({ids}); use the same ids in both")
    extra = _in_id_order(rated["item"].filter(~described))
    known = pl.concat([known, pl.DataFrame({"item_id": extra})], how="diagonal_relaxed")
    counts = rated.select(pl.col("item").alias("item_id"), pl.col("len").alias("n_ratings"))
    return ItemCatalog(known.join(counts, on="item_id", how="left", maintain_order="left")), len(extra)


def _typed_events(events: pl.LazyFrame, source: Path) -> pl.LazyFrame:
    """Ids to strings, ratings and timestamps to numbers."""
    have = _columns(events, source)
    for column in ("rating", "timestamp"):
        if column not in have:
            events = events.with_columns(pl.lit(None, dtype=pl.Float64).alias(column))
    number = {c: pl.col(c).cast(pl.String).str.strip_chars().cast(pl.Float64, strict=False) for c in EVENT_COLUMNS[2:]}
    for column, value in number.items():
        if column not in have:
            continue
        text = pl.col(column).cast(pl.String)
        wrong = (text.str.strip_chars() != "") & ~value.is_finite().fill_null(False)
        first = _collect(events.filter(wrong).select(text).head(1), source)
        if first.height:
            raise DataError(broken_cell(source, _row_of(events, wrong, source), column, first.item(), "a number"))
    ids = (pl.col(c).cast(pl.String).str.strip_chars().replace("", None) for c in EVENT_COLUMNS[:2])
    rating = number["rating"].cast(pl.Float32).fill_null(float("nan"))
    timestamp = number["timestamp"].fill_null(0).cast(pl.Int64)
    return events.select(*ids, rating.alias("rating"), timestamp.alias("timestamp"))


def _row_of(events: pl.LazyFrame, wanted: pl.Expr, source: Path) -> int:
    """The first row of which something is true; counted only where there is one, since counting costs time."""
    return int(_collect(events.with_row_index("row").filter(wanted).select("row").head(1), source).item())


def _columns(events: pl.LazyFrame, source: Path) -> list[str]:
    try:
        return events.collect_schema().names()
    except UNREADABLE as error:
        raise DataError(f"{source}: not readable ({first_line(error)})") from error


def _collect(frame: pl.LazyFrame, source: Path) -> pl.DataFrame:
    """Run a query in bounded memory; a broken file is named."""
    try:
        result: Any = frame.collect(engine="streaming")
    except UNREADABLE as error:
        raise DataError(f"{source}: not readable ({first_line(error)})") from error
    assert isinstance(result, pl.DataFrame)
    return result


def _in_id_order(ids: pl.Series) -> pl.Series:
    """Sort ids as numbers where they are, then as text, so that an index does not depend on the order of reading."""
    frame = pl.DataFrame({"id": ids.cast(pl.String)})
    number = pl.col("id").cast(pl.Int64, strict=False)
    return frame.sort(number, "id", nulls_last=True)["id"]
