"""Raw interactions to OpenP5's sequences: the 5-core, in order of time."""

import gzip
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from ilm_lightning.data.delimited import BROKEN
from ilm_lightning.data.errors import DataError
from ilm_lightning.data.files import UNREADABLE, first_line
from ilm_lightning.data.openp5.sequences import FILES, MIN_ITEMS, Sequences, read_sequences

log = logging.getLogger("ilm_lightning")
EVENT = ["user", "item", "rating", "timestamp"]


def source_file(folder: Path) -> Path:
    """Find what sequences are made of: OpenP5's own file, or else raw interactions.

    Raises:
        DataError: neither is there.
    """
    for pattern in (*FILES, *RAW):
        found = sorted(path for path in folder.glob(pattern) if path.is_file())
        if len(found) > 1:
            raise DataError(f"{folder}: several files of interactions ({', '.join(p.name for p in found)}); keep one")
        if found:
            return found[0]
    raise DataError(
        f"{folder}: {FILES[0]} is missing; a data set in OpenP5's format has it there. It is also made of raw "
        f"interactions: {', '.join(RAW)}"
    )


def open_sequences(folder: Path, name: str) -> Sequences:
    """Read OpenP5's sequences or, where a folder has none, make them of its raw interactions.

    Args:
        folder: a data set in OpenP5's format, or as it was published: MovieLens 100K or 1M, Amazon's reviews of 2014.
        name: as it stands in prompts.

    Raises:
        DataError: neither is there, or the file is broken.
    """
    path = source_file(folder)
    if path.name in FILES:
        return read_sequences(folder, name)
    reader = next(reader for pattern, reader in RAW.items() if path.match(pattern))
    return sequences_from_events(_checked(reader(path), path), name)


def _fields(separator: str, columns: list[str]) -> Callable[[Path], pl.DataFrame]:
    """A reader of lines without header."""

    def read(path: Path) -> pl.DataFrame:
        try:
            return pl.read_csv(
                path, separator=separator, has_header=False, new_columns=columns, infer_schema=False, quote_char=None
            ).select(EVENT)
        except UNREADABLE as error:
            wanted = separator.join(columns).replace("\t", "<tab>").replace(" ", "")
            raise DataError(f"{path}: not readable as lines of {wanted} ({first_line(error)})") from error

    return read


def _reviews(path: Path) -> pl.DataFrame:
    """Amazon's reviews: a JSON object a line."""
    names = ("reviewerID", "asin", "overall", "unixReviewTime")
    rows: list[list[str]] = []
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                review = json.loads(line)
                rows.append([str(review[name]) for name in names])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}, line {len(rows) + 1}: no review with {', '.join(names)} ({error!r})") from error
    except BROKEN as error:
        raise DataError(f"{path}: not readable ({error}); fetch the file again") from error
    return pl.DataFrame(rows, schema=dict.fromkeys(EVENT, pl.String), orient="row")


def _checked(events: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Times as numbers."""
    typed = events.with_columns(pl.col("timestamp").cast(pl.Int64, strict=False))
    wrong = typed.with_row_index().filter(pl.any_horizontal(pl.col("user", "item", "timestamp").is_null()))
    if len(wrong):
        number = int(wrong["index"][0])
        raise DataError(
            f"{path}, line {number + 1}: {', '.join(map(str, events.row(number)))} is no user, item, rating and time "
            "in seconds; use the file as it was published"
        )
    return typed


_MOVIELENS_1M = _fields(":", ["user", " ", "item", "  ", "rating", "   ", "timestamp"])
RAW: dict[str, Callable[[Path], pl.DataFrame]] = {
    "u.data": _fields("\t", EVENT),
    "ratings.dat": _MOVIELENS_1M,
    "ratings.reconstructed.dat.gz": _MOVIELENS_1M,
    "reviews_*_5.json.gz": _reviews,
    "reviews_*_5.json": _reviews,
    "ratings_*.csv": _fields(",", EVENT),
}
"""Raw interactions by file name: MovieLens 100K and 1M, Amazon's reviews and ratings of 2014."""


def k_core(events: pl.DataFrame, k: int = 5) -> pl.DataFrame:
    """Drop users and items with fewer than ``k`` events until none is left.

    Args:
        events: columns ``user`` and ``item``.
        k: the least number of events of each.

    Returns:
        The events that stay, in their order.
    """
    while True:
        kept = events.filter((pl.len().over("user") >= k) & (pl.len().over("item") >= k))
        if len(kept) == len(events):
            return kept
        events = kept


def sequences_from_events(events: pl.DataFrame, name: str, k: int = 5) -> Sequences:
    """Order raw events by time and keep the k-core, as OpenP5's preprocessing does.

    Equal timestamps of a user keep the order of the raw file (OpenP5's own sort is unstable, so its order within equal
    timestamps cannot be had again from raw files).

    Args:
        events: columns ``user``, ``item`` and ``timestamp``, one row an interaction; a repeated pair counts once, at
            its first time.
        name: the data set's name.
        k: of the k-core.

    Returns:
        The sequences, users in order of their first event; marked as ordered otherwise than OpenP5's.

    Raises:
        DataError: a missing column, an empty cell, or nothing left of the k-core.
    """
    missing = [column for column in ("user", "item", "timestamp") if column not in events.columns]
    if missing:
        raise DataError(f"{name}: column {missing[0]!r} is missing; sequences need user, item and timestamp")
    empty = [column for column in ("user", "item", "timestamp") if events[column].null_count()]
    if empty:
        raise DataError(f"{name}: column {empty[0]!r} has empty cells; take those rows out")
    rows = events.select("user", "item", "timestamp").sort("timestamp", maintain_order=True)
    rows = rows.unique(["user", "item"], keep="first", maintain_order=True)
    kept = k_core(rows, max(k, MIN_ITEMS))
    if kept.is_empty():
        raise DataError(f"{name}: no user and item with at least {max(k, MIN_ITEMS)} events each; use more data")
    order = kept.select("user").unique(maintain_order=True).with_row_index("rank")
    kept = kept.join(order, on="user", maintain_order="left").sort("rank", maintain_order=True)
    users, lengths = kept["rank"].rle().struct.unnest().get_columns()[::-1]
    items = kept.select("item").unique(maintain_order=True).with_row_index("row")
    values = kept.join(items, on="item", maintain_order="left")["row"].to_numpy().astype(np.int32)
    times, ends = kept["timestamp"].to_numpy(), np.cumsum(lengths.to_numpy())
    names = dict(zip(order["rank"].to_list(), order["user"].cast(pl.String).to_list(), strict=True))
    return Sequences(
        name,
        [names[rank] for rank in users.to_list()],
        items["item"].cast(pl.String).to_list(),
        np.concatenate([[0], ends]).astype(np.int64),
        values,
        reconstructed=True,
        tied=times[ends - 1] == times[ends - 2],
    )


def with_ties(sequences: Sequences, folder: Path | None) -> Sequences:
    """Look up in raw interactions which users' last two items have the same time.

    Args:
        sequences: of the same users and items, with the raw file's ids.
        folder: may hold raw interactions beside the item texts, as MovieLens 100K and 1M do.

    Returns:
        The sequences with `Sequences.tied`; as they are where the order of equal times is OpenP5's own, no raw
        interactions are there, or these do not know each user's last two items.

    Raises:
        DataError: the raw file is broken.
    """
    if not sequences.reconstructed or sequences.tied is not None or folder is None or not folder.is_dir():
        return sequences
    found = [(path, reader) for pattern, reader in RAW.items() for path in sorted(folder.glob(pattern))]
    if not found:
        return sequences
    path, reader = found[0]
    times = _checked(reader(path), path).unique(["user", "item"], keep="first").select("user", "item", "timestamp")
    last = [
        pl.DataFrame(
            {"user": sequences.user_ids, "item": [sequences.item_ids[row] for row in sequences.targets(split)]}
        ).join(times, on=["user", "item"], how="left", maintain_order="left")["timestamp"]
        for split in ("test", "validation")
    ]
    if unknown := max(column.null_count() for column in last):
        log.info("prepare   %s does not know the last items of %d users: ties at the end are not told", path, unknown)
        return sequences
    return replace(sequences, tied=(last[0] == last[1]).to_numpy())


def write_sequences(sequences: Sequences, folder: Path) -> Path:
    """Write ``user_sequence.txt`` in OpenP5's format.

    Returns:
        The file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "user_sequence.txt"
    with path.open("w", encoding="utf-8") as out:
        for user, user_id in enumerate(sequences.user_ids):
            out.write(" ".join([user_id, *(sequences.item_ids[row] for row in sequences.items(user))]) + "\n")
    return path
