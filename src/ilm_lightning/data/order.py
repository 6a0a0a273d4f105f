"""Events ordered by time and searched for repetitions, a few users at a time: what fits the cache sorts fast."""

from collections.abc import Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

ROWS = 200_000
ORDER = ("user", "timestamp", "item", "rating")
Uints = NDArray[np.unsignedinteger]


def whole_users(users: Uints, rows: int | None = None) -> Iterator[tuple[int, int]]:
    """Cut events into pieces that never divide a user.

    Args:
        users: [N] ascending.
        rows: least length of a piece, but for the last; None takes `ROWS`.

    Yields:
        First row, and row after the last.

    >>> list(whole_users(np.array([0, 0, 0, 1, 2], dtype=np.uint32), rows=2))
    [(0, 3), (3, 5)]
    """
    rows, start = rows or ROWS, 0
    while start < len(users):
        end = min(start + rows, len(users))
        end = int(np.searchsorted(users, users[end - 1], side="right"))
        yield start, end
        start = end


def in_time_order(events: pl.DataFrame) -> pl.DataFrame:
    """Order events by user, time, item and rating.

    Args:
        events: columns user, item (UInt32), rating (Float32), timestamp (Int64).

    Returns:
        The same rows.
    """
    columns = {name: events[name].to_numpy() for name in events.columns}
    users, items, times = columns["user"], columns["item"], columns["timestamp"]
    if len(users) == 0 or not _ascending(users, items):
        return events.sort(*ORDER)
    # Ordered by user and item as releases are, so that a row's place settles the order of equal times: user, time and
    # place go into one number, and sorting numbers is several times as fast as sorting rows.
    first = int(times.min())
    time_bits = (int(times.max()) - first).bit_length()
    moved = {name: np.empty_like(column) for name, column in columns.items() if name != "user"}
    for start, end in whole_users(users):
        place_bits = (end - start).bit_length()
        if int(users[end - 1] - users[start]).bit_length() + time_bits + place_bits > 64:
            return events.sort(*ORDER)
        keys = (users[start:end] - users[start]).astype(np.uint64) << np.uint64(time_bits + place_bits)
        keys |= (times[start:end] - first).astype(np.uint64) << np.uint64(place_bits)
        keys |= np.arange(end - start, dtype=np.uint64)
        keys.sort()
        places = (keys & np.uint64(2**place_bits - 1)).astype(np.int64)
        for name, column in moved.items():
            np.take(columns[name][start:end], places, out=column[start:end])
    return events.with_columns(pl.Series(name, column) for name, column in moved.items())


def has_repeats(events: pl.DataFrame) -> bool:
    """Tell whether a user has two events with one item.

    Args:
        events: columns user (ascending) and item.
    """
    users, items = events["user"].to_numpy(), events["item"].to_numpy()
    for start, end in whole_users(users):
        pairs = _pairs(users[start:end], items[start:end])
        pairs.sort()
        if (pairs[1:] == pairs[:-1]).any():
            return True
    return False


def _pairs(users: Uints, items: Uints) -> NDArray[np.uint64]:
    pairs: NDArray[np.uint64] = (users.astype(np.uint64) << np.uint64(32)) | items
    return pairs


def _ascending(users: Uints, items: Uints) -> bool:
    """Whether events are ordered by user and item, each pair once."""
    for start in range(0, len(users) - 1, ROWS):
        pairs = _pairs(users[start : start + ROWS + 1], items[start : start + ROWS + 1])
        if not (pairs[1:] > pairs[:-1]).all():
            return False
    return True
