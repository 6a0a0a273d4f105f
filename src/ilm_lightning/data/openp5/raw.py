"""Raw interactions to OpenP5's sequences: the 5-core, in order of time."""

from pathlib import Path

import numpy as np
import polars as pl

from ilm_lightning.data.errors import DataError
from ilm_lightning.data.openp5.sequences import MIN_ITEMS, Sequences


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
        The sequences, users in order of their first event.

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
    names = dict(zip(order["rank"].to_list(), order["user"].cast(pl.String).to_list(), strict=True))
    return Sequences(
        name,
        [names[rank] for rank in users.to_list()],
        items["item"].cast(pl.String).to_list(),
        np.concatenate([[0], np.cumsum(lengths.to_numpy())]).astype(np.int64),
        values,
    )


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
